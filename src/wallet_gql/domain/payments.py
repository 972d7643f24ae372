"""What top-ups and withdrawals have in common: the provider as an actor, its accounts, and alarms.

Nothing can be atomic between the wallet and a payment provider. So each flow is a record that stores its state. Every
call outside is one *step* between two commits, with an idempotency key made from the record's id. Money moves in the
commit that stores why. Pure functions fold what the provider says into the record. Each effect happens once: a receipt
named by (object, effect) commits with the money.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from .changes import Changes
from .codec import from_micros, to_micros
from .frozen import frozen
from .ids import OPERATOR, AccountId, TopUpId, TransferId, WithdrawalId, slot_of_text, system_account
from .model import Receipt, Record, RecordKey, Transfer

F = TypeVar("F")

PROVIDER: Final = "op:stripe"
"""The actor of everything the provider did. It is not a user and owns nothing."""

STRIPE: Final = "stripe"
"""The system account that stands for the balance at the provider, with the opposite sign."""

RECEIVABLE: Final = "receivable"
"""The system account of what customers owe after the provider took back more than they had left."""

QUARANTINE: Final = "quarantine"
"""The kind of alarm records: the provider reported something that cannot be right, and an operator must check it.

They are listed by owner: an open alarm is the provider's, a settled one the operator's. So whoever counts the open ones
does not read the others.
"""

NOTE_MAX: Final = 500
"""How many characters an operator's note on an alarm may have."""

_ALARM_ID: Final = re.compile(r"alm_(?P<name>[0-9a-f]{32})(?P<slot>[0-9a-f]{3})", re.ASCII)


def stripe_account(currency: str) -> AccountId:
    """The id of the provider's system account in a currency."""
    return system_account(STRIPE, currency)


def next_look(now: datetime, looks: int, first_seconds: int, most_seconds: int) -> datetime:
    """When to look at a flow again: the pause doubles each time, from `first_seconds` to `most_seconds`."""
    return now + timedelta(seconds=min(first_seconds << min(looks, 20), most_seconds))


def effect_receipt(moved: Transfer, operation: str, flow_id: TopUpId | WithdrawalId) -> Receipt:
    """The receipt of one of the provider's effects. Its key is (object, effect), as in the transfer.

    `flow_id` is the top-up or withdrawal that it belongs to.
    """
    key, outcome = moved.idempotency_key, json.dumps({"ok": {"flow": flow_id}}, separators=(",", ":"))
    return Receipt(moved.slot, PROVIDER, key, operation, key, moved.at, moved.id, outcome)


def flow_id_of(receipt: Receipt | None) -> str | None:
    """The top-up or withdrawal of one of the provider's effects; None if its receipt does not say."""
    if receipt is None or receipt.outcome is None:
        return None
    return text_of(json.loads(receipt.outcome).get("ok", {}), "flow")


@frozen
class Step(Generic[F]):
    """One step of a flow: its new record, and the changes that commit with it.

    `alarm` is set if what the provider reports cannot be right; then no money moves.
    """

    flow: F
    changes: Changes = field(default_factory=Changes)
    alarm: Alarm | None = None


@frozen
class Alarm:
    """Something that only an operator can settle. `about` is the provider's object, `reason` says what is wrong.

    `flow_id` is the top-up or withdrawal it claims to belong to, or empty. Nothing in it is secret.
    """

    about: str
    reason: str
    flow_id: str = ""

    def key(self, slot: int | None = None) -> RecordKey:
        """The key of its record: a digest of its text, so that it is raised once. `slot` is the flow's, if any."""
        name = hashlib.sha256(f"{self.about}\n{self.reason}\n{self.flow_id}".encode()).hexdigest()[:32]
        return RecordKey(QUARANTINE, name, slot_of_text(name) if slot is None else slot)

    def printable(self) -> Alarm:
        """The alarm on one line of limited length, for people."""
        return Alarm(_printable(self.about[:200]), _printable(self.reason[:500]), _printable(self.flow_id[:100]))

    def to_record(self, at: datetime, slot: int | None = None) -> Record:
        """As it is stored."""
        key, told = self.key(slot), self.printable()
        body: dict[str, object] = {"about": told.about, "reason": told.reason, "flow": told.flow_id}
        body["at"] = to_micros(at)
        return Record(key.kind, key.id, key.slot, PROVIDER, 1, body)


@frozen
class Settlement:
    """That an operator has seen to an alarm: who, when, and what was done, in up to `NOTE_MAX` characters."""

    by: str
    at: datetime
    note: str


@frozen
class StoredAlarm:
    """An alarm as it is stored, raised at `at`. It is open until it has a settlement."""

    id: str
    alarm: Alarm
    at: datetime
    settlement: Settlement | None = None

    @classmethod
    def from_record(cls, record: Record) -> StoredAlarm:
        """The alarm of a record. Its id has the record's name and slot, so that it can be found again."""
        body, settlement = record.body, None
        if "settled_at" in body:
            settlement = Settlement(str(body["settled_by"]), time_of(body, "settled_at"), str(body["note"]))
        alarm = Alarm(str(body["about"]), str(body["reason"]), str(body["flow"]))
        return cls(f"alm_{record.id}{record.slot:03x}", alarm, time_of(body, "at"), settlement)


def alarm_key(alarm_id: str) -> RecordKey | None:
    """The key of a stored alarm's record; None if the text is no id of an alarm."""
    found = _ALARM_ID.fullmatch(alarm_id)
    return None if found is None else RecordKey(QUARANTINE, found["name"], int(found["slot"], 16))


def settled(record: Record, settlement: Settlement) -> Record:
    """The next version of an open alarm's record: settled, and listed with the operator's."""
    body = {**record.body, "settled_by": settlement.by, "settled_at": to_micros(settlement.at), "note": settlement.note}
    return replace(record, owner=OPERATOR).next(body, None)


def wrong_mode(about: str | None, flow_id: str, *, asked_live: bool | None, live: bool) -> Alarm | None:
    """The alarm of a flow requested in live mode when the key is for tests, or the reverse. No call is made for it."""
    if asked_live in (None, live):
        return None
    mode = "live" if asked_live else "test"
    return Alarm(about or "", f"it was asked for in {mode} mode, and the key is of the other", flow_id)


def _printable(text: str) -> str:
    """The provider's text on one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def time_of(body: Mapping[str, object], name: str) -> datetime:
    """A time in a record's body."""
    return from_micros(int(str(body[name])))


def text_of(body: Mapping[str, object], name: str) -> str | None:
    """A text in a record's body; None if there is none."""
    value = body.get(name)
    return None if value is None else str(value)


def transfer_of(body: Mapping[str, object], name: str) -> TransferId | None:
    """A transfer's id in a record's body; None if there is none."""
    value = text_of(body, name)
    return None if value is None else TransferId(value)
