"""What every test of Cassandra needs around it."""

from __future__ import annotations

import pytest

from wallet_gql.testing.servers.cassandra_jars import jars, java
from wallet_gql.testing.servers.process import ServerMissing


def need_server() -> None:
    """Skip, with the reason, where no Cassandra can be started."""
    try:
        java()
        jars()
    except ServerMissing as missing:
        pytest.skip(str(missing))  # the server cannot be started here; CI forbids skips
