"""Fields that are read along paths: a plan makes no object where none is needed, and answers as graphql-core does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest
import strawberry
from graphql import parse

from wallet_gql.graphql_plans import Inputs, Plan, along, made_along

MADE: Final[list[str]] = []
"""The classes of the objects that were made, in order."""


@dataclass
class Row:
    """What everything is read from."""

    amount: Any = 5
    unit: str = "EUR"
    title: Any = "tea"


@strawberry.type
class Amount:
    """An object with plain attributes, and one resolver."""

    number: int
    unit: str

    def __post_init__(self) -> None:
        MADE.append("Amount")

    @strawberry.field
    def shown(self) -> str:
        """Needs the object."""
        return f"{self.number} {self.unit}"


AMOUNT: Final = {"number": "row.amount", "unit": "row.unit"}


@strawberry.type
class Deed:
    """An object whose fields are read from its row."""

    id: strawberry.ID
    row: strawberry.Private[Row]
    title: str = strawberry.field(resolver=along("row.title"))
    amount: Amount = strawberry.field(resolver=made_along(Amount, AMOUNT))

    def __post_init__(self) -> None:
        MADE.append("Deed")

    @strawberry.field
    async def later(self) -> int | None:
        """Needs the object, and is awaited."""
        return int(self.row.amount)


@strawberry.type
class Line:
    """What a list has many of."""

    row: strawberry.Private[Row]
    deed: Deed = strawberry.field(resolver=made_along(Deed, {"id": "row.unit", "row": "row", "row.title": "row.title"}))
    maybe: Deed | None = strawberry.field(resolver=made_along(Deed, {"id": "row.unit", "row": "row"}))


ROWS: Final[list[Row]] = []


@strawberry.type
class Query:
    """Where it begins."""

    lines: list[Line | None] = strawberry.field(resolver=lambda: [Line(row=row) for row in ROWS])


SCHEMA: Final = strawberry.Schema(Query)


async def both(text: str) -> tuple[tuple[Any, list[str]], tuple[Any, list[str]], list[str]]:
    """The data and the errors by graphql-core, those by a plan, and the objects that the plan made."""
    expected = await SCHEMA.execute(text)
    plan = Plan(SCHEMA, Inputs(SCHEMA), parse(text), None).prepare({})
    MADE.clear()
    got = await plan.run()
    told = [(result.data, sorted(str(error) for error in result.errors or ())) for result in (expected, got)]
    return told[0], told[1], list(MADE)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("deed { title amount { number } }", []),
        ("deed { __typename id again: title amount { __typename unit number } }", []),
        ("maybe { title amount { number } } deed { id }", []),
        ("deed { amount { shown } }", ["Deed", "Amount"]),
        ("deed { title later }", ["Deed"]),
        ("deed { title ...on Deed { amount { number } } } maybe { later title }", ["Deed"]),
    ],
)
async def test_objects_are_made_where_they_are_needed(text: str, made: list[str]) -> None:
    """Only there; the answer is the same in any case."""
    ROWS[:] = [Row(), Row(7, "USD", "biscuits")]
    expected, got, objects = await both(f"{{ lines {{ {text} }} }}")
    assert got == expected
    assert got[0]["lines"][1]
    assert objects == made * 2


@pytest.mark.parametrize("count", [1, 8, 11, 15, 33])
@pytest.mark.parametrize("around", ["", "later id again: id more: title "])
async def test_however_much_is_asked_for(count: int, around: str) -> None:
    """What is too long for one function is answered with objects, at every depth."""
    ROWS[:] = [Row(), Row(7, "USD", "biscuits")]
    many = " ".join(f"a{place}: amount {{ number unit }}" for place in range(count))
    expected, got, _ = await both(f"{{ lines {{ deed {{ {around}{many} }} maybe {{ {many} }} }} }}")
    assert got == expected
    assert not expected[1]


@pytest.mark.parametrize("title", [None, ValueError("spoilt"), 3.5])
@pytest.mark.parametrize("amount", [None, ValueError("spoilt"), 2**40, "1"])
@pytest.mark.parametrize("field", ["deed", "maybe"])
async def test_what_cannot_be_answered(field: str, amount: Any, title: Any) -> None:
    """Nulls and errors in any place spread as far as without a plan, and are told at the same places."""
    ROWS[:] = [Row(amount), Row(5, "EUR", title), Row(), Row(amount, "EUR", title)]
    for text in ("title amount { number unit }", "amount { unit number } title", "amount { shown number }"):
        expected, got, _ = await both(f"{{ lines {{ {field} {{ {text} }} }} }}")
        assert got == expected, text


async def test_what_a_path_cannot_be() -> None:
    """Paths become text of functions: nothing but names may be in them."""
    for path in ("", "a..b", "a b", "a()", "a[0]", "a\nb"):
        with pytest.raises(ValueError, match="no path"):
            along(path)
        with pytest.raises(ValueError, match="no path"):
            made_along(Amount, {"number": path})
