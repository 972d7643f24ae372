"""Redis leases on Postgres nodes keep every promise, on one node and on three."""

import pytest

from wallet_gql.testing.conformance import StoreConformance


@pytest.mark.trial
class TestRedis(StoreConformance):
    """One node: leases, claims, local commits."""

    backend = "redis"


class TestRedisThree(StoreConformance):
    """Three nodes, on which nothing can be prepared: intents for credits."""

    backend = "redis-3"
