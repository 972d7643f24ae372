"""Money is integer minor units with an ISO 4217 currency: there is no float anywhere.

Source of the codes and exponents: ISO 4217, list one (active codes), maintained by SIX Interbank Clearing.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import InvalidAmount, InvalidInput
from .frozen import frozen

AMOUNT_MAX_MINOR: Final = 10**15
"""The largest amount one command may move, in minor units (ten trillion euros in cents)."""

BALANCE_MAX_MINOR: Final = 2**63 - 1
"""The largest balance a store can hold: a signed 64-bit integer."""

_TWO_DIGITS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP "
    "CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES "
    "KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK "
    "NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
    "TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"

EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
}
"""The number of decimal digits of each currency's minor unit: EUR 2, JPY 0, KWD 3."""

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
        raise InvalidInput("currency", f"{code[:12]!r} is not an active ISO 4217 currency code such as EUR")
    return code


def check_amount(amount_minor: int) -> int:
    """Return `amount_minor` if one command may move it: a whole number from 1 to `AMOUNT_MAX_MINOR`.

    Raises:
        InvalidAmount: zero, negative, above the limit, or not an `int` (a `bool` or `float` is refused).
    """
    if type(amount_minor) is not int:
        raise InvalidAmount(str(amount_minor)[:40], "it must be a whole number of minor units")
    if amount_minor <= 0:
        raise InvalidAmount(str(amount_minor)[:40], "it must be greater than zero")
    if amount_minor > AMOUNT_MAX_MINOR:
        raise InvalidAmount(str(amount_minor)[:40], f"it must not be greater than {AMOUNT_MAX_MINOR} minor units")
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
        raise InvalidAmount(text[:40], "write plain digits with a point, such as 12.30")
    fraction = match["fraction"] or ""
    if len(fraction) > exponent:
        raise InvalidAmount(text[:40], f"{currency} has {exponent} digits after the point")
    try:
        return check_amount(int(match["whole"] + fraction.ljust(exponent, "0")))
    except InvalidAmount as error:
        raise InvalidAmount(text[:40], str(error.fields["reason"])) from None


def format_decimal(amount_minor: int, currency: str) -> str:
    """Convert minor units to decimal text with exactly the currency's digits: (1230, EUR) -> `12.30`."""
    exponent = EXPONENTS[currency]
    sign = "-" if amount_minor < 0 else ""
    digits = str(abs(amount_minor)).rjust(exponent + 1, "0")
    if exponent == 0:
        return sign + digits
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}"
