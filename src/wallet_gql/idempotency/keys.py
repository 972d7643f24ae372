r"""The one canonical form of an idempotency key, whichever transport brings it.

| sent | key |
|---|---|
| `k`, anywhere | `k` |
| `"k"`, a structured-field string (RFC 9651), anywhere | `k`; `\"` and `\\` in it are undone |
| begins with `"` and is no such string; has parameters, as `"k";x=1` | refused |
| has a space at either end, within quotes or without | refused |
| a header without quotes that has a space, `"`, `,` or `;` | refused: it may be several headers joined; quote it |
| a canonical form that itself begins with `"` | refused |

So two spellings are one key or a refusal, never two keys. A canonical key is its own canonical form. It never begins
with a quote, so none is equal to what older ledgers kept: there the quotes were a part of the key. `key_of` still finds
those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ..domain.changes import ReadSet
from ..domain.errors import InvalidInput, reasons
from ..domain.ids import actor_slot
from ..storage import Store

HEADER: Final = "Idempotency-Key"
FIELD: Final = "idempotencyKey"
"""What a key is called in an input."""

KEY_MAX: Final = 255
"""The longest idempotency key, in characters."""

_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_BARE: Final = re.compile(r"[!#-+\--:<-~]+", re.ASCII)
"""Printable, without quotes, and without what parts and ends structured fields."""

Parse = Callable[[str], str]


def check_key(key: str, field: str = FIELD) -> str:
    """Return the key if it is 1 to 255 printable ASCII characters. Raises InvalidInput."""
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise InvalidInput(field, reasons.KEY(most=KEY_MAX))
    return key


def canonical_key(given: str, field: str = FIELD) -> str:
    """The key that a text spells. Raises InvalidInput, naming `field` and the remedy."""
    key = given
    if given.startswith('"'):
        match = _STRING.fullmatch(given)
        if match is None:
            raise InvalidInput(field, reasons.KEY_QUOTES())
        key = re.sub(r"\\(.)", r"\1", match[1])
    if key.startswith('"') or key != key.strip(" "):
        raise InvalidInput(field, reasons.KEY_SPACES())
    return check_key(key, field)


def header_value(given: Sequence[str]) -> str:
    """The value of the header, which must be there once; white space around it does not count. Raises InvalidInput."""
    if len(given) != 1:
        raise InvalidInput(HEADER, reasons.KEY_ONCE())
    return given[0].strip(" \t")


def header_key(value: str, *, bare: bool = True) -> str:
    """The key that a header's value spells; without `bare` it must be in quotes. Raises InvalidInput."""
    if value.startswith('"') or (bare and _BARE.fullmatch(value)):
        return canonical_key(value, HEADER)
    raise InvalidInput(HEADER, reasons.KEY_BARE())


async def key_of(store: Store, actor: str, given: str, *, parse: Parse = canonical_key, slot: int | None = None) -> str:
    """The key of the wallet that an actor's spelling means.

    Older ledgers kept each spelling as a key of its own. A spelling that is kept so stays that key, so that its retries
    get its answer. Only what is not canonical is looked for. Nothing is kept so any more, so there is no race.

    `slot` is where the actor's receipts are: the home of a user by default.

    Raises:
        InvalidInput: it is none. Unavailable: the look-up failed.
    """
    home = actor_slot(actor) if slot is None else slot
    try:
        key = parse(given)
    except InvalidInput:
        if await _is_kept(store, actor, given, home):
            return given
        raise
    return given if key != given and await _is_kept(store, actor, given, home) else key


header_key_of = partial(key_of, parse=header_key)
"""`key_of` for the value of the header."""


async def _is_kept(store: Store, actor: str, spelling: str, slot: int) -> bool:
    try:
        name = (actor, check_key(spelling))
    except InvalidInput:
        return False
    return (await store.fetch(ReadSet(receipts=((slot, *name),)))).receipt(*name, slot) is not None
