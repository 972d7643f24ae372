"""Which amounts the payment provider accepts for payment and payout: one table, by currency and direction.

An amount that Stripe would refuse is refused here, before money is held and before an idempotency key is used up.

Source: https://docs.stripe.com/currencies, sections "Supported presentment currencies", "Minimum and maximum charge
amounts", "Zero-decimal currencies", "Three-decimal currencies" and "Special cases", as read for `API_VERSION` of
`integrations/stripe/api.py`. Compare the table with the page when the version changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .errors import InvalidAmount, InvalidInput, reasons
from .money import AMOUNT_MAX_MINOR, EXPONENTS, check_amount, check_currency, format_decimal
from .words import Amount


class Direction(StrEnum):
    """The direction of the money, in the words of a message."""

    IN = "top-up"
    OUT = "withdrawal"


@dataclass(frozen=True, slots=True)
class AmountRule:
    """The allowed amounts in minor units: multiples of `step_minor` within the bounds, which are inclusive."""

    min_minor: int
    max_minor: int
    step_minor: int


_SUPPORTED: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP CNY COP "
    "CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD JOD "
    "JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB "
    "TJS TND TOP TRY TTD TWD TZS UAH USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW"
)
"""ISK, MGA and UGX are missing although Stripe accepts them: Stripe's minor unit for them differs from ISO 4217."""

_MIN_IN_MINOR: Final = {
    **dict.fromkeys(["AUD", "BRL", "CAD", "CHF", "EUR", "INR", "JPY", "NZD", "SGD", "USD"], 50),
    **dict.fromkeys(["AED", "MYR", "PLN", "RON"], 200),
    **dict.fromkeys(["NOK", "SEK"], 300),
    **dict.fromkeys(["MXN", "THB"], 1_000),
    "GBP": 30,
    "DKK": 250,
    "HKD": 400,
    "CZK": 1_500,
    "HUF": 17_500,
}
"""For other currencies Stripe compares the amount with half a US dollar at its own rate, which is unknown here."""

_MAX_IN_MINOR: Final = 99_999_999
"""Eight digits."""

_LARGE_IN: Final = {
    **dict.fromkeys(["COP", "HUF", "INR", "JPY", "LBP"], 9_999_999_999),
    "IDR": 999_999_999_999,
}
"""Currencies with small units, for which Stripe accepts more digits."""

_THREE_DECIMALS: Final = frozenset(code for code, exponent in EXPONENTS.items() if exponent == 3)  # noqa: PLR2004 - their name
"""Stripe requires that their last digit is 0, in both directions."""

_WHOLE_OUT: Final = frozenset({"HUF", "TWD"})
"""Two decimals in payments, none in payouts: the amount of a payout is a multiple of 100."""


def _rule(currency: str, direction: Direction) -> AmountRule:
    step = 10 if currency in _THREE_DECIMALS else 1
    if direction is Direction.IN:
        return AmountRule(max(step, _MIN_IN_MINOR.get(currency, 1)), _LARGE_IN.get(currency, _MAX_IN_MINOR), step)
    step = 100 if currency in _WHOLE_OUT else step
    return AmountRule(step, AMOUNT_MAX_MINOR, step)


RULES: Final = {
    (currency, direction): _rule(currency, direction) for currency in _SUPPORTED.split() for direction in Direction
}
"""The rule of each currency and direction. A currency without one can be neither paid in nor out."""


def check_provider_amount(amount_minor: int, currency: str, direction: Direction) -> None:
    """Check that the provider accepts the amount.

    Raises:
        InvalidInput: the currency is unknown, or can be neither paid in nor out.
        InvalidAmount: not a valid amount, too small, too large, or not a multiple of the step.
    """
    rule = RULES.get((check_currency(currency), direction))
    if rule is None:
        raise InvalidInput("currency", reasons.CURRENCY_OF_PROVIDER(currency=currency))
    check_amount(amount_minor)
    if amount_minor < rule.min_minor:
        reason, bound_minor = reasons.PROVIDER_MIN, rule.min_minor
    elif amount_minor > rule.max_minor:
        reason, bound_minor = reasons.PROVIDER_MAX, rule.max_minor
    elif amount_minor % rule.step_minor:
        reason, bound_minor = reasons.PROVIDER_STEP, rule.step_minor
    else:
        return
    text = reason(direction=direction.value, currency=currency, bound=Amount(bound_minor, currency))
    raise InvalidAmount(format_decimal(amount_minor, currency), text)
