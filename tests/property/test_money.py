"""Money: exact conversion of text to minor units and back, and refusal of everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.domain.errors import InvalidAmount, InvalidInput
from wallet_gql.domain.money import (
    AMOUNT_MAX_MINOR,
    EXPONENTS,
    Money,
    check_amount,
    check_currency,
    format_decimal,
    parse_decimal,
)

currencies = st.sampled_from(sorted(EXPONENTS))


@given(st.integers(1, AMOUNT_MAX_MINOR), currencies)
def test_decimal_text_round_trips_exactly(amount_minor: int, currency: str) -> None:
    """What is printed is read back as the same number of minor units, in every currency."""
    text = format_decimal(amount_minor, currency)

    assert amount_minor == parse_decimal(text, currency)


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (1230, "EUR", "12.30"),
        (5, "EUR", "0.05"),
        (-5, "EUR", "-0.05"),
        (0, "EUR", "0.00"),
        (1230, "JPY", "1230"),
        (-7, "JPY", "-7"),
        (1, "KWD", "0.001"),
    ],
)
def test_format_uses_exactly_the_digits_of_the_currency(amount_minor: int, currency: str, text: str) -> None:
    """EUR has two digits, JPY none, KWD three."""
    assert text == format_decimal(amount_minor, currency) == Money(amount_minor, currency).decimal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.00",
        "-1",
        "+1",
        "1,00",
        "1.",
        ".5",
        "1e3",
        "1.005",
        "NaN",
        "∞",
        "\u0661",  # a digit, but not ASCII
        " 1",
        "1 ",
        "0x10",
        "1_000",
        "9" * 20,
    ],
)
def test_text_that_is_not_a_plain_positive_decimal_is_refused(text: str) -> None:
    """No signs, exponents, separators, other digits or surplus precision."""
    with pytest.raises(InvalidAmount) as caught:
        parse_decimal(text, "EUR")

    assert caught.value.fields["amount"] == text


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MAX_MINOR + 1, 2**63, 1.0, True, "1", None])
def test_amounts_that_no_command_may_move_are_refused(amount: object) -> None:
    """Only whole numbers from 1 to the limit: no bool, float or text."""
    with pytest.raises(InvalidAmount):
        check_amount(amount)  # type: ignore[arg-type]  # callers from outside do not read annotations


@pytest.mark.parametrize("code", ["", "eur", "EURO", "XXX", "BTC", "EUR\n"])
def test_unknown_currencies_are_refused(code: str) -> None:
    """Codes are exactly ISO 4217's active ones."""
    with pytest.raises(InvalidInput):
        check_currency(code)
