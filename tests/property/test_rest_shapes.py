"""Whatever shape an input of REST has, what is wrong with it is told by a reason of the list."""

from __future__ import annotations

from typing import Any, Final

import pytest

from wallet_gql.domain.errors import InvalidAmount, InvalidInput, Problem, reasons
from wallet_gql.domain.words import Worded
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.rest.values import Given, read

MODELS: Final = {model.__name__: model for one in OPERATIONS for model in (one.body, one.query) if model is not None}
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "x", "x" * 300, "0", "101", "99999999999999999999"),
    *([], [1], ["x"], [{}] * 101, {}, {"x": 1}, {"minorUnits": None, "currency": 1}),
)


@pytest.mark.parametrize("name", MODELS)
def test_every_shape_has_its_reason(name: str) -> None:
    """Every member wrong in every way, all at once: each problem has a path, and a reason that is no fallback."""
    model, found = MODELS[name], 0
    members = [field.alias or member for member, field in model.model_fields.items()]
    for value in VALUES:
        found += len(_problems(model, {**dict.fromkeys(members, value), "nothing": value}))
    assert found >= len(VALUES) - 2
    required = {field.alias or member for member, field in model.model_fields.items() if field.is_required()}
    assert {path for path, reason in _problems(model, {}) if reason == "MISSING"} == {(one,) for one in required}


PAYING: Final = [name for name, model in MODELS.items() if model.model_fields.get("amount", None) is not None]
"""The bodies of requests that move one amount."""


@pytest.mark.parametrize("name", PAYING)
def test_a_wrong_amount_is_told_where_it_stands(name: str) -> None:
    """Beside all else that is wrong, such as its currency; in a batch with the place of the item."""
    wrong = {"amount": {"minorUnits": "-4", "currency": "EUX"}}
    told = {("amount", "minorUnits"): "AMOUNT_POSITIVE", ("amount", "currency"): "CURRENCY"}
    found = dict(_problems(MODELS[name], wrong))
    assert {path: found.get(path) for path in told} == told
    batch = dict(_problems(MODELS["TransferBatch"], {"items": [{}, wrong]}))
    assert {path: batch.get(("items", "1", *path)) for path in told} == told


def _problems(model: type[Given], values: dict[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """The path and reason of each problem."""
    wrong: tuple[Problem, ...] = ()
    try:
        read(model, values)
    except InvalidInput as error:
        wrong = error.problems
    assert all(isinstance(one.message, Worded) and one.path for one in wrong)
    assert all((one.code == InvalidAmount.code) == one.reason.startswith("AMOUNT_") for one in wrong)
    assert reasons.SHAPE.code not in {one.reason for one in wrong}
    return [(one.path, one.reason) for one in wrong]
