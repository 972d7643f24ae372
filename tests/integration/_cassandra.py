"""What every test of Cassandra needs around it."""

from __future__ import annotations

from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.servers.cassandra_jars import jars, java


def need_server() -> None:
    """Skip, with the reason, where no Cassandra can be started."""
    with server_or_skip():
        java()
        jars()
