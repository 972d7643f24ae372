"""The state machine on backends with servers: drawn commands, alone and in crowds, are answered as the model says."""

import pytest

from wallet_gql.testing.machine import run_machine
from wallet_gql.testing.servers.process import ServerMissing

ON_SERVERS = [
    pytest.param(name, marks=pytest.mark.backend(name)) for name in ("postgres", "postgres-3", "redis-3", "mongodb")
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_SERVERS)
def test_machine_on_servers(name: str) -> None:
    """Every answer is the model's, through restarts and kills of the server."""
    try:
        run_machine(name, examples=5, steps=20)
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.backend("mongodb")
def test_machine_on_mongodb_for_long() -> None:
    """Hundreds of random examples."""
    run_machine("mongodb", examples=200, steps=60)
