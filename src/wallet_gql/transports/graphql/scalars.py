"""Scalars: a 64-bit integer that survives JavaScript, and the currency code."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NewType

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)
CurrencyCode = NewType("CurrencyCode", str)

_DIGITS: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_MIN: Final = -(2**63)
_MAX: Final = 2**63 - 1


def parse_big_int(value: object) -> int:
    """An int, or text of digits with an optional minus sign, within 64 bits.

    Raises:
        GraphQLError: anything else: a float, a bool, an exponent, too many digits.
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        raise GraphQLError(f"BigInt takes a whole number, as an integer or as text of digits, not {_shown(value)}.")
    if not _MIN <= value <= _MAX:
        raise GraphQLError(f"BigInt takes 64 bits, {_MIN} to {_MAX}, not {_shown(value)}.")
    return value


def parse_currency(value: object) -> str:
    """Text; whether it is a currency is the ledger's answer.

    Raises:
        GraphQLError: anything else.
    """
    if not isinstance(value, str):
        raise GraphQLError(f"CurrencyCode takes text such as EUR, not {_shown(value)}.")
    return value


def parse_datetime(value: object) -> datetime:
    """A time with its offset from UTC.

    Raises:
        GraphQLError: anything else.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # not a time, or one outside the years of UTC
        pass
    raise GraphQLError(f"DateTime takes text such as 2026-11-22T14:20:00Z, not {_shown(value)}.")


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
            "refused."
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
