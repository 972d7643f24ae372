"""What one decision may look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import InvariantViolated
from ..ids import AccountId, HoldId, TransferId, UserId
from ..model import (
    Account,
    AccountFacts,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    Transfer,
)
from .scope import Decision, ReadSet, Scope
from .state import State

R = TypeVar("R")


class Snapshot:
    """What one decision or read may see: exactly what its scope names. None means that there is no such record."""

    __slots__ = ("_scope", "_state")

    def __init__(self, state: State, scope: ReadSet | Scope) -> None:
        """Show what `scope` names of `state`."""
        self._state = state
        self._scope = scope

    def _named(self, name: object, where: Sequence[object]) -> None:
        if name not in where:
            raise _unseen(name)

    def account(self, account_id: AccountId) -> Account | None:
        """A full account of `scope.accounts`, with its pending credits in the balance."""
        account = self.received_account(account_id)
        return account if account is None or not self._state.pending else self._state.seen(account)

    def received_account(self, account_id: AccountId) -> Account | None:
        """A full account of `scope.accounts` without its pending credits: what its entries add up to."""
        if account_id not in self._scope.accounts:
            raise _unseen(account_id)
        return self._state.accounts.get(account_id)

    def facts(self, account_id: AccountId) -> AccountFacts | None:
        """The known facts of an account in `scope.credits`; the status may be out of date."""
        if account_id not in self._scope.credits:
            raise _unseen(account_id)
        account = self._state.accounts.get(account_id)
        if account is not None:
            return AccountFacts(account.id, account.owner, account.currency, account.status)
        return self._state.facts.get(account_id)

    def wallet(self, owner: UserId) -> tuple[Account, ...]:
        """All accounts of a user of `scope.wallets`, oldest first."""
        self._named(owner, self._scope.wallets)
        state = self._state
        return tuple(state.seen(state.accounts[i]) for i in state.wallets.get(owner, ()))

    def awaits_entries(self, owner: UserId) -> bool:
        """Whether a user of `scope.wallets` has pending credits, whose entries come soon."""
        self._named(owner, self._scope.wallets)
        return not self._state.pending.keys().isdisjoint(self._state.wallets.get(owner, ()))

    def hold(self, hold_id: HoldId) -> Hold | None:
        """A hold of `scope.holds`."""
        self._named(hold_id, self._scope.holds)
        return self._state.holds.get(hold_id)

    def holds_of(self, account_id: AccountId) -> tuple[Hold, ...]:
        """The open holds of an account that the scope's `due_at` or `open_holds` asked for, oldest first."""
        scope, known = self._scope, self._state.holds
        if not self._state.holds_of.get(account_id) and account_id in scope.accounts:
            return ()
        if account_id not in scope.accounts:
            owner = self._state.accounts[account_id].owner if account_id in self._state.accounts else None
            self._named(owner, scope.wallets)
        found = (known[i] for i in sorted(self._state.holds_of.get(account_id, ())))
        return tuple(
            hold
            for hold in found
            if hold.state is HoldState.OPEN
            and (scope.open_holds or (scope.due_at is not None and hold.is_due(scope.due_at)))
        )

    def transfer(self, transfer_id: TransferId) -> Transfer | None:
        """A transfer header of `scope.transfers`, as known on the home node."""
        self._named(transfer_id, self._scope.transfers)
        return self._state.transfers.get(transfer_id)

    def reversed_minor(self, transfer_id: TransferId) -> int:
        """The sum of the reversals of a transfer of `scope.transfers` so far."""
        self._named(transfer_id, self._scope.transfers)
        return self._state.reversed_minor.get(transfer_id, 0)

    def receipt(self, actor: str, key: str, slot: int | None = None) -> Receipt | None:
        """A receipt of `scope.receipts`; `slot` defaults to a command's home.

        Raises:
            InvariantViolated: the scope does not name this receipt in this slot.
        """
        scope = self._scope
        if slot is None and isinstance(scope, Scope):
            slot = scope.home
        if slot is None or not scope.names_receipt(name := (slot, actor, key)):
            raise _unseen((slot, actor, key))
        return self._state.receipts.get(name)

    def record(self, key: RecordKey) -> Record | None:
        """A record of `scope.records`."""
        self._named(key, self._scope.records)
        return self._state.records.get(key)


def _unseen(name: object) -> InvariantViolated:
    return InvariantViolated(f"looked at {name}, which the scope does not name")


Decide = Callable[[Snapshot], Decision[R]]
"""A pure, synchronous function: it may run several times, on any thread; one result is kept."""
