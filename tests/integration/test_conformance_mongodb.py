"""MongoDB keeps every promise, on a real replica set."""

import pytest

from wallet_gql.testing.conformance import StoreConformance

# The driver forgets to close a socket whose connecting was cancelled by the end of its client.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"),
]


class TestMongo(StoreConformance):
    """One member: every commit in its journal."""

    backend = "mongodb"
