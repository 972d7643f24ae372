"""The ledger: one method a verb, the same for every transport and every backend.

A verb checks the input's shape, builds the scope, and hands the store a pure decision: the rule of `domain.rules`,
wrapped with idempotency. Ownership is part of the decision, so there is no gap between check and use. Time and ids are
made here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from ..domain import commands, merchants, rules
from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.codec import decode, encode
from ..domain.errors import (
    AccountNotFound,
    Contended,
    HoldNotFound,
    IdempotencyKeyReused,
    InvalidInput,
    InvariantViolated,
    NotReversible,
    Rejected,
    TransferNotFound,
    Unauthenticated,
    Unavailable,
)
from ..domain.ids import (
    OPERATOR,
    AccountId,
    HoldId,
    TransferId,
    UserId,
    actor_slot,
    is_id,
    is_system,
    make_account_id,
    make_hold_id,
    make_transfer_id,
    parse_account_id,
    parse_hold_id,
    parse_transfer_id,
    slot_of,
    system_account,
)
from ..domain.merchants import Terms, terms_key
from ..domain.model import CASH, Account, AccountStatus, Hold, Record, RecordKey, Transfer, TransferKind
from ..domain.money import check_currency
from ..domain.security_events import STATUS_EVENTS, SecurityEvent, make_event_id
from ..domain.users import User, check_username, user_key, username_claim
from ..idempotency import Answer, Attempt, Effect, Fresh, Refused, Replayed, check_key, claim, once, replay
from ..records import LIMIT, Backlog, Due, Sweep, Swept
from ..storage import TIMEOUT_SECONDS, Committed, HistoryLine, Page, PageRequest, Store
from .attempts import check_money, check_reference, milliseconds, money_scope, new_attempt

R = TypeVar("R")

HOLD_SECONDS_MAX: Final = 30 * 24 * 3600
HOLD_SECONDS_DEFAULT: Final = 7 * 24 * 3600


def utc_now() -> datetime:
    """The server's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Posted(Generic[R]):
    """A money command that is in the books, now or earlier.

    `replayed`: the key was used before, this is the first answer again. `credited`: the payee's node has it already.
    """

    result: R
    replayed: bool
    credited: bool


@dataclass(frozen=True, slots=True)
class Known:
    """The outcome of a key: the transfer that it stands for, the hold as it is now, or the refusal."""

    operation: str
    at: datetime
    transfer: Transfer | None
    hold: Hold | None
    refusal: Rejected | None


