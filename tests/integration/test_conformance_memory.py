"""The reference model keeps every promise, as one node and as three."""

import pytest

from wallet_gql.testing.conformance import StoreConformance


@pytest.mark.smoke
class TestMemory(StoreConformance):
    """`memory://`."""

    backend = "memory"


class TestMemoryOfThreeNodes(StoreConformance):
    """`memory://?nodes=3`: users on different nodes, credits that cross."""

    backend = "memory-3"


class TestMemoryOfThreeNodesLate(StoreConformance):
    """`memory://?nodes=3&late=7`: some credits arrive after the answer; all are pending for a while."""

    backend = "memory-3-late"
