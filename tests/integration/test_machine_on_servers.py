"""The state machine on backends with servers: drawn commands, alone and in crowds, are answered as the model says."""

import pytest

from wallet_gql.testing.conformance import MachineConformance
from wallet_gql.testing.machine import run_machine


@pytest.mark.slow
class TestPostgres(MachineConformance):
    """One node."""

    backend = "postgres"


@pytest.mark.slow
class TestPostgresThree(MachineConformance):
    """Three nodes."""

    backend = "postgres-3"


@pytest.mark.slow
class TestRedisThree(MachineConformance):
    """Three nodes and leases."""

    backend = "redis-3"


@pytest.mark.slow
class TestMongo(MachineConformance):
    """One member."""

    backend = "mongodb"


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.backend("mongodb")
def test_machine_on_mongodb_for_long() -> None:
    """Hundreds of random examples."""
    run_machine("mongodb", examples=200, steps=60)
