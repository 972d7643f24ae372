"""Cassandra keeps every promise, in one partition and in sixteen, on a real node."""

import pytest

from wallet_gql.testing.conformance import Guarantees, Races, Reversals, StoreConformance


class TestCassandra(StoreConformance):
    """One partition: one register decides everything. Each race is run once, and more often in the soak."""

    backend = "cassandra"
    rounds = 1


@pytest.mark.trial
class TestCassandraSixteen(Guarantees, Races):
    """Sixteen partitions: intents for credits. Its races are run less often than in the soak."""

    backend = "cassandra-16"
    rounds = 1


@pytest.mark.soak
class TestCassandraSixteenWhole(StoreConformance):
    """All of it."""

    backend = "cassandra-16"


@pytest.mark.soak
class TestCassandraRaces(Races, Reversals):
    """One partition, each race five times."""

    backend = "cassandra"
