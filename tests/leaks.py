"""Searches the logs and metrics of the whole run for what must not be there: passwords, tokens, secrets, addresses.

Passwords are those that tests send or that this process hashes; everything else is known by its shape. All log
records of this process are searched as they are made, logs of servers when they end, and metrics at each scrape. The
test that was running fails, and names the place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from wallet_gql.identity.passwords import Passwords

NEW_LINE: Final = "\n"

SHAPES: Final = re.compile(
    r"wgs_[0-9a-f]{3}[\w-]{43}"  # a session's token
    r"|[sr]k_(?:test|live)_\w{8,}"  # a key of Stripe's API
    r"|whsec_[\w+/=-]{8,}"  # a secret that signs events
    r"|\$argon2\w*\$"  # a stored password
    r"|\bBearer +\w"
    r"|[\w.+-]+@(?:[\w-]+\.)+[a-z]{2,}",  # an e-mail address
    re.ASCII,
)
PASSWORD_MIN: Final = 12
"""Shorter passwords are those that tests send to be refused; they may occur in an id by chance."""

_OF_TESTS: Final = ("httpx", "httpcore", "hypothesis")
"""Loggers of what tests ask with."""

_passwords: set[str] = set()
_found: list[str] = []


def note(value: object, *, is_password: bool = False) -> None:
    """Remember the passwords in what is sent: in JSON, the texts below every name that says so."""
    if isinstance(value, dict):
        for name, inner in value.items():
            note(inner, is_password=is_password or "password" in str(name).lower())
    elif isinstance(value, list):
        for inner in value:
            note(inner, is_password=is_password)
    elif is_password and isinstance(value, str) and len(value) >= PASSWORD_MIN:
        _passwords.add(value)


def search(text: str, place: str, first_line: int = 1) -> None:
    """Note what is found in a text, with its line; `place` says where the text is from."""
    hits = [(match.start(), match[0]) for match in SHAPES.finditer(text)]
    known = tuple(_passwords)  # other threads add to it
    hits += [(text.index(password), password) for password in known if password in text]
    _found.extend(f"{place}:{first_line + text.count(NEW_LINE, 0, at)}: {hit!r}" for at, hit in hits)


def search_file(path: Path) -> None:
    """The same for a server's log."""
    search(path.read_text(encoding="utf-8", errors="replace"), str(path))


def taken() -> list[str]:
    """What was found since the last time."""
    found, _found[:] = list(_found), []
    return found


def check() -> None:
    """Fail if anything was found since the last time."""
    found = taken()
    assert not found, "logs or metrics tell a secret:\n" + "\n".join(found)


@contextmanager
def watching() -> Iterator[None]:
    """Search every log record, and remember the passwords that are sent over HTTP or that this process hashes."""
    make_record = logging.getLogRecordFactory()

    def searched(*given: Any, **more: Any) -> logging.LogRecord:
        record = make_record(*given, **more)
        if not str(record.name).startswith(_OF_TESTS):
            text = record.getMessage()
            search(f"{text} {record.exc_info[1]}" if record.exc_info else text, record.pathname, record.lineno)
        return record

    logging.setLogRecordFactory(searched)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for kind in (httpx.Client, httpx.AsyncClient):
                _before(patch, kind, "build_request", lambda *_, json=None, **__: note(json))
            _before(patch, Passwords, "hash", lambda _, password, *__: note(password, is_password=True))
            _before(patch, Passwords, "verify", lambda _, __, password, *___: note(password, is_password=True))
            yield
    finally:
        logging.setLogRecordFactory(make_record)


def _before(patch: pytest.MonkeyPatch, kind: type, name: str, look: Callable[..., None]) -> None:
    """Let a method's arguments be looked at."""
    method = getattr(kind, name)

    @wraps(method)
    def looked_at(*given: Any, **more: Any) -> Any:
        look(*given, **more)
        return method(*given, **more)

    patch.setattr(kind, name, looked_at)
