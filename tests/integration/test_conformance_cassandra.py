"""Cassandra keeps every promise, in one partition and in sixteen, on a real node."""

import pytest

from wallet_gql.testing.conformance import Guarantees, Races, StoreConformance


class TestCassandra(StoreConformance):
    """One partition: one register decides everything."""

    backend = "cassandra"


@pytest.mark.trial
class TestCassandraSixteen(Guarantees, Races):
    """Sixteen partitions: intents for credits."""

    backend = "cassandra-16"


@pytest.mark.soak
class TestCassandraSixteenWhole(StoreConformance):
    """All of it."""

    backend = "cassandra-16"
