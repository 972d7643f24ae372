"""SQLite keeps every promise."""

from wallet_gql.testing.conformance import StoreConformance


class TestSqlite(StoreConformance):
    """`sqlite:///file`."""

    backend = "sqlite"
