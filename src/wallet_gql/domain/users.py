"""Users, their names and sessions, as `Record`s: shapes and checks, pure.

A name (username or e-mail) is unique across nodes by reservation: a *name claim* record lives in the slot that the name
hashes to, and says which user id has it. Kinds of records: `user`, `claim`, `session`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from .codec import from_micros, to_micros
from .errors import InvalidInput, reasons
from .frozen import frozen
from .ids import UserId, slot_of, slot_of_text
from .model import Record, RecordKey
from .security_events import Visitor
from .text import opaque

USERNAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{2,31}", re.ASCII)
USERNAME_MAX: Final = 32
_EMAIL: Final = re.compile(r"[^\s@\x00-\x1f\x7f<>\"]{1,64}@[^\s@.\x00-\x1f\x7f<>\"]+(\.[^\s@.\x00-\x1f\x7f<>\"]+)+")
EMAIL_MAX: Final = 254
PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 128
PASSWORD_SENT_MAX: Final = 4 * PASSWORD_MAX
"""The longest password that is looked at before its accents are composed; composing may make it short enough."""
TOKEN_PREFIX: Final = "wgs_"  # noqa: S105 - the prefix of every token
_TOKEN: Final = re.compile(r"wgs_(?P<slot>[0-9a-f]{3})[A-Za-z0-9_-]{43}", re.ASCII)

CLAIM_LASTS: Final = timedelta(seconds=60)
"""How long a sign-up may take between reserving its names and creating the user."""


def check_username(text: str) -> str:
    """The username in its canonical spelling (lower case). Raises InvalidInput."""
    name = text[: USERNAME_MAX + 1].lower()
    if len(text) > USERNAME_MAX or USERNAME.fullmatch(name) is None:
        raise InvalidInput("username", reasons.USERNAME())
    return name


def check_email(text: str) -> str:
    """The e-mail address in its canonical spelling (lower case). Raises InvalidInput.

    The length is checked first: composing characters takes a time that grows with the square of the marks on one
    letter.
    """
    sent = text.strip()
    address = unicodedata.normalize("NFC", sent.lower()) if len(sent) <= EMAIL_MAX else ""
    if not address.isprintable() or len(address) > EMAIL_MAX or _EMAIL.fullmatch(address) is None:
        raise InvalidInput("email", reasons.EMAIL())
    return address


def check_password(text: str, *, username: str, email: str) -> str:
    """The password in its canonical form (`opaque`): 8 to 128 characters, not one of the user's names.

    `identity.strength` checks how hard it is to guess.

    Raises:
        InvalidInput: it may not be chosen; says why.
    """
    text = opaque(text[: PASSWORD_SENT_MAX + 1])
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise InvalidInput("password", reasons.PASSWORD_CHARACTERS())
    if not PASSWORD_MIN <= len(text) <= PASSWORD_MAX:
        raise InvalidInput("password", reasons.LENGTH(least=PASSWORD_MIN, most=PASSWORD_MAX))
    if text.lower() in (username, email):
        raise InvalidInput("password", reasons.PASSWORD_IS_NAME())
    return text


def username_claim(username: str) -> RecordKey:
    """The key of the claim on a username."""
    return RecordKey("claim", f"username:{username}", slot_of_text(f"username:{username}"))


def email_claim(email: str) -> RecordKey:
    """The key of the claim on an e-mail address: a hash, so that an id never shows the address."""
    digest = hashlib.sha256(email.encode()).hexdigest()
    return RecordKey("claim", f"email:{digest}", slot_of_text(f"email:{digest}"))


def login_claim(login: str) -> RecordKey:
    """The key of the claim that a login names, in any spelling. For an invalid name, that of "", which nobody has."""
    name = login.strip() if len(login) <= EMAIL_MAX else ""
    try:
        return email_claim(check_email(name)) if "@" in name else username_claim(check_username(name))
    except InvalidInput:
        return username_claim("")


def user_key(user_id: UserId) -> RecordKey:
    """The key of a user's record."""
    return RecordKey("user", user_id, slot_of(user_id))


