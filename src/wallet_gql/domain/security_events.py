"""Security events and throttles as `Record`s. Kinds of records: `event`, `throttle`.

A security event says what happened to a user's access, when and from where. The user can read it, nobody can edit it,
and after `EVENTS_KEPT` a sweep removes it. A throttle counts failed log-ins; as a record it survives a restart.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from .codec import from_micros, to_micros
from .frozen import frozen
from .ids import UserId, slot_of, slot_of_text
from .model import AccountStatus, Record, RecordKey

EVENTS_KEPT: Final = timedelta(days=180)
"""How long a user's events are kept: addresses are personal data."""

STRANGERS_KEPT: Final = timedelta(hours=1)
"""How long failed log-ins under unknown names are kept. Nobody reads them: they make both cases cost the same."""

FAILURES_LAST: Final = timedelta(minutes=15)
"""How long failed log-ins count, from the first one on."""

FAILURES_MAX: Final = 10
"""Failed log-ins per name and address. Other addresses are not affected, so nobody can lock a user out."""

SITE_FAILURES_MAX: Final = 30
"""Failed log-ins per name and site: a site (a /48) has 65,536 networks that count as different clients."""

ADDRESS_FAILURES_MAX: Final = 100
"""Failed log-ins per address, for all names. After that each name has `BUSY_FAILURES_MAX` attempts there."""

BUSY_FAILURES_MAX: Final = 3
"""Failed log-ins per name at an address with many failures: other users of a shared address can still log in."""

UNKNOWN_NETWORK: Final = "unknown"
USER_AGENT_MAX: Final = 200
_IPV6_NETWORK_BITS: Final = 64
_IPV6_SITE_BITS: Final = 48
_EVENT_ID: Final = re.compile(r"evt_[0-9a-f]{32}", re.ASCII)
_LATEST_MS: Final = 2**48 - 1


class EventKind(StrEnum):
    """What happened."""

    SIGNED_UP = "signed_up"
    LOGGED_IN = "logged_in"
    LOG_IN_FAILED = "log_in_failed"
    LOGGED_OUT = "logged_out"
    SESSION_RENEWED = "session_renewed"
    SESSION_REVOKED = "session_revoked"
    SESSIONS_REVOKED = "sessions_revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - no password
    PASSWORD_CHANGE_FAILED = "password_change_failed"  # noqa: S105 - no password
    PASSWORD_RESET = "password_reset"  # noqa: S105 - no password
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_UNFROZEN = "account_unfrozen"
    ACCOUNT_CLOSED = "account_closed"
    SPENDING_LIMITS_CHANGED = "spending_limits_changed"


STATUS_EVENTS: Final = {
    AccountStatus.OPEN: EventKind.ACCOUNT_UNFROZEN,
    AccountStatus.FROZEN: EventKind.ACCOUNT_FROZEN,
    AccountStatus.CLOSED: EventKind.ACCOUNT_CLOSED,
}
"""The events of an account's status changes."""


@frozen
class Visitor:
    """Where a request comes from: an IP address (empty if there is none), and what the client calls itself."""

    address: str
    user_agent: str = ""

    @classmethod
    def of(cls, address: str, user_agent: str) -> Visitor:
        """A visitor from a server's values: an invalid address becomes empty, text becomes short and printable."""
        found = _parsed(address)
        agent = user_agent[:USER_AGENT_MAX]
        if not agent.isprintable():
            agent = "".join(letter if letter.isprintable() else "?" for letter in agent)
        return cls(str(found) if found else "", agent)

    @property
    def network(self) -> str:
        """The unit that counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has.

        All visitors without a readable address count as one, or nothing would be counted behind a proxy that passes no
        address.
        """
        return _network(self.address)

    @property
    def site(self) -> str | None:
        """The /48 of an IPv6 address, which a provider gives to one customer; None for others."""
        found = _parsed(self.address)
        return str(IPv6Network((found, _IPV6_SITE_BITS), strict=False)) if isinstance(found, IPv6Address) else None


@lru_cache(maxsize=1_024)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


@lru_cache(maxsize=1_024)
def _network(address: str) -> str:
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _IPV6_NETWORK_BITS), strict=False))
    return str(found or UNKNOWN_NETWORK)


@frozen
class SecurityEvent:
    """One event. `subject` is the id of the session or account that it is about, if any."""

    id: str
    kind: EventKind
    at: datetime
    visitor: Visitor | None = None
    subject: str | None = None

    def key(self, user_id: UserId) -> RecordKey:
        """The key of its record, in its user's slot."""
        return RecordKey("event", self.id, slot_of(user_id))

    def to_record(self, user_id: UserId) -> Record:
        """The record, for its user."""
        return Record("event", self.id, slot_of(user_id), user_id, 1, self._body(), self.at + EVENTS_KEPT)

    def to_strangers_record(self, login: str) -> Record:
        """The record under an unknown name; the name itself is not stored."""
        slot = slot_of_text(f"stranger:{login}")
        return Record("event", self.id, slot, "stranger", 1, self._body(), self.at + STRANGERS_KEPT)

    def _body(self) -> dict[str, object]:
        body: dict[str, object] = {"kind": self.kind.value, "at": to_micros(self.at), "subject": self.subject}
        if self.visitor is not None:
            body |= {"address": self.visitor.address, "user_agent": self.visitor.user_agent}
        return body

    @classmethod
    def from_record(cls, record: Record) -> SecurityEvent:
        """The event of a record."""
        body = record.body
        visitor = Visitor(str(body["address"]), str(body["user_agent"])) if "address" in body else None
        subject = body["subject"]
        at = from_micros(int(str(body["at"])))
        return cls(record.id, EventKind(str(body["kind"])), at, visitor, None if subject is None else str(subject))


def make_event_id(at: datetime, entropy: int) -> str:
    """An event's id: later events have smaller ids, so that a list in order of ids begins with the newest."""
    at_ms = int(at.timestamp() * 1000)
    return f"evt_{(_LATEST_MS - at_ms) & _LATEST_MS:012x}{entropy & (2**80 - 1):020x}"


def is_event_id(text: str) -> bool:
    """Whether text has the form of an event's id."""
    return _EVENT_ID.fullmatch(text) is not None


@frozen
class Throttle:
    """Failures of one client since `since`."""

    count: int
    since: datetime

    @property
    def ends_at(self) -> datetime:
        """When the failures are forgotten."""
        return self.since + FAILURES_LAST

    def to_record(self, key: RecordKey) -> Record:
        """The record, in its first version; due when the failures are forgotten."""
        body = {"count": self.count, "since": to_micros(self.since)}
        return Record(key.kind, key.id, key.slot, "throttle", 1, body, self.ends_at)

    @classmethod
    def from_record(cls, record: Record | None, now: datetime) -> Throttle:
        """The throttle of a record; a new one if there is none, or its time is over."""
        if record is not None:
            found = cls(int(str(record.body["count"])), from_micros(int(str(record.body["since"]))))
            if found.ends_at > now:
                return found
        return cls(0, now)


def throttle_key(*parts: str) -> RecordKey:
    """The key of a client's failures: a hash, so that an id shows neither name nor address."""
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return RecordKey("throttle", digest, slot_of_text(digest))
