"""Records to plain JSON values and back, with a format version: for receipts, exports and document stores.

A record becomes `{"field": value}` with times as integer microseconds since 1970 (UTC) and enums as their text. Fields
at their default are left out, so that a new field with a default reads old data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeVar, get_type_hints

from .errors import InvariantViolated
from .model import EPOCH, Account, Entry, Hold, Receipt, Record, SystemEntry, Transfer

FORMAT: Final = 1
"""The version of this format; an importer refuses others."""

KINDS: Final[dict[str, type]] = {
    "account": Account,
    "entry": Entry,
    "system_entry": SystemEntry,
    "transfer": Transfer,
    "hold": Hold,
    "receipt": Receipt,
    "record": Record,
}

D = TypeVar("D")
_MICROS: Final = 1_000_000
"""Microseconds in a second."""


def to_micros(at: datetime) -> int:
    """A UTC time as whole microseconds since 1970."""
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * _MICROS + since.microseconds


@lru_cache(maxsize=1_024)
def from_micros(micros: int) -> datetime:
    """The UTC time of whole microseconds since 1970."""
    return EPOCH + timedelta(0, 0, micros)  # a keyword argument would take twice as long


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    options = [option for option in getattr(hint, "__args__", (hint,)) if option is not type(None)]
    if options == [datetime]:
        return from_micros
    if len(options) == 1 and isinstance(options[0], type) and issubclass(options[0], StrEnum):
        return options[0]
    return None


_Plan = tuple[tuple[Field[Any], Callable[[Any], Any] | None], ...]
_plans: dict[type, _Plan] = {}


def _plan(kind: type[Any]) -> _Plan:
    if kind not in _plans:
        hints = get_type_hints(kind)
        _plans[kind] = tuple((field, _reader(hints[field.name])) for field in fields(kind))
    return _plans[kind]


def encode(record: object) -> dict[str, Any]:
    """Any record of the model as plain JSON values."""
    plain: dict[str, Any] = {}
    for field, _ in _plan(record.__class__):
        value = getattr(record, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        if isinstance(value, datetime):
            value = to_micros(value)
        plain[field.name] = str(value) if isinstance(value, StrEnum) else value
    return plain


def decode(kind: type[D], plain: dict[str, Any]) -> D:
    """The record that `encode` turned into plain values.

    Raises:
        InvariantViolated: a field is missing or unknown.
    """
    values = dict(plain)
    for field, read in _plan(kind):
        if read is not None and values.get(field.name) is not None:
            values[field.name] = read(values[field.name])
    try:
        return kind(**values)
    except TypeError as error:
        raise InvariantViolated(f"not a stored {kind.__name__}: {error}") from error
