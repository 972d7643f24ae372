"""The public kit for authors of backends: what every backend shares.

Everything that a backend needs from the kit stands in `__all__`; other names of the submodules may change. A backend
subclasses `GroupStore`, loads what `Wanted.of` asks for with `load_found`, and writes `State.writes`. `KINDS` has the
columns of each kind of record.
"""

from .driver_errors import Meaning, store_failed
from .group_commit import BATCH_MAX, Command, Deferred, GroupCommit, LanePolicy
from .group_read import GroupRead
from .imports import completed, sorted_by_node, unknown_accounts
from .kinds import ADDED, KIND_OF, KINDS, SCANNED, Coding, Column, Kind, Row
from .nodes import NodeMap
from .receiving import RECEIVE_MAX
from .store import GroupStore, PageAsked, page_of, start_of
from .versions import NotMigrated, is_due
from .wanted import Wanted, answered, load_found

__all__ = [
    "ADDED",
    "BATCH_MAX",
    "KINDS",
    "KIND_OF",
    "RECEIVE_MAX",
    "SCANNED",
    "Coding",
    "Column",
    "Command",
    "Deferred",
    "GroupCommit",
    "GroupRead",
    "GroupStore",
    "Kind",
    "LanePolicy",
    "Meaning",
    "NodeMap",
    "NotMigrated",
    "PageAsked",
    "Row",
    "Wanted",
    "answered",
    "completed",
    "is_due",
    "load_found",
    "page_of",
    "sorted_by_node",
    "start_of",
    "store_failed",
    "unknown_accounts",
]
