"""Money is integer minor units with an ISO 4217 currency: there is no float anywhere."""

from __future__ import annotations

import re
from typing import Final

from .currencies import EXPONENTS, format_decimal
from .errors import InvalidAmount, InvalidInput, reasons
from .frozen import frozen

__all__ = [
    "AMOUNT_MAX_MINOR",
    "BALANCE_MAX_MINOR",
    "EXPONENTS",
    "Money",
    "check_amount",
    "check_currency",
    "format_decimal",
    "parse_decimal",
]

AMOUNT_MAX_MINOR: Final = 10**15
"""The largest amount one command may move, in minor units (ten trillion euros in cents)."""

BALANCE_MAX_MINOR: Final = 2**63 - 1
"""The largest balance a store can hold: a signed 64-bit integer."""

_DECIMAL = re.compile(r"(?P<whole>[0-9]{1,19})(?:\.(?P<fraction>[0-9]{1,19}))?", re.ASCII)


@frozen
class Money:
    """An amount of one currency.

    `amount_minor` counts minor units (cents for EUR) and may be negative; `currency` is an ISO 4217 code.
    """

    amount_minor: int
    currency: str

    @property
    def decimal(self) -> str:
        """The amount as decimal text with exactly the currency's digits, for people to read: `12.30`."""
        return format_decimal(self.amount_minor, self.currency)


def check_currency(code: str) -> str:
    """Return `code` if it is an active ISO 4217 currency.

    Raises:
        InvalidInput: the code is not known (codes are upper case: `EUR`).
    """
    if code not in EXPONENTS:
        raise InvalidInput("currency", reasons.CURRENCY(text=repr(code[:12])))
    return code


def check_amount(amount_minor: int) -> int:
    """Return `amount_minor` if one command may move it: a whole number from 1 to `AMOUNT_MAX_MINOR`.

    Raises:
        InvalidAmount: zero, negative, above the limit, or not an `int` (a `bool` or `float` is refused).
    """
    if type(amount_minor) is not int:
        raise InvalidAmount(str(amount_minor)[:40], reasons.AMOUNT_WHOLE())
    if amount_minor <= 0:
        raise InvalidAmount(str(amount_minor)[:40], reasons.AMOUNT_POSITIVE())
    if amount_minor > AMOUNT_MAX_MINOR:
        raise InvalidAmount(str(amount_minor)[:40], reasons.AMOUNT_MAX(most=AMOUNT_MAX_MINOR))
    return amount_minor


def parse_decimal(text: str, currency: str) -> int:
    """Convert decimal text such as `12.30` to minor units, exactly.

    Raises:
        InvalidInput: the currency is unknown.
        InvalidAmount: not plain decimal digits, more fraction digits than the currency has, or out of range.
    """
    exponent = EXPONENTS[check_currency(currency)]
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidAmount(text[:40], reasons.AMOUNT_DIGITS())
    fraction = match["fraction"] or ""
    if len(fraction) > exponent:
        raise InvalidAmount(text[:40], reasons.AMOUNT_EXPONENT(currency=currency, exponent=exponent))
    try:
        return check_amount(int(match["whole"] + fraction.ljust(exponent, "0")))
    except InvalidAmount as error:
        raise InvalidAmount(text[:40], error.reason) from None