@dataclass(frozen=True, slots=True)
class To:
    """Whom to pay: exactly one of an account id and a username."""

    account_id: AccountId | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if (self.account_id is None) == (self.username is None):
            raise InvalidInput("to", "exactly one of accountId and username")


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
    ) -> None:
        """`transfer_fee_basis_points` (1/10,000) are kept from what a payee gets; `timeout_seconds` bounds a write."""
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.transfer_fee_basis_points = transfer_fee_basis_points
        self.timeout_seconds = timeout_seconds
        self._expiry = Sweep(Backlog(store, "hold", clock, group=_account_of), self._expire)

    # Accounts

    async def open_account(self, owner: UserId, currency: str) -> Account:
        """Open the user's account in a currency.

        Raises:
            InvalidInput: unknown currency. AccountExists: there is one already. Unauthenticated: no such user.
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
        """The user's accounts, oldest first; holds whose time is over no longer count."""
        snapshot = await self.store.fetch(Scope(slot_of(owner), wallets=(owner,)))
        found = snapshot.wallet(owner)
        if not any(account.held_minor for account in found):
            return found
        now = self.clock()
        ids = tuple(account.id for account in found)
        current = await self.store.fetch(Scope(slot_of(owner), accounts=ids, due_at=now))
        return tuple(_released(current, account_id, now) for account_id in ids)

    async def account(self, actor: str, account_id: AccountId) -> Account:
        """One of the actor's accounts; an operator sees any. Raises AccountNotFound."""
        foreign = actor != OPERATOR and is_id("acc", account_id) and slot_of(account_id) != actor_slot(actor)
        if foreign or not is_id("acc", account_id):
            raise AccountNotFound(account_id)
        now = self.clock()
        snapshot = await self.store.fetch(Scope(slot_of(account_id), accounts=(account_id,), due_at=now))
        found = snapshot.account(account_id)
        if found is None or actor not in (found.owner, OPERATOR):
            raise AccountNotFound(account_id)
        return _released(snapshot, account_id, now)

    async def history(self, account: Account, page: PageRequest) -> Page[HistoryLine]:
        """A page of an account's entries with their transfers. The caller has got `account` from this ledger."""
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
    ) -> Posted[Transfer]:
        """Pay somebody from one's own account.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.transfer` says; remembered under the key.
            Unavailable, InDoubt: retry with the same key.
        """
        check_money(amount_minor, currency, reference)
        parse_account_id(source, "fromAccountId")
        attempt = self.transfer_attempt(actor, key, source, to, amount_minor, currency, reference)
        try:
            payee = await self.payee(to, currency)
        except Unavailable:
            kept = await self.kept(attempt)
            if kept is None:
                raise
            return await self.posted(kept, attempt, credited=False)
        now = self.clock()
        command = commands.MoveMoney(
            transfer_id=make_transfer_id(attempt.slot, milliseconds(now), self.entropy()),
            actor=actor,
            key=key,
            source=source,
            payee=payee,
            amount_minor=amount_minor,
            currency=currency,
            fee_minor=rules.fee_minor(amount_minor, self.transfer_fee_basis_points),
            reference=reference,
        )
        scope = money_scope(attempt, source, payee.account_id, now)
        return await self.move(scope, attempt, now, lambda snapshot: rules.transfer(snapshot, command, now))

    def transfer_attempt(  # noqa: PLR0917 - in the order of the fingerprint
        self, actor: str, key: str, source: AccountId, to: To, amount_minor: int, currency: str, reference: str
    ) -> Attempt:
        """A transfer's attempt: the same input gives the same fingerprint, alone or in a batch."""
        values = {"from": source, "toAccount": to.account_id, "toUsername": to.username, "reference": reference}
        return new_attempt(actor, key, "transfer", actor_slot(actor), amount_minor, currency, values)

    async def deposit(
        self, actor: str, key: str, account_id: AccountId, amount_minor: int, currency: str, *, reference: str = ""
    ) -> Posted[Transfer]:
        """Bring money in from outside, against the node's cash account (an operator's act).

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.deposit` says. Unavailable, InDoubt: retry with the same key.
        """
        return await self._external("deposit", actor, key, account_id, amount_minor, currency, reference)

    async def withdraw(
        self, actor: str, key: str, account_id: AccountId, amount_minor: int, currency: str, *, reference: str = ""
    ) -> Posted[Transfer]:
        """Send money out at once, against the node's cash account. Raises as `deposit`, and InsufficientFunds."""
        return await self._external("withdraw", actor, key, account_id, amount_minor, currency, reference)

    async def _external(  # noqa: PLR0917 - called by its two verbs alone
        self, verb: str, actor: str, key: str, account_id: AccountId, amount_minor: int, currency: str, reference: str
    ) -> Posted[Transfer]:
        check_money(amount_minor, currency, reference)
        parse_account_id(account_id)
        values = {"account": account_id, "reference": reference}
        slot = actor_slot(actor) if is_id("usr", actor) else slot_of(account_id)
        attempt = new_attempt(actor, key, verb, slot, amount_minor, currency, values)
        await self._claim(attempt)
        now = self.clock()
        command = commands.MoveExternal(
            transfer_id=make_transfer_id(attempt.slot, milliseconds(now), self.entropy()),
            actor=actor,
            key=key,
            account_id=account_id,
            counterpart=system_account(CASH, currency),
            amount_minor=amount_minor,
            currency=currency,
            reference=reference,
        )
        rule = rules.deposit if verb == "deposit" else rules.withdraw
        scope = money_scope(attempt, account_id, None, now)
        return await self.move(scope, attempt, now, lambda snapshot: rule(snapshot, command, now))

    async def reverse_transfer(
        self, actor: str, key: str, transfer_id: TransferId, *, amount_minor: int | None = None, reference: str = ""
    ) -> Posted[Transfer]:
        """Send a received transfer back, all that is left of it or `amount_minor`.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.reverse_transfer` says.
            Unavailable, InDoubt: retry with the same key; also while the transfer has not reached its payee yet.
        """
        check_reference(reference)
        parse_transfer_id(transfer_id)
        values = {"transfer": transfer_id, "reference": reference}
        drafted = new_attempt(actor, key, "reverseTransfer", actor_slot(actor), amount_minor, None, values)
        original = await self._header(transfer_id)
        if original is None or not await self._concerns(actor, original):
            await self._report(drafted, TransferNotFound(transfer_id))
        assert original is not None
        if is_system(original.credit_account_id):
            await self._report(drafted, NotReversible(transfer_id, original.kind))
        attempt = replace(drafted, slot=slot_of(original.credit_account_id))
        await self._claim(attempt)
        now = self.clock()
        terms = await self.terms(original)
        source, target = original.credit_account_id, merchants.returned_to(original, terms)
        command = commands.ReverseTransfer(
            transfer_id=make_transfer_id(attempt.slot, milliseconds(now), self.entropy()),
            actor=actor,
            key=key,
            original_id=transfer_id,
            source=source,
            target=target,
            amount_minor=amount_minor,
            reference=reference,
            limit_minor=merchants.refundable_minor(original, terms),
        )
        scope = replace(money_scope(attempt, source, target, now), transfers=(transfer_id,))

        def rule(snapshot: Snapshot) -> Changes:
            if snapshot.transfer(transfer_id) is None:  # it is certain, for its payer's home has it: not to be refused
                raise Contended("the transfer has not reached its payee yet")
            return rules.reverse_transfer(snapshot, command, now)

        return await self.move(scope, attempt, now, rule)

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
        fee_basis_points: int | None = None,
        operation: str = "placeHold",
    ) -> Posted[Hold]:
        """Reserve money for a payee, for `expires_in_seconds` (1 second to 30 days) from the server's acceptance.

        `fee_basis_points` is agreed for the capture, instead of the wallet's fee on transfers; `operation` is the name
        under which the key is used.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.place_hold` says. Unavailable, InDoubt: retry with the same key.
        """
        check_money(amount_minor, currency, reference)
        parse_account_id(source, "fromAccountId")
        if not 1 <= expires_in_seconds <= HOLD_SECONDS_MAX:
            raise InvalidInput("expiresInSeconds", f"1 to {HOLD_SECONDS_MAX}")
        values = {"from": source, "toAccount": to.account_id, "toUsername": to.username, "reference": reference}
        values["expiresInSeconds"] = str(expires_in_seconds)
        attempt = new_attempt(actor, key, operation, actor_slot(actor), amount_minor, currency, values)
        payee = await self.payee(to, currency)
        now = self.clock()
        command = commands.PlaceHold(
            hold_id=make_hold_id(attempt.slot, milliseconds(now), self.entropy()),
            actor=actor,
            key=key,
            source=source,
            payee=payee,
            amount_minor=amount_minor,
            currency=currency,
            expires_at=now + timedelta(seconds=expires_in_seconds),
            reference=reference,
        )
        scope = replace(money_scope(attempt, source, payee.account_id, now), open_holds=True)
        agreed: tuple[Record, ...] = ()
        if fee_basis_points is not None:
            agreed = (merchants.hold_terms(command.hold_id, fee_basis_points),)
            scope = replace(scope, records=(agreed[0].key,))

        def effect(snapshot: Snapshot) -> Effect[Hold]:
            changes = rules.place_hold(snapshot, command, now) + Changes(records=agreed)
            return Effect(changes, changes.placed[0], {"hold": encode(changes.placed[0])})

        return await self._close(scope, attempt, now, effect)

    async def capture_hold(
        self, actor: str, key: str, hold_id: HoldId, *, amount_minor: int | None = None
    ) -> Posted[Transfer]:
        """Take a hold's money, all of it or `amount_minor`; the rest is released.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.capture_hold` says. Unavailable, InDoubt: retry with the same key.
        """
        parse_hold_id(hold_id)
        attempt = new_attempt(actor, key, "captureHold", slot_of(hold_id), amount_minor, None, {"hold": hold_id})
        hold = await self._closable(attempt, hold_id)
        await self._claim(attempt)
        now = self.clock()
        command = commands.CaptureHold(
            transfer_id=make_transfer_id(attempt.slot, milliseconds(now), self.entropy()),
            actor=actor,
            key=key,
            hold_id=hold_id,
            account_id=hold.account_id,
            payee_account_id=hold.payee_account_id,
            amount_minor=amount_minor,
            fee_basis_points=self.transfer_fee_basis_points,
        )
        scope = money_scope(attempt, hold.account_id, hold.payee_account_id, now)
        scope = replace(scope, holds=(hold_id,), records=(terms_key(hold_id),))
        return await self.move(
            scope, attempt, now, lambda snapshot: rules.merchants.capture_hold(snapshot, command, now)
        )

    async def void_hold(self, actor: str, key: str, hold_id: HoldId) -> Posted[Hold]:
        """Release a hold's money to its payer.

        Raises:
            InvalidInput, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.void_hold` says. Unavailable, InDoubt: retry with the same key.
        """
        parse_hold_id(hold_id)
        attempt = new_attempt(actor, key, "voidHold", slot_of(hold_id), None, None, {"hold": hold_id})
        hold = await self._closable(attempt, hold_id)
        await self._claim(attempt)
        now = self.clock()
        command = commands.VoidHold(actor, key, hold_id, hold.account_id)
        scope = replace(money_scope(attempt, hold.account_id, None, now), holds=(hold_id,))

        def effect(snapshot: Snapshot) -> Effect[Hold]:
            changes = rules.void_hold(snapshot, command, now)
            return Effect(changes, changes.closed[0], {"hold": encode(changes.closed[0])})

        return await self._close(scope, attempt, now, effect)

    async def expire_due_holds(self, limit: int = LIMIT) -> Swept:
        """The sweep: close holds whose time is over. Decisions do not wait for it."""
        return await self._expiry.run(limit)

    async def _expire(self, hold: Due) -> bool:
        """Close all due holds of a hold's account."""
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
        found = (await self.store.fetch(Scope(slot_of(hold_id), holds=(hold_id,)))).hold(hold_id)
        if found is None or not (actor in (found.closer, OPERATOR) or await self._owns(actor, found.account_id)):
            raise HoldNotFound(hold_id)
        return found

    async def transfer_by_id(self, actor: str, transfer_id: TransferId) -> Transfer:
        """A transfer that the actor paid or received. Raises TransferNotFound."""
        if not is_id("trf", transfer_id):
            raise TransferNotFound(transfer_id)
        found = await self._header(transfer_id)
        if found is None or not await self._concerns(actor, found):
            raise TransferNotFound(transfer_id)
        return found

    async def outcome(self, actor: str, key: str) -> Known | None:
        """What is known of one of the actor's keys. None proves nothing: a commit may be on its way; retry."""
        name = (actor, check_key(key))
        found = (await self.store.fetch(Scope(actor_slot(actor), receipts=(name,)))).receipt(*name)
        if found is not None and found.leader is not None:
            found = (await self.store.fetch(Scope(found.leader, receipts=(name,)))).receipt(*name)
        if found is None:
            return None
        kept = replay(found, Attempt(found.slot, actor, key, found.operation, found.fingerprint))
        if isinstance(kept, Refused):
            return Known(found.operation, found.at, None, None, kept.error)
        transfer = await self._header(found.transfer_id) if found.transfer_id else None
        placed = (kept.outcome or {}).get("hold")
        hold_id = HoldId(str(placed["id"])) if isinstance(placed, dict) else None
        hold = (await self.store.fetch(Scope(slot_of(hold_id), holds=(hold_id,)))).hold(hold_id) if hold_id else None
        return Known(found.operation, found.at, transfer, hold, None)

    # Helpers

    async def _execute(self, scope: Scope, decide: Callable[[Snapshot], Decision[R]]) -> Committed[R]:
        return await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)

    async def _once(
        self, scope: Scope, attempt: Attempt, now: datetime, effect: Callable[[Snapshot], Effect[R]]
    ) -> tuple[Fresh[R] | Replayed, bool]:
        def decide(snapshot: Snapshot) -> Decision[Answer[R]]:
            return once(snapshot, attempt, now, lambda: effect(snapshot))

        try:
            committed = await self._execute(scope, decide)
        except Unavailable:
            answer = await self.kept(attempt)
            if answer is None:
                raise
            return answer, False
        if isinstance(committed.result, Refused):
            raise committed.result.error
        return committed.result, committed.credited

    async def kept(self, attempt: Attempt) -> Replayed | None:
        """The answer that the key already has, though nothing can be executed now. Raises a remembered refusal.

        Without it a repeated payment would be told that nothing changed while the payee's node is away.
        """
        receipt = (await self.store.fetch(Scope(attempt.slot, receipts=(attempt.name,)))).receipt(*attempt.name)
        if receipt is None or receipt.is_claim:
            return None
        answer = replay(receipt, attempt)
        if isinstance(answer, Refused):
            raise answer.error
        return answer

    async def move(
        self, scope: Scope, attempt: Attempt, now: datetime, rule: Callable[[Snapshot], Changes]
    ) -> Posted[Transfer]:
        """Run a rule that moves money, once for its attempt's key; its first transfer is the answer.

        Raises:
            Rejected: what the rule says, now or when the key was first sent.
            Unavailable, InDoubt: ask again with the same key.
        """

        def effect(snapshot: Snapshot) -> Effect[Transfer]:
            changes = rule(snapshot)
            moved = changes.transfers[0]
            return Effect(changes, moved, {"transfer": moved.id}, moved.id)

        answer, credited = await self._once(scope, attempt, now, effect)
        return await self.posted(answer, attempt, credited=credited)

    async def posted(self, answer: Answer[Transfer], attempt: Attempt, *, credited: bool) -> Posted[Transfer]:
        """The transfer that an answer stands for: made now, or found by the receipt's link. Raises its refusal."""
        if isinstance(answer, Refused):
            raise answer.error
        if isinstance(answer, Fresh):
            return Posted(answer.result, replayed=False, credited=credited)
        first = await self._header(answer.transfer_id) if answer.transfer_id else None
        if first is None:
            raise InvariantViolated(f"the receipt of key {attempt.key!r} names no transfer")
        return Posted(first, replayed=True, credited=credited)

    async def _close(
        self, scope: Scope, attempt: Attempt, now: datetime, effect: Callable[[Snapshot], Effect[Hold]]
    ) -> Posted[Hold]:
        answer, credited = await self._once(scope, attempt, now, effect)
        if isinstance(answer, Fresh):
            return Posted(answer.result, replayed=False, credited=credited)
        kept = (answer.outcome or {}).get("hold")
        if not isinstance(kept, dict):
            raise InvariantViolated(f"the receipt of key {attempt.key!r} keeps no hold")
        return Posted(decode(Hold, kept), replayed=True, credited=credited)

    async def _claim(self, attempt: Attempt) -> None:
        """Where the actor is not the payer: reserve the key at the actor's home before the leader is asked."""
        home = actor_slot(attempt.actor)
        if home == attempt.slot:
            return
        now = self.clock()
        scope = Scope(home, receipts=(attempt.name,))
        leader = (await self._execute(scope, lambda snapshot: claim(snapshot, attempt, home, now))).result
        assert leader == attempt.slot, "the leader follows from the fingerprinted input"

    async def _report(self, attempt: Attempt, error: Rejected) -> None:
        """A look-up failed: a key that belongs to another input is told first. Raises always."""
        home = actor_slot(attempt.actor)
        kept = (await self.store.fetch(Scope(home, receipts=(attempt.name,)))).receipt(*attempt.name)
        if kept is not None and kept.fingerprint != attempt.fingerprint:
            raise IdempotencyKeyReused(attempt.key)
        raise error

    async def _closable(self, attempt: Attempt, hold_id: HoldId) -> Hold:
        found = (await self.store.fetch(Scope(slot_of(hold_id), holds=(hold_id,)))).hold(hold_id)
        if found is not None and (attempt.actor == found.closer or await self._owns(attempt.actor, found.account_id)):
            return found
        # Strangers learn nothing, not even by what would be remembered under their keys.
        await self._report(attempt, HoldNotFound(hold_id))
        raise AssertionError("reporting raises")

    async def _header(self, transfer_id: TransferId) -> Transfer | None:
        return (await self.store.fetch(Scope(slot_of(transfer_id), transfers=(transfer_id,)))).transfer(transfer_id)

    async def terms(self, transfer: Transfer) -> Terms:
        """What was agreed on a transfer: it never changes."""
        if transfer.kind not in (TransferKind.PAYMENT, TransferKind.SPLIT):
            return Terms()
        key = terms_key(transfer.id)
        return Terms.from_record((await self.store.fetch(Scope(key.slot, records=(key,)))).record(key))

    async def _owns(self, actor: str, account_id: AccountId) -> bool:
        if is_system(account_id) or not is_id("usr", actor) or slot_of(account_id) != slot_of(actor):
            return False
        facts = (await self.store.fetch(Scope(slot_of(account_id), credits=(account_id,)))).facts(account_id)
        return facts is not None and facts.owner == actor

    async def _concerns(self, actor: str, transfer: Transfer) -> bool:
        if actor == OPERATOR or await self._owns(actor, transfer.debit_account_id):
            return True
        return await self._owns(actor, transfer.credit_account_id)

    async def payee(self, to: To, currency: str) -> commands.Payee:
        """Look the payee up. What is not found is no error yet: the key is looked at first."""
        if to.account_id is not None:
            if not is_id("acc", to.account_id):
                raise InvalidInput("to.accountId", "an account id such as acc_0193…")
            return commands.Payee(to.account_id, to.account_id)
        name = to.username or ""
        try:
            key = username_claim(check_username(name))
        except InvalidInput:
            return commands.Payee(name[:40], None, known=False)
        claimed = (await self.store.fetch(Scope(key.slot, records=(key,)))).record(key)
        if claimed is None:
            return commands.Payee(name, None, known=False)
        owner = UserId(str(claimed.body["user"]))
        snapshot = await self.store.fetch(Scope(slot_of(owner), wallets=(owner,), records=(user_key(owner),)))
        if User.from_record(snapshot.record(user_key(owner))) is None:
            return commands.Payee(name, None, known=False)
        account_id = next((a.id for a in snapshot.wallet(owner) if a.currency == currency), None)
        return commands.Payee(name, account_id)


def _account_of(hold: Due) -> AccountId:
    assert isinstance(hold, Hold)
    return hold.account_id


def _released(snapshot: Snapshot, account_id: AccountId, now: datetime) -> Account:
    """The account as it counts now: what expired holds reserve is available again."""
    account = snapshot.account(account_id)
    assert account is not None
    due_minor = rules.due_minor(snapshot, account_id, now)
    return replace(account, held_minor=account.held_minor - due_minor) if due_minor else account
