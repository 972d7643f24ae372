"""Withdrawals over Stripe: a hold, a transfer to the customer's connected account, a payout from there, the capture.

Each step makes at most one writing call to Stripe between two commits. The first commit takes a lease, because repeated
requests, sweeps of other processes and webhooks may all work on one withdrawal. If a call gets no answer, nothing
changes: the hold stays, and the next step asks Stripe first whether the call had its effect. Only if Stripe refuses the
writing call itself is it certain that it had none; a refused query proves nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ...domain.changes import Scope, Snapshot
from ...domain.errors import (
    InvalidInput,
    WithdrawalNotFound,
)
from ...domain.ids import (
    AccountId,
    UserId,
    WithdrawalId,
    slot_of,
)
from ...domain.model import Record
from ...domain.payments import PROVIDER, Step, wrong_mode
from ...domain.rules import withdrawals as rules
from ...domain.withdrawals import (
    WITHDRAWAL,
    PayoutSeen,
    Withdrawal,
    WithdrawalState,
    paid_key,
    payout_account_key,
    returned_key,
)
from ...failpoints import reach
from ...records import change
from ...verbs.keyed import run
from .desk import Desk
from .flows import Flows, Kind
from .provider import Declined, NoAnswer
from .verbs import WithdrawalVerb

if TYPE_CHECKING:
    from .api import StripeApi

log = logging.getLogger(__name__)

_STEPS_MAX: Final = 4
_LEASE_TIMEOUTS: Final = 3
"""The length of a lease, in timeouts of a call: longer than the call and the commit of its answer together."""
_CONNECTED: Final = re.compile(r"acct_[A-Za-z0-9]{4,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A withdrawal, now or when its key was first sent."""

    withdrawal: Withdrawal
    replayed: bool


