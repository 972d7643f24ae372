"""The state machine on backends with servers: drawn commands, alone and in crowds, are answered as the model says."""

import pytest

from wallet_gql.testing.conformance import MachineConformance
from wallet_gql.testing.machine import run_machine


@pytest.mark.soak
class TestPostgres(MachineConformance):
    """One node: three nodes have its code and more."""

    backend = "postgres"


@pytest.mark.trial
class TestPostgresThree(MachineConformance):
    """Three nodes."""

    backend = "postgres-3"


@pytest.mark.trial
class TestRedisThree(MachineConformance):
    """Three nodes and leases."""

    backend = "redis-3"


@pytest.mark.trial
class TestMongo(MachineConformance):
    """One member."""

    backend = "mongodb"


@pytest.mark.trial
class TestCassandra(MachineConformance):
    """One partition; few examples, for a node takes long to start again."""

    backend = "cassandra"
    examples = 2


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.backend(name)) for name in ("mongodb", "cassandra", "cassandra-16")],
)
def test_machine_on_a_server_for_long(backend: str) -> None:
    """Hundreds of random examples."""
    run_machine(backend, examples=200, steps=60)
