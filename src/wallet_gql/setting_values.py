"""What the text of a setting says: rates, origins, lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from . import urls
from .domain.errors import ConfigurationError

_RATE: Final = re.compile(
    r"(?P<name>[A-Za-z]+)=(?P<most>[1-9][0-9]{0,8})/(?P<span>[1-9][0-9]{0,3})?(?P<unit>second|minute|hour|day)"
)
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = "write for example https://app.example or http://localhost:5173"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` requests in `seconds`."""

    most: int
    seconds: int


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
