"""What a request costs before it runs: the number of members that its largest answer may have, and its filter's work.

The unit is that of GraphQL (`graphql.cost`). Both spend the same budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Protocol, get_args, get_origin

from pydantic import BaseModel

from ...domain.money import EXPONENTS
from ...verbs.summary import GROUPS_MAX
from ..catalogue.operations import FILTER_COST, HASHING, LIST_SIZE, PASSWORD_COST
from .values import Given

_SIZE: Final = "first"
_FILTERS: Final = frozenset(
    ("kind", "since", "until", "state", "counterparty", "reference", "min_minor_units", "max_minor_units")
)
_WORK: Final = {
    "listHistory": 200,
    "readStatement": 200,
    "exportStatement": 200,
    "readSummary": 2_500,
    "preview": 50,
}
"""The additional cost of operations that read more than they return."""
_LENGTHS: Final = {"groups": GROUPS_MAX, "currencies": len(EXPONENTS)}
"""Lists with a known greatest length."""

Sizes = tuple[tuple[str, int], ...]


class Priced(Protocol):
    """What is needed of an operation."""

    @property
    def name(self) -> str:
        """Its name in the catalogue."""

    @property
    def models(self) -> Mapping[HTTPStatus, type[BaseModel]]:
        """What it may be answered with."""


def cost_of(operation: Priced, given: Given | None) -> int:
    """What a request of an operation costs that has this body or query."""
    sizes = () if given is None else tuple(given.sizes().items())
    is_list = operation.name.startswith("list")
    is_filtered = is_list and given is not None and not _FILTERS.isdisjoint(given.model_fields_set)
    work = 1 + _WORK.get(operation.name, 0) + (PASSWORD_COST if operation.name in HASHING else 0)
    work += FILTER_COST if is_filtered else 0
    return work + max((_members(model, sizes) for model in operation.models.values()), default=0)


@cache
def _members(model: type[BaseModel], sizes: Sizes) -> int:
    """How many members an answer has at most; a list is as long as the query says under its name, or else `first`."""
    known = {**_LENGTHS, **dict(sizes)}
    total = 0
    for name, field in model.model_fields.items():
        inner = [_members(kind, sizes) for kind in _models(field.annotation)]
        is_list = any(get_origin(kind) is list for kind in (field.annotation, *get_args(field.annotation)))
        length = known.get(name, known.get(_SIZE, LIST_SIZE)) if is_list else 1
        total += 1 + length * max(inner, default=0)
    return total


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [found for part in get_args(kind) for found in _models(part)]
