"""Cassandra keeps every promise, in one partition and in sixteen, on a real node."""

from wallet_gql.testing.conformance import StoreConformance


class TestCassandra(StoreConformance):
    """One partition: one register decides everything."""

    backend = "cassandra"


class TestCassandraSixteen(StoreConformance):
    """Sixteen partitions: intents for credits."""

    backend = "cassandra-16"
