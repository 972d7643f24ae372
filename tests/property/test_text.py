"""Text that people type: what is accepted, what is refused and with which message, and how texts are compared."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.domain.errors import InvalidInput
from wallet_gql.domain.merchants import NAME_MAX, check_name
from wallet_gql.domain.text import check_text, comparable, opaque
from wallet_gql.domain.users import check_password
from wallet_gql.identity.passwords import Passwords
from wallet_gql.verbs.attempts import REFERENCE_MAX, check_reference

PASSES = {
    "an ideographic space": "\u5bb6\u8cc3\u300011\u6708",
    "a no-break space": "Loyer\u00a0: 500",
    "a narrow no-break space": "Loyer\u202f: 500",
    "a zero-width non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "a family of emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a right-to-left mark": "\u05e9\u05dc\u05d5\u05dd\u200f!",
    "a soft hyphen": "Donau\u00addampf",
    "what no Unicode has assigned": "\u0378 \U000e0fff",
    "private use": "\ue000",
    "combining marks": "e\u0301\u0323",
}
REFUSED = {
    "null": "\x00",
    "a tab": "\t",
    "a line feed": "\n",
    "a carriage return": "\r",
    "delete": "\x7f",
    "next line": "\x85",
    "a C1 control": "\x9b",
    "a line separator": "\u2028",
    "a paragraph separator": "\u2029",
    "a right-to-left override": "\u202e",
    "a left-to-right embedding": "\u202a",
    "an isolate": "\u2067",
    "the end of an isolate": "\u2069",
    "a lone surrogate": "\ud83d",
}


@pytest.mark.parametrize("text", PASSES.values(), ids=PASSES)
def test_c1_what_people_write_passes(text: str) -> None:
    """References and names of merchants take it as it is."""
    check_reference(text)
    assert check_name(f"x{text}x") == f"x{' '.join(f'_{text}_'.split())[1:-1]}x"


UNSEEN = " \u00a0\u00ad\u034f\u115f\u200b\u200d\u2060\u2800\u3000\u3164\ufe0f\ufeff\uffa0\U000e0041"
"""Of each kind of characters that nobody sees some."""


@pytest.mark.parametrize("letter", REFUSED.values(), ids=REFUSED)
def test_c1_what_deceives_is_refused_by_name_and_place(letter: str) -> None:
    """The refusal names the character and where it stands."""
    with pytest.raises(InvalidInput) as refused:
        check_reference(f"ab{letter}c")

    assert refused.value.fields["field"] == "reference"
    assert f"character 3 is U+{ord(letter):04X}" in str(refused.value.fields["reason"])


@given(st.lists(st.sampled_from(UNSEEN), min_size=1, max_size=NAME_MAX - 1).map("".join))
def test_a_name_can_be_seen(text: str) -> None:
    """Spaces and characters that are never drawn are no name; beside a letter they do no harm. A note may be empty."""
    with pytest.raises(InvalidInput) as refused:
        check_name(text)
    assert {problem.reason for problem in refused.value.problems} <= {"VISIBLE", "LENGTH"}
    assert "x" in check_name(f"{text}x")
    check_reference(text)


@pytest.mark.parametrize(("check", "most"), [(check_reference, REFERENCE_MAX), (check_name, NAME_MAX)])
def test_the_longest_passes_and_one_more_does_not(check: object, most: int) -> None:
    """Length is counted in characters, whatever their size in bytes."""
    assert callable(check)
    check("\U0001f680" * most)
    with pytest.raises(InvalidInput, match=str(most)):
        check("\U0001f680" * (most + 1))


@given(st.text(max_size=20))
def test_c1_the_rule_is_one_of_code_points(text: str) -> None:
    """It needs no table that changes with Python: every code point passes or fails alone, in any company."""

    def passes(some: str) -> bool:
        try:
            check_text(some, "text", length_max=20)
        except InvalidInput:
            return False
        return True

    assert passes(text) == all(passes(letter) for letter in text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u00c9t\u00e9", "e\u0301te\u0301"),
        ("STRASSE", "stra\u00dfe"),
        ("\u0130", "i\u0307"),
        ("\u1e9b\u0323", "\u1e69"),
    ],
)
def test_texts_are_compared_as_people_do(one: str, other: str) -> None:
    """Neither case nor the way accents are composed tells two texts apart."""
    assert comparable(one) == comparable(other)


@given(st.text(max_size=30))
def test_a_password_has_one_form(password: str) -> None:
    """Typed composed or decomposed, with whatever space: the form is the same, and it is its own form."""
    form = opaque(password)
    assert opaque(unicodedata.normalize("NFD", password)) == opaque(unicodedata.normalize("NFC", password))
    assert opaque(form) == form


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("Z\u00fcrichsee-7-Ruder", "Zu\u0308richsee-7-Ruder"),
        ("grave\u00a0acc\u00e8s 91", "grave acce\u0300s\u202f91"),
        ("\uac00\ub098\ub2e4\ub77c-4182", unicodedata.normalize("NFD", "\uac00\ub098\ub2e4\ub77c-4182")),
    ],
)
async def test_c2_a_password_is_known_however_it_is_typed(chosen: str, typed: str) -> None:
    """Another keyboard composes accents in another way, and makes other spaces."""
    passwords = Passwords()
    try:
        stored = await passwords.hash(check_password(chosen, username="anna", email="anna@example.org"))
        assert await passwords.verify(stored, typed)
        assert not await passwords.verify(stored, typed + "x")
    finally:
        passwords.close()


async def test_c2_a_hash_from_before_there_was_one_form_still_opens() -> None:
    """Older versions hashed what was typed."""
    typed = "Zu\u0308richsee-7-Ruder"
    passwords = Passwords()
    try:
        stored = passwords._hasher.hash(typed)
        assert await passwords.verify(stored, typed)
        assert not await passwords.verify(stored, typed + "x")
    finally:
        passwords.close()


@pytest.mark.parametrize("password", ["line\nfeed-8271", "null\x00byte-8271", "half\ud83dpair-8271"])
def test_a_new_password_has_no_control_characters(password: str) -> None:
    """No keyboard types them again."""
    with pytest.raises(InvalidInput, match="control"):
        check_password(password, username="anna", email="anna@example.org")
