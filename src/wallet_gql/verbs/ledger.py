"""The ledger: one method per verb, the same for every transport and every backend.

Verbs that move, reserve or release money go through `keyed.run`. Each decision checks ownership itself, so there is no
gap between check and use.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from ..domain import commands, rules
from ..domain.annotations import UNANNOTATED, Annotation
from ..domain.changes import Decision, ReadSet, Scope, Snapshot
from ..domain.errors import AccountNotFound, HoldNotFound, Rejected, TransferNotFound, Unauthenticated
from ..domain.frozen import frozen
from ..domain.ids import (
    OPERATOR,
    AccountId,
    HoldId,
    TransferId,
    UserId,
    actor_slot,
    is_id,
    make_account_id,
    parse_account_id,
    slot_of,
)
from ..domain.model import Account, AccountStatus, Hold, RecordKey, Transfer
from ..domain.money import check_currency
from ..domain.security_events import STATUS_EVENTS, SecurityEvent, make_event_id
from ..domain.spending import Limits
from ..domain.users import User, user_key
from ..idempotency import Attempt, Refused, check_key, replay
from ..records import LIMIT, Backlog, Due, Sweep, Swept
from ..storage import TIMEOUT_SECONDS, Committed, HistoryLine, Page, PageRequest, Store
from .attempts import milliseconds
from .holds import HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX, CaptureHoldVerb, PlaceHoldVerb, VoidHoldVerb
from .keyed import Posted, outcome_of, run
from .lookups import To, header_of, hold_of, owns, transfer_seen_by
from .preview import KEY as PREVIEW
from .preview import Preview, preview
from .transfers import DepositVerb, ReverseVerb, TransferVerb, WithdrawVerb

__all__ = ["HOLD_SECONDS_DEFAULT", "HOLD_SECONDS_MAX", "Known", "Ledger", "Posted", "To", "utc_now"]

R = TypeVar("R")


def utc_now() -> datetime:
    """The server's clock."""
    return datetime.now(UTC)


@frozen
class Known:
    """The outcome of a key: its transfer, its hold as it is now, or its refusal."""

    operation: str
    at: datetime
    transfer: Transfer | None
    hold: Hold | None
    refusal: Rejected | None


