"""What a request costs before it runs: the number of members that its largest answer may have, and its filter's work.

The unit is that of GraphQL (`graphql.cost`). Both spend the same budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Protocol, get_args, get_origin

from pydantic import BaseModel

from ..catalogue.operations import FILTER_COST, HASHING, LIST_SIZE, PASSWORD_COST

_SIZE: Final = "first"
_FILTERS: Final = ("kind", "since", "until")

Sizes = tuple[tuple[str, int], ...]


class Priced(Protocol):
    """What is needed of an operation."""

    @property
    def name(self) -> str:
        """Its name in the catalogue."""

    @property
    def answers(self) -> Mapping[HTTPStatus, type[BaseModel] | None]:
        """What it may be answered with."""


def cost_of(operation: Priced, query: BaseModel | None) -> int:
    """What a request of an operation costs that has this query."""
    given = {} if query is None else dict(query)
    sizes = tuple((name, value) for name, value in given.items() if type(value) is int)
    filtered = FILTER_COST if any(given.get(name) for name in _FILTERS) else 0
    work = 1 + filtered + (PASSWORD_COST if operation.name in HASHING else 0)
    return work + max((_members(model, sizes) for model in operation.answers.values() if model is not None), default=0)


@cache
def _members(model: type[BaseModel], sizes: Sizes) -> int:
    """How many members an answer has at most; a list is as long as the query says under its name, or else `first`."""
    known = dict(sizes)
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
