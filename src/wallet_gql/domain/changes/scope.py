"""What a read loads (`ReadSet`), what a command loads (`Scope`) and what it writes (`Changes`): plain values."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from typing import Any, Generic, TypeVar

from ..errors import InvariantViolated
from ..frozen import frozen
from ..ids import AccountId, HoldId, TransferId, UserId, slot_of
from ..model import (
    Account,
    AccountStatus,
    Hold,
    Receipt,
    Record,
    RecordKey,
    Transfer,
)

R = TypeVar("R")


ReceiptName = tuple[int, str, str]
"""Where a receipt is: slot, actor, key."""


@frozen(kw_only=True)
class _Named:
    """The fields that reads and commands share.

    Of accounts in `credits` only the facts are loaded: owner, currency, status. `wallets` loads every account of those
    users. `due_at` also loads the open holds of `accounts` that expire at or before that time; `open_holds` loads all
    their open holds.
    """

    accounts: tuple[AccountId, ...] = ()
    credits: tuple[AccountId, ...] = ()
    wallets: tuple[UserId, ...] = ()
    holds: tuple[HoldId, ...] = ()
    transfers: tuple[TransferId, ...] = ()
    records: tuple[RecordKey, ...] = ()
    due_at: datetime | None = None
    open_holds: bool = False


@frozen(kw_only=True)
class ReadSet(_Named):
    """What to read without locks, of any slots; the fields are those of `_Named`."""

    receipts: tuple[ReceiptName, ...] = ()

    @property
    def receipt_names(self) -> tuple[ReceiptName, ...]:
        """The receipts with their slots."""
        return self.receipts

    def names_receipt(self, name: ReceiptName) -> bool:
        """Whether it names the receipt."""
        return name in self.receipts


@frozen
class Scope(_Named):
    """The records a command decides on. All but `credits` live in the slot `home` and are isolated until the commit.

    The other fields are those of `_Named`; `receipts` are (actor, key).
    """

    home: int
    receipts: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)

    @property
    def receipt_names(self) -> tuple[ReceiptName, ...]:
        """The receipts with their slot, which is `home`."""
        return tuple([(self.home, actor, key) for actor, key in self.receipts])  # faster than a generator

    def names_receipt(self, name: ReceiptName) -> bool:
        """Whether it names the receipt."""
        slot, actor, key = name
        return slot == self.home and (actor, key) in self.receipts

    def check_home(self) -> None:
        """Raise InvariantViolated if the scope names something to lock outside its home slot."""
        home = self.home
        outside = [i for i in (*self.accounts, *self.wallets, *self.holds) if slot_of(i) != home]
        if self.records:
            outside += [k.id for k in self.records if k.slot != home]
        if outside:
            raise InvariantViolated(f"the scope of slot {self.home} names {outside} of other slots")


@frozen
class Changes:
    """What a command writes. Balances, sequences and entries follow from `transfers`, `placed` and `closed`."""

    opened: tuple[Account, ...] = ()
    statuses: tuple[tuple[AccountId, AccountStatus], ...] = ()
    transfers: tuple[Transfer, ...] = ()
    placed: tuple[Hold, ...] = ()
    closed: tuple[Hold, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    records: tuple[Record, ...] = ()
    removed: tuple[RecordKey, ...] = ()

    def with_receipt(self, receipt: Receipt) -> Changes:
        """These changes and one more receipt."""
        return Changes(
            self.opened,
            self.statuses,
            self.transfers,
            self.placed,
            self.closed,
            (*self.receipts, receipt),
            self.records,
            self.removed,
        )

    def __add__(self, other: Changes) -> Changes:
        """Both changes together, in order."""
        return Changes(
            self.opened + other.opened,
            self.statuses + other.statuses,
            self.transfers + other.transfers,
            self.placed + other.placed,
            self.closed + other.closed,
            self.receipts + other.receipts,
            self.records + other.records,
            self.removed + other.removed,
        )


@frozen
class Credit:
    """The only thing that crosses nodes: `amount_minor` for a customer account of another node. Credits commute."""

    account_id: AccountId
    amount_minor: int
    transfer: Transfer
    leader: str
    """The name of the node that sends it."""


@frozen
class Decision(Generic[R]):
    """What a decide function returns: what to write, and the answer for the caller."""

    changes: Changes
    result: R


@frozen
class Done(Generic[R]):
    """A decision that goes into the commit. `peers` names the nodes that have not confirmed its credits yet.

    `accounts` are the accounts of its scope as the decision leaves them, where anything of the batch has changed them.
    """

    result: R
    peers: frozenset[str] = frozenset()
    accounts: tuple[Account, ...] = ()


@frozen
class Failed:
    """A decision that raised: nothing of it is written."""

    error: BaseException


@frozen
class Unreceived(Failed):
    """Not decided: an account has more pending credits than one batch receives. The command goes into the next one."""


Outcome = Done[Any] | Failed
