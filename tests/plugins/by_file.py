"""Which worker runs which tests: a file's tests run on one worker, and all that need Cassandra on one, too.

A worker starts the servers that its tests need. Those of Cassandra take a minute of a processor until they are warm,
so one worker begins with all tests of Cassandra, which are the longest piece of a run. Property tests come last, one by
one, for they need no servers: the workers end together.

The Makefile loads this plugin (`-p tests.plugins.by_file`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

CASSANDRA: Final = "cassandra"


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Hands files out in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid)


def piece(nodeid: str) -> str:
    """The name of the piece of the run that a test belongs to."""
    if CASSANDRA in nodeid.lower():
        return CASSANDRA
    file = nodeid.partition("::")[0]
    return nodeid if file.startswith("tests/property/") else file


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those that need Cassandra first."""
    items.sort(key=lambda item: piece(item.nodeid) != CASSANDRA)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """In place of pytest-xdist's own."""
    config.option.loadscopereorder = False
    return ByFile(config, log)
