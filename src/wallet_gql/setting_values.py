"""What the text of a setting says: rates, origins, lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from . import urls
from .domain.errors import ConfigurationError, Rejected
from .domain.money import parse_decimal
from .domain.spending import Limits

_RATE: Final = re.compile(
    r"(?P<name>[A-Za-z]+)=(?P<most>[1-9][0-9]{0,8})/(?P<span>[1-9][0-9]{0,3})?(?P<unit>second|minute|hour|day)"
)
_ADDRESS: Final = re.compile(
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?):(?P<port>[0-9]{1,5})", re.ASCII | re.IGNORECASE
)
PORT_MAX: Final = 65_535
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LIMITS: Final = {"payment": "payment", "day": "day", "newPayee": "new_payee"}
_LIMIT: Final = "write EUR:payment=1000.00,day=2000.00,newPayee=200.00, one of them at least, and ; between currencies"
_ORIGIN: Final = "write for example https://app.example or http://localhost:5173"


class Mode(StrEnum):
    """`production` serves no GraphiQL and refuses a store that keeps nothing.

    `test` alone may arm failpoints, and its password hashes cost an attacker nothing.
    """

    DEVELOPMENT = "development"
    PRODUCTION = "production"
    TEST = "test"


class GraphqlProfile(StrEnum):
    """Which status codes GraphQL answers with: those that today's clients expect, or those of the August 2026 draft."""

    DEFAULT = "default"
    DRAFT2026 = "draft2026"


class TrustedDocuments(StrEnum):
    """`off`: ids are not looked up. `prefer`: documents by id or in full. `only`: only documents of the manifest."""

    OFF = "off"
    PREFER = "prefer"
    ONLY = "only"


class LogFormat(StrEnum):
    """How log lines look: `text` for people, or one JSON object a line."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` requests in `seconds`."""

    most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 is a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in settings."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address | None:
    """`127.0.0.1:9464` or `[::1]:9464` as an address; None for empty text. Raises ValueError."""
    if not text:
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > PORT_MAX:
        raise ValueError(f"{text!r} is no address with a port; write for example 127.0.0.1:9464 or [::1]:9464")
    return Address(match["host"].strip("[]"), int(match["port"]))


def collector_of(text: str) -> None:
    """Raise ValueError, without the text, unless it is empty or the URL of a server that takes traces."""
    try:
        url = urls.parse(text or "http://none")
        is_well = url.scheme in ("http", "https") and bool(url.host) and url.user is None and not url.query
    except ConfigurationError:
        is_well = False
    if not is_well:
        raise ValueError("write http://host:4318 or an https URL, without a user or parameters")


def rates_of(text: str) -> dict[str, Rate]:
    """`name=100/minute; other=5/15minute` as rates by name; nothing for `off`. Raises ValueError."""
    if text.strip() == "off":
        return {}
    found: dict[str, Rate] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        match = _RATE.fullmatch(part)
        if match is None or match["name"] in found:
            raise ValueError(f"{part!r}: write name=100/minute, each name once, with ; between them; or off")
        found[match["name"]] = Rate(int(match["most"]), int(match["span"] or 1) * _SECONDS[match["unit"]])
    return found


def limits_of(text: str) -> dict[str, Limits]:
    """`EUR:payment=1000.00,day=2000.00,newPayee=200.00; USD:day=500.00` as limits by currency. Raises ValueError."""
    found: dict[str, Limits] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        currency, _, rest = part.partition(":")
        pairs = [one.partition("=")[::2] for one in rest.split(",")]
        given = {name.strip(): amount.strip() for name, amount in pairs}
        if currency in found or len(given) != len(pairs) or not given.keys() <= _LIMITS.keys():
            raise ValueError(f"{part!r}: {_LIMIT}")
        try:
            amounts = {_LIMITS[name]: parse_decimal(amount, currency) for name, amount in given.items()}
        except Rejected as error:
            raise ValueError(f"{part!r}: {error.message}; {_LIMIT}") from error
        found[currency] = Limits(**amounts)
    return found


def origin_of(text: str) -> str:
    """An origin in canonical form: `HTTPS://App.Example:443` is `https://app.example`. Raises ValueError."""
    if "*" in text:
        raise ValueError(f"{urls.redacted(text)} is a pattern and no origin; name each origin in full")
    try:
        url = urls.parse(text)
        host = url.host.lower()
    except ConfigurationError as error:
        raise ValueError(f"{urls.redacted(text)} is no origin; {_ORIGIN}") from error
    if url.scheme not in _DEFAULT_PORTS or not host or url.user is not None:
        raise ValueError(f"{url.shown} is no origin; {_ORIGIN}")
    if url.path or url.query:
        raise ValueError(f"{url.shown} is more than an origin; leave out what follows host and port")
    shown = f"[{host}]" if ":" in host else host
    port = "" if url.port in (None, _DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{shown}{port}"


def listed(text: str) -> list[str]:
    """The parts of a list, between spaces or commas."""
    return text.replace(",", " ").split()
