"""Withdrawals over Stripe: a hold, a transfer to the customer's connected account, a payout from there, the capture.

Each step makes at most one writing call outside between two commits. A call without an answer changes nothing: the
hold stays, and a later look asks Stripe first whether the call had its effect.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..attempts import check_money, milliseconds, money_scope, new_attempt
from ..domain import withdrawals
from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.commands import Payee, PlaceHold
from ..domain.errors import (
    InDoubt,
    InvalidInput,
    InvariantViolated,
    PaymentsNotConfigured,
    PayoutAccountMissing,
    Unavailable,
    WithdrawalNotFound,
)
from ..domain.ids import (
    OPERATOR,
    AccountId,
    UserId,
    WithdrawalId,
    actor_slot,
    is_id,
    make_hold_id,
    make_withdrawal_id,
    parse_account_id,
    slot_of,
)
from ..domain.model import Record
from ..domain.payments import PROVIDER, Alarm, Step, check_payable, stripe_account
from ..domain.withdrawals import (
    WITHDRAWAL,
    PayoutSeen,
    Withdrawal,
    WithdrawalState,
    payout_account_key,
    withdrawal_key,
)
from ..failpoints import reach
from ..idempotency import Effect, Fresh, Refused
from ..storage import PAGE_MAX, Page
from .desk import Desk
from .provider import Declined, NoAnswer

if TYPE_CHECKING:
    from .stripe_api import StripeApi

log = logging.getLogger(__name__)

_STEPS_MAX: Final = 4
_CONNECTED: Final = re.compile(r"acct_[A-Za-z0-9]{4,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A withdrawal, now or when its key was first sent."""

    withdrawal: Withdrawal
    replayed: bool