class Withdrawals(Flows[WithdrawalId, Withdrawal]):
    """Money out."""

    def __init__(self, desk: Desk, api: StripeApi | None) -> None:
        """Without an `api`, existing withdrawals can be read, and none can be requested."""
        kind = Kind("withdrawal", WITHDRAWAL, "wdr", WithdrawalId, Withdrawal.from_record, WithdrawalNotFound)
        super().__init__(desk, api, kind)

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
        live = self._provider().is_live
        verb = WithdrawalVerb(actor, key, account_id, amount_minor, currency, reference, live)
        posted = await run(self._desk, verb)
        reach("withdrawal.requested")
        steps = self._advance(posted.result, ask_first=posted.replayed)
        return Asked(await self._begin(posted, steps, posted.result), replayed=posted.replayed)

    async def payout_account(self, owner: UserId) -> str | None:
        """The connected account that a user's money goes to."""
        found = await self._desk.record(payout_account_key(owner))
        return None if found is None else str(found.body["account"])

    async def set_payout_account(self, owner: UserId, connected: str) -> None:
        """Set the connected account (`acct_…`) that a user's withdrawals go to. For operators.

        Raises:
            InvalidInput: it is not a connected account's id.
        """
        if _CONNECTED.fullmatch(connected) is None:
            raise InvalidInput("account", "the id of a connected account, such as acct_1A2b3C4d")
        key = payout_account_key(owner)
        made = Record(key.kind, key.id, key.slot, owner, 1, {"account": connected})
        await change(self._desk.store, key, lambda _: made)

    async def advance(self, withdrawal_id: WithdrawalId) -> Withdrawal:
        """Take steps until the flow has to wait for Stripe, or is over.

        Raises:
            WalletError: from the store; the flow can be continued later.
        """
        return await self._advance(await self._existing(withdrawal_id))

    async def _advance(self, found: Withdrawal, *, ask_first: bool = True) -> Withdrawal:
        """`advance` for a caller that has just read or written the withdrawal.

        `ask_first`: the call may have been made before, so first ask Stripe whether it had its effect.
        """
        for _ in range(_STEPS_MAX):
            before = found
            if self._api is None or before.is_leased(self._desk.clock()):
                return before
            alarm = wrong_mode(before.sent_id, before.id, asked_live=before.live, live=self._api.is_live)
            if not before.is_watched or alarm is not None:
                if before.due_at is None:
                    return before
                return await self._wait(before, alarm)
            found = await self._step(self._api, before, ask_first=ask_first)
            if found.state is before.state:
                return found
        return found

    async def look_for_sent(self, withdrawal_id: WithdrawalId) -> None:
        """Check whether a failed withdrawal's money was sent nevertheless, and if so take it back.

        Raises:
            NoAnswer, Declined: Stripe does not say.
            WalletError: from the store.
        """
        found = await self._load(withdrawal_id)
        if found is None or found.state is not WithdrawalState.FAILED or found.sent_id is not None:
            return
        sent_id = await self._provider().find_sent(found)
        if sent_id is not None:
            now = self._desk.clock()
            after = await self._fold(found, lambda _, flow: rules.fold_sent(flow, sent_id, now))
            await self._advance(after)

    async def observe(self, payout_id: str, connected: str) -> str:
        """Fetch a changed payout of a connected account; returns what it is for.

        Raises:
            NoAnswer: Stripe does not answer now.
            WalletError: from the store. In both cases call again.
        """
        try:
            seen = await self._provider().payout(payout_id, connected)
        except Declined:
            return "unknown to Stripe"
        named = seen.withdrawal_id
        if not named:
            return "not ours"
        withdrawal = await self._flow_of(named, payout_id)
        if withdrawal is None:
            return "put aside"
        reach("withdrawal.event")
        after = await self._fold_payout(withdrawal, seen)
        if after.state in (WithdrawalState.UNDOING, WithdrawalState.RETURNING):
            await self._advance(after)
        return withdrawal.id

    def _look_again(self, flow: Withdrawal, now: datetime) -> Withdrawal:
        return rules.look_again(flow, now)

    async def _step(self, api: StripeApi, before: Withdrawal, *, ask_first: bool) -> Withdrawal:
        """Ask whether the next call has been made already; if not, make it."""
        try:
            known = await self._known(api, before, ask_first=ask_first)
        except NoAnswer:
            return await self._wait(before)
        except Declined as refused:
            now, reason = self._desk.clock(), refused.reason
            return await self._fold(before, lambda _, flow: rules.fold_unreadable(flow, reason, now))
        if known is not None:
            return await self._fold_answer(before, known)
        name, seconds = self._desk.entropy(), _LEASE_TIMEOUTS * api.timeout_seconds
        until = self._desk.clock() + timedelta(seconds=seconds)
        leased = await self._fold(before, lambda _, flow: Step(rules.take_lease(flow, before, name, until)))
        return await self._call(api, leased) if leased.lease == name else leased

    async def _call(self, api: StripeApi, leased: Withdrawal) -> Withdrawal:
        """Make the writing call that the lease is for, and fold its answer."""
        try:
            answer = await self._do(api, leased)
        except NoAnswer:  # Stripe may still carry it out, so the lease stays
            return await self._wait(leased)
        except Declined as refused:
            now, reason = self._desk.clock(), refused.reason
            return await self._fold(
                leased,
                lambda snapshot, flow: rules.fold_refusal(snapshot, flow, leased, reason, now),
                leased,
            )
        return await self._fold_answer(leased, answer, leased)

    async def _known(self, api: StripeApi, before: Withdrawal, *, ask_first: bool) -> str | PayoutSeen | None:
        """The effect of an earlier call, if it had one: the transfer's id, the payout, or "" for an undone transfer."""
        if before.state is WithdrawalState.REQUESTED:
            return await api.find_sent(before) if ask_first else None
        if before.state in (WithdrawalState.UNDOING, WithdrawalState.RETURNING):
            return "" if await api.is_taken_back(before) else None
        if before.payout_id is not None:
            return await api.payout(before.payout_id, before.destination)
        return await api.find_payout(before) if ask_first else None

    async def _do(self, api: StripeApi, leased: Withdrawal) -> str | PayoutSeen:
        """Make the writing call of the withdrawal's state; returns as `_known` does."""
        if leased.state is WithdrawalState.REQUESTED:
            return await api.send(leased)
        if leased.state in (WithdrawalState.UNDOING, WithdrawalState.RETURNING):
            await api.take_back(leased)
            return ""
        return await api.pay_out(leased)

    async def _fold_answer(
        self, before: Withdrawal, answer: str | PayoutSeen, leased: Withdrawal | None = None
    ) -> Withdrawal:
        """Fold the result of `_known` or `_do` into the withdrawal."""
        if isinstance(answer, PayoutSeen):
            reach("withdrawal.paid_out")
            return await self._fold_payout(before, answer, leased)
        now = self._desk.clock()
        if answer:
            reach("withdrawal.sent")
            return await self._fold(before, lambda _, flow: rules.fold_sent(flow, answer, now), leased)
        reach("withdrawal.undone")
        (transfer_id,) = self._desk.transfer_ids(slot_of(before.id))
        return await self._fold(
            before, lambda snapshot, flow: rules.fold_undone(snapshot, flow, now, transfer_id), leased
        )

    async def _fold(
        self,
        flow: Withdrawal,
        step: Callable[[Snapshot, Withdrawal], Step[Withdrawal]],
        leased: Withdrawal | None = None,
    ) -> Withdrawal:
        """Commit a step, and end the lease of `leased` in the same commit."""
        scope = Scope(
            slot_of(flow.id),
            accounts=(flow.account_id,),
            holds=(flow.hold_id,),
            transfers=(flow.transfer_id,) if flow.transfer_id else (),
            receipts=tuple((PROVIDER, key(flow)) for key in (paid_key, returned_key)),
        )

        def ending(snapshot: Snapshot, found: Withdrawal) -> Step[Withdrawal]:
            return step(snapshot, found if leased is None else rules.end_lease(found, leased.lease))

        return await self._desk.fold(scope, flow.key, Withdrawal.from_record, ending)

    async def _fold_payout(
        self, withdrawal: Withdrawal, seen: PayoutSeen, leased: Withdrawal | None = None
    ) -> Withdrawal:
        now = self._desk.clock()
        (transfer_id,) = self._desk.transfer_ids(slot_of(withdrawal.id))
        return await self._fold(
            withdrawal,
            lambda snapshot, flow: rules.fold_payout(snapshot, flow, seen, now, transfer_id),
            leased,
        )
