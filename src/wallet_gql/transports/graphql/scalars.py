"""Scalars: a 64-bit integer that survives JavaScript, and the currency code.

What was sent in place of a number or a currency is not refused here: the check of its field does it, so that a form
gets all its problems at once, each with its path.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NewType

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from ...graphql_plans import leave_to_json
from ..catalogue.values import moment, whole_number
from .failures import BadRequest

BigInt = NewType("BigInt", int)
CurrencyCode = NewType("CurrencyCode", str)

_MIN: Final = -(2**63)
_MAX: Final = 2**63 - 1


class Unreadable(str):
    """What was sent where a whole number belongs: no check of a number accepts it."""

    __slots__ = ()


def parse_big_int(value: object) -> int | Unreadable:
    """An int, or text of digits with an optional minus sign and no leading zeros, within 64 bits.

    Anything else is unreadable: a float, a bool, an exponent, too many digits.
    """
    number = whole_number(value)
    return Unreadable(_shown(value)) if number is None or not _MIN <= number <= _MAX else number


def refuse_unreadable(name: str, value: object) -> None:
    """Where no check of an input does it. Raises BadRequest."""
    if isinstance(value, Unreadable):
        raise BadRequest(f"{name} must be a whole number of 64 bits, as an integer or as text of digits, not {value}")


def parse_currency(value: object) -> str:
    """Text; whether it is a currency is the ledger's answer."""
    return value if isinstance(value, str) else _shown(value)


def parse_datetime(value: object) -> datetime:
    """A time with its offset from UTC. Raises GraphQLError of anything else."""
    found = moment(value)
    if found is None:
        raise GraphQLError(f"DateTime takes text such as 2026-11-22T14:20:00Z, not {_shown(value)}.")
    return found


@leave_to_json(datetime)
def show_datetime(at: datetime) -> str:
    """The same as `isoformat`, which takes twice as long: a page of history has 50 times."""
    return orjson.dumps(at)[1:-1].decode()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - enough to recognise it


SCALARS: Final[dict[object, ScalarDefinition]] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description=(
            "A whole number of 64 bits. It comes as a string, because JSON numbers above 2^53 lose digits in "
            "JavaScript; it may be sent as a string of digits or as an integer. Fractions, exponents and floats are "
            "refused, in the input of a mutation with `InvalidInput`."
        ),
        specified_by_url="https://scalars.graphql.org/jakobmerrild/long",
        serialize=str,
        parse_value=parse_big_int,
    ),
    CurrencyCode: strawberry.scalar(
        name="CurrencyCode",
        description=(
            "An ISO 4217 currency code in capital letters, such as EUR, JPY or KWD; `Intl.NumberFormat` takes it as "
            "it is. A scalar and not an enum: countries change currencies, and a client built before must still be "
            "able to read a new one. A code that is none is answered with `InvalidInput`."
        ),
        specified_by_url="https://www.iso.org/iso-4217-currency-codes.html",
        serialize=str,
        parse_value=parse_currency,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC, as RFC 3339 writes it: `2026-11-22T14:20:00.123456+00:00`.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339#section-5.6",
        serialize=show_datetime,
        parse_value=parse_datetime,
    ),
}
