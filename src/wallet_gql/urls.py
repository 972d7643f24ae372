"""URLs that may hold secrets: parsed strictly, and shown without their secrets.

A URL that different parsers would read differently is refused: a raw `#`, `/`, `?` or `@` in a password ends a part of
the URL early. No part of a refused URL is shown, since its secret cannot be located. So an accepted URL has no fragment
and at most one `@`, after the user and password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_plus

from .domain.errors import ConfigurationError

WITHHELD: Final = "(withheld: it cannot be parsed as a URL)"
REMEDY: Final = (
    "write scheme://USER:PASSWORD@host:port/path?name=value, and percent-encode what is special inside a part: "
    "# is %23, / is %2F, ? is %3F, @ is %40, : is %3A, comma is %2C, [ is %5B, ] is %5D, & is %26, % is %25, "
    "a space is %20"
)

_ENCODED: Final = "%[0-9A-Fa-f]{2}"
_WORD: Final = rf"(?:[A-Za-z0-9._~!$&'()*+;=-]|{_ENCODED})*"
_HOST: Final = rf"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~-]|{_ENCODED})*)(?::[0-9]{{1,5}})?"
_URL: Final = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    rf"(?:(?P<user>{_WORD})(?::(?P<password>{_WORD}))?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    rf"(?P<path>/(?:[^#?@%\[\]]|{_ENCODED})*)?"
    rf"(?:\?(?P<query>(?:[A-Za-z0-9._~!$'()*+,;:/=&-]|{_ENCODED})*))?"
)
_BETWEEN: Final = re.compile(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_PORT: Final = re.compile(r":([0-9]+)(?=,|$)")
_PORT_MAX: Final = 65_535
_ANYWHERE: Final = re.compile(r"(?<=://)(?!USER:PASSWORD@|user@)\S*@")
"""User and password before a host, but not the placeholders in our own messages."""
_SECRET_VALUE: Final = re.compile(r"(?P<name>[?&](?:\w*password|\w*secret|\w*token)=)[^&#\s]*", re.IGNORECASE)

_HARMLESS: Final = frozenset(
    {
        "application_name",
        "authsource",
        "channel_binding",
        "connect_timeout",
        "connections",
        "lease_seconds",
        "node",
        "nodes",
        "partitions",
        "replicaset",
        "sslmode",
        "target_session_attrs",
        "tls",
    }
)
"""Parameters whose values are shown. Any other one may be part of a secret: `?password=a&b` has two parameters."""


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """A URL with only one reading. User and password are decoded; `hosts` and `path` are as written."""

    scheme: str
    user: str | None
    password: str | None
    hosts: str
    path: str
    query: tuple[tuple[str, str], ...]
    text: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        who = "" if self.user is None else "***@"
        pairs = [f"{name}={value}" if name.lower() in _HARMLESS else "***" for name, value in self.query]
        return f"{self.scheme}://{who}{self.hosts}{self.path}{'?' if pairs else ''}{'&'.join(pairs)}"

    def __repr__(self) -> str:
        """The same as `shown`, so that a log never holds a secret."""
        return self.shown

    @property
    def host(self) -> str:
        """The only host, decoded, without port and brackets; empty if there is none. Raises ConfigurationError."""
        if "," in self.hosts:
            raise ConfigurationError("name one host, not several")
        return unquote(_PORT.sub("", self.hosts).strip("[]"))

    @property
    def each_host(self) -> list[str]:
        """The URL once for each of its hosts, with secrets."""
        before, rest = self.text.split("@") if self.user is not None else self.text.split("//", 1)
        end = "@" if self.user is not None else "//"
        return [f"{before}{end}{host}{rest.removeprefix(self.hosts)}" for host in self.hosts.split(",")]

    @property
    def port(self) -> int | None:
        """The port of the only host."""
        found = _PORT.search(self.hosts)
        return int(found[1]) if found else None

    @property
    def file(self) -> str:
        """The path, decoded, without its first slash."""
        return unquote(self.path)[1:]

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded. Raises ConfigurationError if a name is given twice."""
        found = {unquote_plus(name): unquote_plus(value) for name, value in self.query}
        if len(found) < len(self.query):
            raise ConfigurationError("the same parameter is given twice; leave one out")
        return found

    def check_parameters(self, known: frozenset[str]) -> None:
        """Raise ConfigurationError, naming them, if there are unknown parameters."""
        unknown = sorted(self.parameters.keys() - known)
        if unknown:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(f"{self.told(unknown)} cannot be used here; known are: {listed}")

    def told(self, names: list[str]) -> str:
        """Names of parameters for a message, unless one could be the rest of a secret that has a raw `&`."""
        if any(not re.fullmatch(r"\w+", name) for name in names) or any(_is_secret(name) for name, _ in self.query):
            return "a parameter that is not shown"
        return f"the parameter {', '.join(names)}"

    def without(self, names: frozenset[str]) -> str:
        """The URL for a driver: with its secrets, without these parameters."""
        kept = "&".join(f"{name}={value}" for name, value in self.query if unquote_plus(name) not in names)
        return self.text.partition("?")[0] + (f"?{kept}" if kept else "")


def parse(text: str) -> Url:
    """Parse one URL. Raises ConfigurationError if it has more than one reading; the message shows no part of it."""
    found = _URL.fullmatch(text)
    if found is None or not text.isprintable() or not _decodes(text) or not _has_ports(found["hosts"]):
        raise ConfigurationError(f"this is no URL that has one reading, so it is not shown; {REMEDY}")
    pairs = [tuple(part.partition("=")) for part in (found["query"] or "").split("&") if part]
    if not all(equals for _, equals, _ in pairs):
        raise ConfigurationError(f"it has a parameter without a value, so it is not shown; {REMEDY}")
    user, password = (None if one is None else unquote(one) for one in found.group("user", "password"))
    query = tuple((name, value) for name, _, value in pairs)
    return Url(found["scheme"].lower(), user, password, found["hosts"], found["path"] or "", query, text)


def parse_all(text: str) -> tuple[Url, ...]:
    """Parse a storage URL: one URL, or several joined by commas. Raises ConfigurationError, showing no part of it."""
    if "://" not in text:
        raise ConfigurationError("this is no storage URL: it names no scheme; write for example sqlite:///wallet.db")
    return tuple(parse(part.strip()) for part in _BETWEEN.split(text))


def redacted(text: str) -> str:
    """A storage URL, or several, without secrets; if it cannot be parsed, a placeholder. Never raises."""
    try:
        return ",".join(url.shown for url in parse_all(text))
    except ConfigurationError:
        return WITHHELD


def hidden(text: str) -> str:
    """Text such as a driver's message, without anything that looks like a secret in a URL. Never raises."""
    return _SECRET_VALUE.sub(r"\g<name>***", _ANYWHERE.sub("***@", text))


def _is_secret(name: str) -> bool:
    return name.lower() not in _HARMLESS and any(word in name.lower() for word in ("pass", "secret", "token", "key"))


def _has_ports(hosts: str) -> bool:
    return all(1 <= int(port) <= _PORT_MAX for port in _PORT.findall(hosts))


def _decodes(text: str) -> bool:
    """Whether the decoded URL is printable text; a NUL would end a file name early."""
    try:
        return unquote(text, errors="strict").isprintable()
    except UnicodeDecodeError:
        return False
