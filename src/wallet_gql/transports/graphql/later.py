"""Types that refer to one another in a circle: a transfer has an account, whose history has transfers.

A module names here the types of modules that import it. `found` gives the class once all modules are there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import strawberry
from strawberry.types.lazy_type import LazyType

Later = LazyType[Any, Any]

ACCOUNT: Final = Later("Account", ".accounts", __package__)
HOLD: Final = Later("Hold", ".holds", __package__)
TOP_UP: Final = Later("TopUp", ".payments", __package__)
WITHDRAWAL: Final = Later("Withdrawal", ".payments", __package__)


def later(kind: Later) -> Callable[[Any], Any]:
    """A resolver's decorator: its field is of this type, or null."""
    made: Callable[[Any], Any] = strawberry.field(graphql_type=kind | None)
    return made


@cache
def found(kind: Later) -> Any:
    """The class."""
    return kind.resolve_type()