@frozen
class User:
    """A user. `epoch` counts how often all sessions were ended; a session counts only in its own epoch.

    `version` is the record's, as it was read.
    """

    id: UserId
    username: str
    email: str
    password_hash: str
    created_at: datetime
    epoch: int = 0
    version: int = 1

    def to_record(self) -> Record:
        """The record, in its first version."""
        body = {
            "username": self.username,
            "email": self.email,
            "password_hash": self.password_hash,
            "created_at": to_micros(self.created_at),
            "epoch": self.epoch,
        }
        return Record("user", self.id, slot_of(self.id), self.id, 1, body)

    @classmethod
    def from_record(cls, record: Record | None) -> User | None:
        """The user of a record; None if there is none, or only a tombstone."""
        if record is None or record.body.get("tombstone"):
            return None
        body = record.body
        created_at = from_micros(int(str(body["created_at"])))
        names = str(body["username"]), str(body["email"]), str(body["password_hash"])
        return cls(UserId(record.id), *names, created_at, int(str(body.get("epoch", 0))), record.version)


def tombstone(user_id: UserId) -> Record:
    """The record that keeps a user id from ever being created: the fence against a slow sign-up."""
    return Record("user", user_id, slot_of(user_id), user_id, 1, {"tombstone": True})


class SessionKind(StrEnum):
    """`cookie`: a browser's, ends after 30 idle minutes or 12 hours. `bearer`: a mobile client's, lasts 30 days."""

    COOKIE = "cookie"
    BEARER = "bearer"


class FirstSession(StrEnum):
    """The session that somebody who signs up begins with."""

    COOKIE = SessionKind.COOKIE
    BEARER = SessionKind.BEARER
    NONE = "none"


IDLE: Final = {SessionKind.COOKIE: timedelta(minutes=30), SessionKind.BEARER: timedelta(days=30)}
ABSOLUTE: Final = {SessionKind.COOKIE: timedelta(hours=12), SessionKind.BEARER: timedelta(days=30)}
RENEWABLE: Final = {SessionKind.COOKIE: timedelta(hours=12), SessionKind.BEARER: timedelta(days=180)}
"""Until how long after the log-in a session can be renewed."""


FRESH: Final = timedelta(minutes=15)
"""How recently the password must have been given for verbs that take money out of the wallet."""


@frozen
class Session:
    """A log-in, or its renewal. Only the hash of its token is stored; `seen_at` moves the idle limit.

    `logged_in_at` is when the password was given, `visitor` where from, `epoch` the user's epoch at that time.
    """

    id: str
    user_id: UserId
    kind: SessionKind
    created_at: datetime
    seen_at: datetime
    logged_in_at: datetime
    epoch: int = 0
    visitor: Visitor | None = None

    @property
    def expires_at(self) -> datetime:
        """When the session ends. It moves with use of a cookie alone."""
        idle, absolute = self.seen_at + IDLE[self.kind], self.created_at + ABSOLUTE[self.kind]
        return min(idle, absolute, self.logged_in_at + RENEWABLE[self.kind])

    @property
    def key(self) -> RecordKey:
        """The key of its record, in its user's slot."""
        return RecordKey("session", self.id, slot_of(self.user_id))

    def to_record(self) -> Record:
        """The record, in its first version; due when the session ends."""
        body: dict[str, object] = {
            "kind": self.kind.value,
            "created_at": to_micros(self.created_at),
            "seen_at": to_micros(self.seen_at),
            "logged_in_at": to_micros(self.logged_in_at),
            "epoch": self.epoch,
        }
        if self.visitor is not None:
            body |= {"address": self.visitor.address, "user_agent": self.visitor.user_agent}
        return Record("session", self.id, slot_of(self.user_id), self.user_id, 1, body, self.expires_at)

    @classmethod
    def from_record(cls, record: Record) -> Session:
        """The session of a record."""
        body = record.body
        created, seen, logged_in = (
            from_micros(int(str(body[name] if name in body else body["created_at"])))
            for name in ("created_at", "seen_at", "logged_in_at")
        )
        visitor = Visitor(str(body["address"]), str(body["user_agent"])) if "address" in body else None
        kind = SessionKind(str(body["kind"]))
        epoch = int(str(body.get("epoch", 0)))
        return cls(record.id, UserId(record.owner), kind, created, seen, logged_in, epoch, visitor)


def make_token(slot: int, secret: str) -> str:
    """A session token in its user's slot; `secret` is 256 bits as 43 characters of URL-safe base64."""
    return f"{TOKEN_PREFIX}{slot:03x}{secret}"


def token_key(token: str) -> RecordKey | None:
    """The key of a token's session; None if the text is no token."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    return RecordKey("session", hashlib.sha256(token.encode()).hexdigest(), int(match["slot"], 16))
