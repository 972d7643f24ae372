"""Typed, time-ordered ids that contain their slot.

An id is `<prefix>_<32 hex digits>`; the digits are a valid UUIDv7 (RFC 9562) whose 12 bits of `rand_a` hold the *slot*,
0 to 4,095. So any id can be routed to its node without a look-up, and ids sort by the time at which they were made.

A user's slot is a fixed hash of the rest of the user's id; everything that belongs to the user (accounts, holds,
transfers that the user leads, sessions) carries the same slot. The caller makes ids, and passes in time and entropy.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final, NewType

from .errors import InvalidInput, reasons
from .words import Worded

UserId = NewType("UserId", str)
AccountId = NewType("AccountId", str)
TransferId = NewType("TransferId", str)
HoldId = NewType("HoldId", str)
TopUpId = NewType("TopUpId", str)
WithdrawalId = NewType("WithdrawalId", str)

SLOTS: Final = 4096
"""How many slots there are. Users hash to slots; slots are placed on nodes."""

_ID = re.compile(r"(?P<prefix>usr|acc|trf|hld|top|wdr)_[0-9a-f]{12}7(?P<slot>[0-9a-f]{3})[89ab][0-9a-f]{15}", re.ASCII)
_NAMES: Final = {
    "usr": "user",
    "acc": "account",
    "trf": "transfer",
    "hld": "hold",
    "top": "top-up",
    "wdr": "withdrawal",
}
_LENGTH: Final = 36
_ENTROPY_BITS: Final = 62
SYSTEM_PREFIX: Final = "sys:"
_CLEARING: Final = "clearing/"
CLEARING_PREFIX: Final = f"{SYSTEM_PREFIX}{_CLEARING}"
"""What the ids of all clearing accounts between nodes begin with."""
"""What the id of every system account begins with, see `is_system`."""
OPERATOR: Final = "op:operator"
"""The actor of the command line: not a user, owns nothing, may act on any account."""


def slot_of_text(text: str) -> int:
    """The slot of a name that contains none, such as a username or an operator: a fixed hash, 0 to 4,095."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest(), "big") % SLOTS


def _uuid7(prefix: str, slot: int, at_ms: int, entropy: int) -> str:
    tail = (0b10 << _ENTROPY_BITS) | (entropy & ((1 << _ENTROPY_BITS) - 1))
    return f"{prefix}_{at_ms & 0xFFFF_FFFF_FFFF:012x}7{slot:03x}{tail:016x}"


def _user_slot(text: str) -> int:
    return slot_of_text(text[4:16] + text[20:])


def make_user_id(at_ms: int, entropy: int) -> UserId:
    """A new user id: `at_ms` is Unix time in milliseconds, `entropy` at least 62 random bits."""
    draft = _uuid7("usr", 0, at_ms, entropy)
    return UserId(_uuid7("usr", _user_slot(draft), at_ms, entropy))


def make_account_id(slot: int, at_ms: int, entropy: int) -> AccountId:
    """A new account id in its owner's slot; arguments as for `make_user_id`."""
    return AccountId(_uuid7("acc", slot, at_ms, entropy))


def make_transfer_id(slot: int, at_ms: int, entropy: int) -> TransferId:
    """A new transfer id in its leader's slot: fresh for each attempt, never derived from a key."""
    return TransferId(_uuid7("trf", slot, at_ms, entropy))


def make_hold_id(slot: int, at_ms: int, entropy: int) -> HoldId:
    """A new hold id in the slot of the account whose money is held."""
    return HoldId(_uuid7("hld", slot, at_ms, entropy))


def make_top_up_id(slot: int, at_ms: int, entropy: int) -> TopUpId:
    """A new top-up id in the slot of the account that is to be credited."""
    return TopUpId(_uuid7("top", slot, at_ms, entropy))


def make_withdrawal_id(slot: int, at_ms: int, entropy: int) -> WithdrawalId:
    """A new withdrawal id in the slot of the account whose money leaves."""
    return WithdrawalId(_uuid7("wdr", slot, at_ms, entropy))


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` is a well-formed id with that prefix (`usr`, `acc`, `trf`, `hld`, `top` or `wdr`)."""
    return len(text) == _LENGTH and _is_id(prefix, text)


@lru_cache(maxsize=4_096)
def _is_id(prefix: str, text: str) -> bool:
    """Cached, because each command checks the same few ids several times. Text of another length is never cached."""
    match = _ID.fullmatch(text)
    if match is None or match["prefix"] != prefix:
        return False
    return prefix != "usr" or _user_slot(text) == int(match["slot"], 16)


def _parse(prefix: str, text: str, field: str) -> str:
    if not is_id(prefix, text):
        raise InvalidInput(field, no_id(prefix, text))
    return text


def no_id(prefix: str, text: str) -> Worded:
    """Why a text is no id with this prefix."""
    return reasons.ID(text=repr(text[:48]), kind=_NAMES[prefix], prefix=prefix)


def parse_user_id(text: str, field: str = "userId") -> UserId:
    """Check a user id that came from outside, in the input's `field`. Raises InvalidInput."""
    return UserId(_parse("usr", text, field))


def parse_account_id(text: str, field: str = "accountId") -> AccountId:
    """Check an account id that came from outside, in the input's `field`. Raises InvalidInput."""
    return AccountId(_parse("acc", text, field))


def parse_transfer_id(text: str, field: str = "transferId") -> TransferId:
    """Check a transfer id that came from outside, in the input's `field`. Raises InvalidInput."""
    return TransferId(_parse("trf", text, field))


def parse_hold_id(text: str, field: str = "holdId") -> HoldId:
    """Check a hold id that came from outside, in the input's `field`. Raises InvalidInput."""
    return HoldId(_parse("hld", text, field))


def slot_of(identifier: str) -> int:
    """The slot that a well-formed id carries, 0 to 4,095."""
    return int(identifier[17:20], 16)


def actor_slot(actor: str) -> int:
    """The slot of an actor's own keys: a user's slot, or the hash of an operator's or a job's name."""
    return slot_of(actor) if is_id("usr", actor) else slot_of_text(actor)


def system_account(name: str, currency: str) -> AccountId:
    """The id of a system account, which exists on every node: `sys:stripe:EUR`, `sys:fees:EUR`."""
    return AccountId(f"{SYSTEM_PREFIX}{name}:{currency}")


def clearing_account(peer: str, currency: str) -> AccountId:
    """The clearing account towards the node `peer`: money in flight between this node and that one."""
    return system_account(f"{_CLEARING}{peer}", currency)


def is_system(account_id: str) -> bool:
    """Whether the account is a system account (no floor, no owner, no stored balance)."""
    return account_id.startswith(SYSTEM_PREFIX)


def is_clearing(account_id: str) -> bool:
    """Whether the account is a clearing account between nodes."""
    return account_id.startswith(CLEARING_PREFIX)


def system_currency(account_id: str) -> str:
    """The currency of a system account's id."""
    return account_id.rpartition(":")[2]