class Withdrawals:
    """Money out."""

    def __init__(self, desk: Desk, api: StripeApi | None) -> None:
        """Without an `api` what there is can be read, and nothing be asked for."""
        self._desk = desk
        self._api = api

    async def request(
        self, actor: UserId, key: str, account_id: AccountId, amount_minor: int, currency: str, *, reference: str = ""
    ) -> Asked:
        """Reserve the money and begin to pay it out.

        Raises:
            PaymentsNotConfigured: there is no provider.
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            PayoutAccountMissing: nobody has said where the user's money goes.
            Rejected: what `rules.place_hold` says; remembered under the key.
            Unavailable, InDoubt: retry with the same key.
        """
        self._provider()
        check_money(amount_minor, currency, reference)
        check_payable(currency)
        parse_account_id(account_id)
        values = {"account": account_id, "reference": reference}
        attempt = new_attempt(actor, key, "withdraw", actor_slot(actor), amount_minor, currency, values)
        now = self._desk.clock()
        at_ms = milliseconds(now)
        hold = PlaceHold(
            hold_id=make_hold_id(attempt.slot, at_ms, self._desk.entropy()),
            actor=actor,
            key=key,
            source=account_id,
            payee=Payee("the bank", stripe_account(currency)),
            amount_minor=amount_minor,
            currency=currency,
            expires_at=None,
            closer=PROVIDER,
            reference=reference,
        )
        withdrawal = Withdrawal(
            id=make_withdrawal_id(attempt.slot, at_ms, self._desk.entropy()),
            owner=actor,
            account_id=account_id,
            hold_id=hold.hold_id,
            amount_minor=amount_minor,
            currency=currency,
            destination="",
            created_at=now,
        )
        records = (withdrawal.key, payout_account_key(actor))
        scope = replace(money_scope(attempt, account_id, None, now), records=records, open_holds=True)

        def effect(snapshot: Snapshot) -> Effect[Withdrawal]:
            known = snapshot.record(payout_account_key(actor))
            if known is None:
                raise PayoutAccountMissing(actor)
            aimed = replace(withdrawal, destination=str(known.body["account"]))
            changes = withdrawals.request_withdrawal(snapshot, aimed, hold, now)
            return Effect(changes, aimed, {"withdrawal": withdrawal.id})

        answer = await self._desk.once(scope, attempt, now, effect)
        assert not isinstance(answer, Refused)
        reach("withdrawal.requested")
        if isinstance(answer, Fresh):
            try:
                return Asked(await self.advance(answer.result.id, ask_first=False), replayed=False)
            except (Unavailable, InDoubt) as error:  # the money is held all the same, and a sweep goes on with it
                log.warning("withdrawal %s will be gone on with: %s", answer.result.id, error)
                return Asked(answer.result, replayed=False)
        kept = (answer.outcome or {}).get("withdrawal")
        if not isinstance(kept, str):
            raise InvariantViolated(f"the receipt of key {key!r} keeps no withdrawal")
        try:
            return Asked(await self.advance(WithdrawalId(kept)), replayed=True)
        except Unavailable as error:  # this request changed nothing, the first one did
            raise InDoubt(error.message.partition(";")[0]) from error

    async def get(self, actor: str, withdrawal_id: str) -> Withdrawal:
        """One of the actor's withdrawals; an operator sees any. Raises WithdrawalNotFound."""
        found = await self._load(WithdrawalId(withdrawal_id)) if is_id("wdr", withdrawal_id) else None
        if found is None or actor not in (found.owner, OPERATOR):
            raise WithdrawalNotFound(withdrawal_id)
        return found

    async def list(self, owner: UserId, *, after: str = "", limit: int = PAGE_MAX) -> Page[Withdrawal]:
        """The user's withdrawals, oldest first, behind the id `after`."""
        page = await self._desk.store.list_records(WITHDRAWAL, owner, after=after, limit=limit)
        return Page(tuple(Withdrawal.from_record(record) for record in page.items), page.has_more)

    async def payout_account(self, owner: UserId) -> str | None:
        """The connected account that a user's money goes to."""
        found = await self._desk.record(payout_account_key(owner))
        return None if found is None else str(found.body["account"])

    async def set_payout_account(self, owner: UserId, connected: str) -> None:
        """Say to which connected account (`acct_…`) a user's withdrawals go from now on (an operator's act).

        Raises:
            InvalidInput: that is no connected account's id.
        """
        if _CONNECTED.fullmatch(connected) is None:
            raise InvalidInput("account", "the id of a connected account, such as acct_1A2b3C4d")
        key = payout_account_key(owner)

        def decide(snapshot: Snapshot) -> Decision[None]:
            before = snapshot.record(key)
            version = before.version + 1 if before else 1
            made = Record(key.kind, key.id, key.slot, owner, version, {"account": connected})
            return Decision(Changes(records=(made,)), None)

        await self._desk.store.execute(Scope(key.slot, records=(key,)), decide)

    async def advance(self, withdrawal_id: WithdrawalId, *, ask_first: bool = True) -> Withdrawal:
        """Do what is next, and what is next after that, until Stripe has to be waited for.

        `ask_first`: a call may have been made before, so Stripe is asked for its effect first.

        Raises:
            WalletError: the store's; the flow goes on from where it was.
        """
        found = await self._load(withdrawal_id)
        if found is None:
            raise InvariantViolated(f"withdrawal {withdrawal_id} has vanished")
        for _ in range(_STEPS_MAX):
            before = found
            watched = before.state is WithdrawalState.PAID and before.due_at is not None
            if self._api is None or not (before.state in withdrawals.OPEN or watched):
                return before
            found = await self._step(self._api, before, ask_first=ask_first)
            if found.state is before.state:
                return found
        return found

    async def observe(self, payout_id: str, connected: str) -> str:
        """Something happened to a payout of a connected account: look at it; answers what it was for.

        Raises:
            NoAnswer: Stripe does not answer now. WalletError: the store's. In both cases tell us again.
        """
        try:
            seen = await self._provider().payout(payout_id, connected)
        except Declined:
            return "unknown to Stripe"
        named = seen.withdrawal_id
        if not named:
            return "not ours"
        withdrawal = await self._load(WithdrawalId(named)) if is_id("wdr", named) else None
        if withdrawal is None:
            await self._desk.alarm(Alarm(payout_id, f"it names the withdrawal {named[:60]}, which does not exist"))
            return "put aside"
        reach("withdrawal.event")
        after = await self._fold_payout(withdrawal, seen)
        if after.state in (WithdrawalState.UNDOING, WithdrawalState.RETURNING):
            await self.advance(after.id)
        return withdrawal.id

    async def sweep(self, limit: int = 100) -> int:
        """Go on with what is due; answers how many."""
        if self._api is None:
            return 0
        return await self._desk.sweep(WITHDRAWAL, limit, lambda record: self.advance(WithdrawalId(record.id)))

    def _provider(self) -> StripeApi:
        if self._api is None:
            raise PaymentsNotConfigured
        return self._api

    async def _step(self, api: StripeApi, before: Withdrawal, *, ask_first: bool) -> Withdrawal:
        now = self._desk.clock()
        try:
            if before.state is WithdrawalState.REQUESTED:
                sent_id = await api.find_sent(before) if ask_first else None
                sent_id = sent_id or await api.send(before)
                reach("withdrawal.sent")
                return await self._fold(before, lambda _, flow: withdrawals.fold_sent(flow, sent_id, now))
            if before.state in (WithdrawalState.UNDOING, WithdrawalState.RETURNING):
                if not await api.is_taken_back(before):
                    await api.take_back(before)
                reach("withdrawal.undone")
                return await self._fold_undone(before)
            seen = await self._payout(api, before, ask_first=ask_first)
            reach("withdrawal.paid_out")
            return await self._fold_payout(before, seen)
        except NoAnswer:
            return await self._fold(before, lambda _, flow: Step(withdrawals.look_again(flow, now)))
        except Declined as refused:
            reason = refused.reason
            return await self._fold(
                before, lambda snapshot, flow: withdrawals.fold_refusal(snapshot, flow, before.state, reason, now)
            )

    async def _payout(self, api: StripeApi, before: Withdrawal, *, ask_first: bool) -> PayoutSeen:
        if before.payout_id is not None:
            return await api.payout(before.payout_id, before.destination)
        found = await api.find_payout(before) if ask_first else None
        return found or await api.pay_out(before)

    async def _load(self, withdrawal_id: WithdrawalId) -> Withdrawal | None:
        found = await self._desk.record(withdrawal_key(withdrawal_id))
        return None if found is None else Withdrawal.from_record(found)

    async def _fold(
        self, withdrawal: Withdrawal, step: Callable[[Snapshot, Withdrawal], Step[Withdrawal]]
    ) -> Withdrawal:
        scope = Scope(
            slot_of(withdrawal.id),
            accounts=(withdrawal.account_id,),
            holds=(withdrawal.hold_id,),
            transfers=(withdrawal.transfer_id,) if withdrawal.transfer_id else (),
            receipts=tuple((PROVIDER, key(withdrawal)) for key in (withdrawals.paid_key, withdrawals.returned_key)),
        )
        return await self._desk.fold(scope, withdrawal.key, Withdrawal.from_record, step)

    async def _fold_payout(self, withdrawal: Withdrawal, seen: PayoutSeen) -> Withdrawal:
        now = self._desk.clock()
        (transfer_id,) = self._desk.transfer_ids(slot_of(withdrawal.id))
        return await self._fold(
            withdrawal, lambda snapshot, flow: withdrawals.fold_payout(snapshot, flow, seen, now, transfer_id)
        )

    async def _fold_undone(self, withdrawal: Withdrawal) -> Withdrawal:
        now = self._desk.clock()
        (transfer_id,) = self._desk.transfer_ids(slot_of(withdrawal.id))
        return await self._fold(
            withdrawal, lambda snapshot, flow: withdrawals.fold_undone(snapshot, flow, now, transfer_id)
        )
