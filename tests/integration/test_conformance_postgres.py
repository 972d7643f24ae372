"""Postgres keeps every promise, on one node and on three."""

import pytest

from wallet_gql.testing.conformance import StoreConformance


@pytest.mark.trial
class TestPostgres(StoreConformance):
    """One node: local transactions."""

    backend = "postgres"


class TestPostgresThree(StoreConformance):
    """Three nodes: two-phase commit."""

    backend = "postgres-3"