class Ledger:
    """The wallet's verbs over any store."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        entropy: Callable[[], int] = lambda: secrets.randbits(62),
        transfer_fee_basis_points: int = 0,
        timeout_seconds: float = TIMEOUT_SECONDS,
        spending_limits: Mapping[str, Limits] | None = None,
    ) -> None:
        """A payee gets `transfer_fee_basis_points` (1/10,000) less; `timeout_seconds` bounds a write.

        `spending_limits` are those of every user, by currency; a currency that is not named has none.
        """
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.transfer_fee_basis_points = transfer_fee_basis_points
        self.timeout_seconds = timeout_seconds
        self.spending_limits = {} if spending_limits is None else spending_limits
        self._expiry = Sweep(Backlog(store, "hold", clock, group=_account_of), self._expire)

    # Accounts

    async def open_account(self, owner: UserId, currency: str) -> Account:
        """Open the user's account in a currency.

        Raises:
            InvalidInput: unknown currency. Unauthenticated: no such user.
            AccountExists: there is one that is not closed. LimitExceeded: too many were closed.
        """
        check_currency(currency)
        now = self.clock()
        account_id = make_account_id(slot_of(owner), milliseconds(now), self.entropy())
        command = commands.OpenAccount(account_id, owner, currency)
        scope = Scope(slot_of(owner), wallets=(owner,), records=(user_key(owner),))

        def decide(snapshot: Snapshot) -> Decision[Account]:
            if User.from_record(snapshot.record(user_key(owner))) is None:
                raise Unauthenticated
            changes = rules.open_account(snapshot, command, now)
            return Decision(changes, changes.opened[0])

        return (await self._execute(scope, decide)).result

    async def accounts(self, owner: UserId) -> tuple[Account, ...]:
        """The user's accounts, oldest first. Holds that have expired no longer count."""
        snapshot = await self.store.fetch(ReadSet(wallets=(owner,)))
        found = snapshot.wallet(owner)
        if not any(account.held_minor for account in found):
            return found
        now = self.clock()
        ids = tuple(account.id for account in found)
        current = await self.store.fetch(ReadSet(accounts=ids, due_at=now))
        return tuple(_released(current, account_id, now) for account_id in ids)

    async def account(self, actor: str, account_id: AccountId) -> Account:
        """One of the actor's accounts; an operator may read any. Raises AccountNotFound."""
        foreign = actor != OPERATOR and is_id("acc", account_id) and slot_of(account_id) != actor_slot(actor)
        if foreign or not is_id("acc", account_id):
            raise AccountNotFound(account_id)
        now = self.clock()
        snapshot = await self.store.fetch(ReadSet(accounts=(account_id,), due_at=now))
        found = snapshot.account(account_id)
        if found is None or actor not in (found.owner, OPERATOR):
            raise AccountNotFound(account_id)
        return _released(snapshot, account_id, now)

    async def history(self, account: Account, page: PageRequest) -> Page[HistoryLine]:
        """A page of an account's entries with their transfers. The caller must have got `account` from this ledger."""
        return await self.store.list_transfers(account.id, page)

    async def set_account_status(self, actor: str, account_id: AccountId, status: AccountStatus) -> None:
        """Freeze, unfreeze (operators) or close (also the owner). Raises what `rules.set_account_status` does."""
        parse_account_id(account_id)
        now = self.clock()
        command = commands.SetAccountStatus(actor, account_id, status)
        event = SecurityEvent(make_event_id(now, self.entropy()), STATUS_EVENTS[status], now, subject=account_id)
        key = RecordKey("event", event.id, slot_of(account_id))
        scope = Scope(key.slot, accounts=(account_id,), records=(key,), due_at=now)

        def decide(snapshot: Snapshot) -> Decision[None]:
            changes = rules.set_account_status(snapshot, command, now)
            found = snapshot.account(account_id)
            assert found is not None
            return Decision(replace(changes, records=(event.to_record(UserId(found.owner)),)), None)

        await self._execute(scope, decide)

    # Money

    async def transfer(
        self,
        actor: UserId,
        key: str,
        *,
        source: AccountId,
        to: To,
        amount_minor: int,
        currency: str,
        reference: str = "",
        annotation: Annotation = UNANNOTATED,
    ) -> Posted[Transfer]:
        """Pay from one's own account. `annotation` is what the payer notes about it, in the same commit.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.transfer`; remembered under the key.
            Unavailable, InDoubt: retry with the same key.
        """
        fee = self.transfer_fee_basis_points
        money = amount_minor, currency
        return await run(self, TransferVerb(actor, key, source, to, *money, reference, fee, annotation))

    async def deposit(
        self, actor: str, key: str, account_id: AccountId, amount_minor: int, currency: str, *, reference: str = ""
    ) -> Posted[Transfer]:
        """Bring money in from outside, against the node's cash account. For operators.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.deposit`. Unavailable, InDoubt: retry with the same key.
        """
        return await run(self, DepositVerb(actor, key, account_id, amount_minor, currency, reference))

    async def withdraw(
        self, actor: str, key: str, account_id: AccountId, amount_minor: int, currency: str, *, reference: str = ""
    ) -> Posted[Transfer]:
        """Send money out at once, against the node's cash account. Raises as `deposit`, and InsufficientFunds."""
        return await run(self, WithdrawVerb(actor, key, account_id, amount_minor, currency, reference))

    async def reverse_transfer(
        self, actor: str, key: str, transfer_id: TransferId, *, amount_minor: int | None = None, reference: str = ""
    ) -> Posted[Transfer]:
        """Send a received transfer back: `amount_minor`, or all that has not been sent back yet.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.reverse_transfer`.
            Unavailable, InDoubt: retry with the same key; also if the transfer has not reached its payee yet.
        """
        return await run(self, ReverseVerb(actor, key, transfer_id, amount_minor, reference))

    async def preview_transfer(
        self, actor: UserId, *, source: AccountId, to: To, amount_minor: int, currency: str
    ) -> Preview | Rejected:
        """What `transfer` would do now, or how it would be refused. Raises RateLimited, Unavailable."""
        fee = self.transfer_fee_basis_points
        return await preview(self, TransferVerb(actor, PREVIEW, source, to, amount_minor, currency, "", fee), source)

    async def preview_hold(
        self, actor: UserId, *, source: AccountId, to: To, amount_minor: int, currency: str, expires_in_seconds: int
    ) -> Preview | Rejected:
        """What `place_hold` would do now, or how it would be refused. Raises RateLimited, Unavailable."""
        verb = PlaceHoldVerb(actor, PREVIEW, source, to, amount_minor, currency, expires_in_seconds, "")
        return await preview(self, verb, source, capture_basis_points=self.transfer_fee_basis_points)

    # Holds

    async def place_hold(
        self,
        actor: UserId,
        key: str,
        *,
        source: AccountId,
        to: To,
        amount_minor: int,
        currency: str,
        expires_in_seconds: int = HOLD_SECONDS_DEFAULT,
        reference: str = "",
    ) -> Posted[Hold]:
        """Reserve money for a payee, for `expires_in_seconds` (1 second to 30 days) from the server's acceptance.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.place_hold`. Unavailable, InDoubt: retry with the same key.
        """
        money = amount_minor, currency
        return await run(self, PlaceHoldVerb(actor, key, source, to, *money, expires_in_seconds, reference))

    async def capture_hold(
        self, actor: str, key: str, hold_id: HoldId, *, amount_minor: int | None = None
    ) -> Posted[Transfer]:
        """Capture a hold, all of it or `amount_minor`; the rest is released.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.capture_hold`. Unavailable, InDoubt: retry with the same key.
        """
        fee = self.transfer_fee_basis_points
        return await run(self, CaptureHoldVerb(actor, key, hold_id, amount_minor, fee))

    async def void_hold(self, actor: str, key: str, hold_id: HoldId) -> Posted[Hold]:
        """Release a hold's money to its payer.

        Raises:
            InvalidInput, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.void_hold`. Unavailable, InDoubt: retry with the same key.
        """
        return await run(self, VoidHoldVerb(actor, key, hold_id))

    async def expire_due_holds(self, limit: int = LIMIT) -> Swept:
        """The sweep: close expired holds. Decisions do not wait for it."""
        return await self._expiry.run(limit)

    async def _expire(self, hold: Due) -> bool:
        """Close all due holds of the account of `hold`."""
        account_id, now = _account_of(hold), self.clock()
        command = commands.ExpireHolds(account_id)
        scope = Scope(slot_of(account_id), accounts=(account_id,), due_at=now)
        await self._execute(scope, lambda snapshot: Decision(rules.expire_holds(snapshot, command, now), None))
        return True

    # Reading single things

    async def hold(self, actor: str, hold_id: HoldId) -> Hold:
        """A hold that the actor placed or may close. Raises HoldNotFound."""
        if not is_id("hld", hold_id):
            raise HoldNotFound(hold_id)
        found = await hold_of(self.store, hold_id)
        if found is None or not (actor in (found.closer, OPERATOR) or await owns(self.store, actor, found.account_id)):
            raise HoldNotFound(hold_id)
        return found

    async def transfer_by_id(self, actor: str, transfer_id: TransferId) -> Transfer:
        """A transfer that the actor paid or received. Raises TransferNotFound."""
        if not is_id("trf", transfer_id):
            raise TransferNotFound(transfer_id)
        return await transfer_seen_by(self.store, actor, transfer_id)

    async def outcome(self, actor: str, key: str) -> Known | None:
        """What is known of one of the actor's keys. None proves nothing, as a commit may be on its way: retry."""
        found = await outcome_of(self.store, actor, check_key(key))
        if found is None:
            return None
        kept = replay(found, Attempt(found.slot, actor, found.key, found.operation, found.fingerprint))
        if isinstance(kept, Refused):
            return Known(found.operation, found.at, None, None, kept.error)
        transfer = await header_of(self.store, found.transfer_id) if found.transfer_id else None
        placed = (kept.outcome or {}).get("hold")
        hold = await hold_of(self.store, HoldId(str(placed["id"]))) if isinstance(placed, dict) else None
        return Known(found.operation, found.at, transfer, hold, None)

    async def _execute(self, scope: Scope, decide: Callable[[Snapshot], Decision[R]]) -> Committed[R]:
        return await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)


def _account_of(hold: Due) -> AccountId:
    assert isinstance(hold, Hold)
    return hold.account_id


def _released(snapshot: Snapshot, account_id: AccountId, now: datetime) -> Account:
    """The account as it counts now: money of expired holds is available again."""
    account = snapshot.account(account_id)
    assert account is not None
    due_minor = rules.due_minor(snapshot, account_id, now)
    return replace(account, held_minor=account.held_minor - due_minor) if due_minor else account
