"""How hard a new password is to guess: zxcvbn's estimate, with the words that an attacker of this wallet would add."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Final

from ..domain.errors import InvalidInput, reasons

SCORE_MIN: Final = 3
"""Of 4: more than 10^8 guesses, which is out of reach while log-ins are throttled."""

SCORED_MAX: Final = 24
"""How many characters are scored. The time grows with the square of the length; a beginning that is hard to guess is
enough."""

LOOK_ALIKES_MAX: Final = 7
"""How many different look-alikes of letters (`4` or `@` for `a`) are scored: their readings multiply."""

_LOOK_ALIKES: Final = frozenset("4@8({[<369!1|0$5+7%2")
_NEUTRAL: Final = "~^&*-_=;:',.?"
"""Placeholders for look-alikes beyond the limit of scoring: marks that look like no letter."""

PHRASES: Final = ("correct horse battery staple", "correct horse", "battery staple")
"""The best-known pass phrase, and what our own docs once showed."""

CONTEXT: Final = (
    *(phrase[:SCORED_MAX] for phrase in PHRASES),
    *(phrase.replace(" ", "")[:SCORED_MAX] for phrase in PHRASES),
    *"""
    wallet walletgql wallet-gql graphql graphiql account accounts payment payments transfer transfers balance currency
    money euro ledger deposit withdrawal merchant operator session bearer cookie token alice bob ann example
    login signup openaccount walleterror viewer mutation query input success variables username email typename
    authorization application available browser browsers decimal expiresat introspection recipes frontends openapi
    """.split(),  # noqa: SIM905 - as text it can be read
)
"""The product's name, its subject, and the words of its start page."""


def check_strength(password: str, names: Iterable[str]) -> None:
    """Check that a password takes long to guess for somebody who knows the user's `names`.

    Takes up to 50 ms of processor time, mostly less than 5.

    Raises:
        InvalidInput: it does not.
    """
    from zxcvbn import zxcvbn  # noqa: PLC0415 - loading its lists takes a while, and most processes choose no password

    words = [part for name in names for part in _parts(name)]
    if zxcvbn(_scored(password), user_inputs=[*words, *CONTEXT])["score"] < SCORE_MIN:
        raise InvalidInput("password", reasons.PASSWORD_WEAK())


def _parts(name: str) -> tuple[str, ...]:
    """A username or an address, and its parts; a password made of them is weak."""
    account, _, domain = name.partition("@")
    return tuple(dict.fromkeys((name[:SCORED_MAX], account, *account.split("."), *domain.split("."))))


def _scored(password: str) -> str:
    """What is scored: the beginning, without marks around it, with as many look-alikes as can be scored in time."""
    text = (password.strip(string.punctuation + string.whitespace) or password)[:SCORED_MAX]
    found = [letter for letter in dict.fromkeys(text) if letter in _LOOK_ALIKES]
    return text.translate(dict(zip(map(ord, found[LOOK_ALIKES_MAX:]), _NEUTRAL, strict=False)))
