"""Our currencies compared with the published list (package `iso4217`, from SIX's list one)."""

from __future__ import annotations

import re

from iso4217 import Currency

from wallet_gql.domain.money import EXPONENTS, check_currency

_NO_MONEY = re.compile(r"X[A-Z]{2}|CHE|CHW|BOV|CLF|COU|MXV|USN|UYI|UYW|ZWL")
"""Metals, funds, units of account and testing codes: nobody is paid in them."""

_REGIONAL = ("XAF", "XCD", "XCG", "XOF", "XPF")
"""Currencies of several countries, whose codes begin with X, too."""


def test_c4_no_currency_is_missing_or_stale() -> None:
    """A difference names the codes: add what is new, and leave out what is no longer active, unless money is in it."""
    kept = {one.code: one.exponent for one in Currency}
    active = {code for code in kept if code in _REGIONAL or not _NO_MONEY.fullmatch(code)}

    assert {"missing": active - set(EXPONENTS), "stale": set(EXPONENTS) - set(kept)} == {
        "missing": set(),
        "stale": set(),
    }


def test_c4_minor_units_are_those_of_the_list() -> None:
    """A wrong exponent would be a wrong amount."""
    kept = {one.code: one.exponent for one in Currency}
    assert {code: exponent for code, exponent in EXPONENTS.items() if kept.get(code) not in (exponent, None)} == {}


def test_the_caribbean_guilder_is_one() -> None:
    """In force since March 2025."""
    assert check_currency("XCG") == "XCG"
