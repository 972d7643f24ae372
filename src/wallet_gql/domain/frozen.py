"""The one decorator of records: frozen for type checkers and in tests, plain slots when the wallet runs.

A frozen dataclass sets each field through `object.__setattr__`, which takes four times as long as an assignment. A
payment makes dozens of records, so this took a fifth of its processor time. Assigning to a field is still an error:
mypy refuses it, and with `WALLET_TEST_FROZEN=1` in the environment, as in all tests, Python does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar, dataclass_transform, overload

T = TypeVar("T")

VARIABLE: Final = "WALLET_TEST_FROZEN"

_IS_CHECKED: Final = os.environ.get(VARIABLE) == "1"


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(made: type[T], /) -> type[T]: ...


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]: ...


def frozen(made: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass with slots whose fields are set once. It is compared and hashed by its values."""

    def make(plain: type[T]) -> type[T]:
        return dataclass(frozen=_IS_CHECKED, unsafe_hash=True, slots=True, kw_only=kw_only)(plain)

    return make if made is None else make(made)
