"""New passwords are hard to guess: by lists of common ones, by the context's own words, within a bounded time."""

from __future__ import annotations

import random
import re
import string
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet_gql.backends.memory import MemoryStore
from wallet_gql.domain.errors import InvalidInput
from wallet_gql.domain.users import SessionKind
from wallet_gql.identity import Identity, Passwords
from wallet_gql.identity.strength import LOOK_ALIKES_MAX, PHRASES, SCORED_MAX, check_strength
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Clock, PlainPasswords
from wallet_gql.transports.web.pages import start_page

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = ("annabel", "annabel.schmidt@lighthouse.example")

COMMON: Final = (
    *("password", "Password1!", "P@ssw0rd2026", "12345678", "1234567890", "87654321", "qwertyuiop", "1qaz2wsx"),
    *("1q2w3e4r", "iloveyou", "abc12345", "11111111", "letmein123", "trustno1", "abcabcabc", "123123123"),
    *("!!welcome!!", "passwordpassword", "asdfghjkl", "zaq12wsx", "dragon123", "Liverpool1", "        "),
    *("liverpoolfc1", "naruto123", "spongebob1", "arsenal2026", "Manchester1", "pokemon2025", "minecraft1"),
    *("superman!!", "michelle99", "Ju5tinB1eber", "19871224", "24.12.1987", "zxcvbnm,./", "qazwsxedc", "aaaaaaaaaaaa"),
    *("monkey12monkey12", "princess01", "charlie2020", "football!1", "x" * 128),
)
OF_THE_CONTEXT: Final = (
    *("annabel1", "Annabel2026", "annabel-1990", "4nn4b3l!", "annabelannabel", "lebanna99", "schmidt123"),
    *("lighthouse1", "Annabel.Schmidt1", "annabel.schmidt@lighthouse", "wallet-gql1", "WalletGQL2026", "wallet!!"),
    *("graphql123", "GraphQL!!", "payment2026", "w4ll3tw4ll3t"),
    *PHRASES,
    *(phrase.replace(" ", "") for phrase in PHRASES),
    *(f"{phrase}!" for phrase in PHRASES),
)
GOOD: Final = (
    *("plain maroon bicycle", "seven quiet llamas", "a good password", "hunter2 goes home", "x7Gq2!mzP4"),
    *("пароль-мой-длинный", "私の長い合言葉はこれです", "tr0ub4dor&3 tr0ub4dor", "83017264950173", "W4!9(k8|2{6z"),
    *("x4@8({[<369!1|0$5+7%2x", "one long pass phrase that goes on " * 3),
)


@pytest.mark.parametrize("password", [*COMMON, *OF_THE_CONTEXT])
def test_weak_passwords_are_refused(password: str) -> None:
    """Common ones with their usual digits, marks and look-alikes; one's own names, the product's, known phrases."""
    with pytest.raises(InvalidInput) as caught:
        check_strength(password, NAMES)
    assert caught.value.fields["field"] == "password"
    assert password.strip() == "" or password not in str(caught.value.fields["reason"])


@pytest.mark.parametrize("password", GOOD)
def test_strong_passwords_are_taken(password: str) -> None:
    """No rules of composition: words, digits and letters of any script are fine."""
    check_strength(password, NAMES)


def test_words_of_the_start_page_are_no_passwords() -> None:
    """Each word that the page shows, alone with a digit, a mark or a number; and its password is new each time."""
    pages = [start_page("https://wallet.example/", has_pages=True).partition("<body>")[2] for _ in range(2)]
    prose = re.sub(r"<[^>]+>", " ", pages[0])
    for word in set(re.findall(r"\b[A-Z]?[a-z]{4,}\b", prose)):
        for password in (f"{word}1", f"{word}!", f"{word}123", f"{word.capitalize()}2026"):
            with pytest.raises(InvalidInput):
                check_strength(password, ())
    shown = [re.findall(r"password&quot;: &quot;(.+?)&quot;", page) for page in pages]
    assert all(len(set(found)) == 1 for found in shown)
    assert shown[0] != shown[1]
    check_strength(shown[0][0], ("ann", "ann@example.org"))


def test_c14_the_docs_show_strong_passwords() -> None:
    """Whoever copies an example is not refused."""
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/**/*")]
    pages = [page for page in pages if "node_modules" not in page.parts]
    text = "".join(page.read_text(encoding="utf-8") for page in pages if page.suffix in (".md", ".py", ".ts", ".html"))
    shown = set(re.findall(r"""["']?[pP]assword["']?: ["']([^"'$<]+)["']""", text))
    assert len(shown) >= 2
    for password in shown:
        check_strength(password, ("ann", "ann@example.org", "bob", "bob@example.org"))


HOSTILE: Final = (
    *(
        "4@8({[<369!1|0$5+7%2",
        "+1|7",
        "$||5+75",
        "1!|ilL7",
        "0123456789",
        "aA",
        "qwertyuiop",
        "1/.-",
        "2020",
        "p@s5w0rd",
    ),
    string.printable[:94],
    "абв",
)


@given(password=st.text(min_size=8, max_size=128), username=st.text(min_size=3, max_size=32))
@settings(max_examples=200, deadline=None)
def test_any_text_is_scored(password: str, username: str) -> None:
    """Marks alone, other scripts, whatever: it is taken or refused."""
    with suppress(InvalidInput):
        check_strength(password, (username, f"{username}@example.org"))


def test_scoring_takes_a_bounded_time() -> None:
    """Whatever is typed: long ones, repetitions, dates, keys in a row, many look-alikes of letters."""
    check_strength(GOOD[0], ())  # loads the lists
    chooser, slowest = random.Random(1), 0.0
    for letters in HOSTILE:
        for size in (SCORED_MAX, 128):
            password = "".join(chooser.choice(letters) for _ in range(size))
            began = time.process_time()
            with suppress(InvalidInput):
                check_strength(password, NAMES)
            slowest = max(slowest, time.process_time() - began)
    assert slowest < patience(0.1), f"{slowest:.3f} s, with {SCORED_MAX} letters and {LOOK_ALIKES_MAX} look-alikes"


@pytest.mark.parametrize("password", ["liverpoolfc1", "wallet2026", "annabel2026"])
async def test_c14_both_ways_to_choose_one_are_checked(password: str) -> None:
    """Signing up and changing it; the wrong one leaves no user and no change."""
    async with MemoryStore() as store:
        identity = Identity(store, clock=Clock())
        try:
            with pytest.raises(InvalidInput):
                await identity.sign_up(NAMES[0], NAMES[1], password)
            await identity.sign_up(NAMES[0], NAMES[1], GOOD[0])
            begun = await identity.log_in(NAMES[0], GOOD[0], SessionKind.BEARER)
            with pytest.raises(InvalidInput):
                await identity.change_password(begun.session, GOOD[0], password)
            await identity.log_in(NAMES[0], GOOD[0], SessionKind.BEARER)
        finally:
            identity.passwords.close()


async def test_scoring_keeps_its_place_in_the_queue() -> None:
    """It runs with the hashes, in their threads and under their bound, so that the event loop goes on."""
    asked: list[str] = []

    class Watched(Passwords):
        async def _run(self, client: str, work: object) -> object:  # type: ignore[override]  # only watched
            asked.append(client)
            return await super()._run(client, work)  # type: ignore[arg-type]  # as it was given

    passwords = Watched()
    try:
        await passwords.choose(GOOD[0], NAMES, "net")
        assert asked == ["net", "net"]
    finally:
        passwords.close()
    assert await PlainPasswords().choose("x", ()) == "plain:x"
