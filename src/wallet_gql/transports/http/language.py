"""The one place that says in which language the request being answered is told what went wrong.

Successes have no messages: they never ask. An answer that has asked says so in `Content-Language` and `Vary`.
"""

from __future__ import annotations

from typing import Final

from ...domain.errors import WalletError
from ...domain.words import Tell
from ..catalogue.languages import teller, wanted
from .record import current

ACCEPT_LANGUAGE: Final = b"accept-language"
_VARY: Final = (b"vary", b"Accept-Language")


def tell() -> Tell:
    """What makes texts in the language that the request wants."""
    record = current()
    if not record.language:
        record.language = wanted(record.headers.get(ACCEPT_LANGUAGE, b"").decode("latin-1"))
    return teller(record.language)


def message_of(error: WalletError) -> str:
    """The message of an error, in the language that the request wants."""
    return error.text(tell())


def language_headers(language: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that has messages in the language."""
    return [(b"content-language", language.encode()), _VARY]
