"""Top-ups over Stripe: a record, then a PaymentIntent, then the credit once Stripe itself says that it was paid.

Each method makes at most one call to Stripe between two commits. If a process dies in between, the record is due, and
the sweep of any process continues from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ...domain.changes import Scope, Snapshot
from ...domain.errors import (
    Contended,
    TopUpNotFound,
)
from ...domain.ids import (
    AccountId,
    TopUpId,
    UserId,
    slot_of,
)
from ...domain.payments import PROVIDER, Step, wrong_mode
from ...domain.rules import clawbacks
from ...domain.rules import topups as rules
from ...domain.topups import OPEN, TOP_UP, ClawbackSeen, TopUp, TopUpState
from ...failpoints import reach
from ...verbs.keyed import run
from .desk import Desk
from .flows import Flows, Kind
from .provider import MISSING, Declined, Intent, NoAnswer
from .verbs import TopUpVerb

if TYPE_CHECKING:
    from .api import StripeApi

log = logging.getLogger(__name__)

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Started:
    """A top-up, and the secret with which the customer's browser can pay it, if Stripe gave it now."""

    top_up: TopUp
    client_secret: str | None
    replayed: bool

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Started({self.top_up}, replayed={self.replayed})"


class TopUps(Flows[TopUpId, TopUp]):
    """Money in."""

    def __init__(self, desk: Desk, api: StripeApi | None) -> None:
        """Without an `api`, existing top-ups can be read, and none can be requested."""
        super().__init__(desk, api, Kind("top-up", TOP_UP, "top", TopUpId, TopUp.from_record, TopUpNotFound))

    async def request(
        self, actor: UserId, key: str, account_id: AccountId, amount_minor: int, currency: str
    ) -> Started:
        """Begin a top-up: store its record, and let Stripe create the PaymentIntent.

        Raises:
            PaymentsNotConfigured: there is no provider.
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: what `rules.request_top_up` says; remembered under the key.
            Unavailable, InDoubt: retry with the same key.
        """
        live = self._provider().is_live
        posted = await run(self._desk, TopUpVerb(actor, key, account_id, amount_minor, currency, live))
        reach("topup.requested")
        found, secret = await self._begin(posted, self._advance(posted.result), (posted.result, None))
        return Started(found, secret, replayed=posted.replayed)

    async def client_secret(self, top_up: TopUp) -> str | None:
        """The secret for the customer's browser; None if nothing can be paid, or Stripe does not answer now."""
        if self._api is None or top_up.state is not TopUpState.AWAITING_PAYMENT or top_up.intent_id is None:
            return None
        try:
            return (await self._api.intent(top_up.intent_id)).client_secret
        except (NoAnswer, Declined):
            return None

    async def advance(self, top_up_id: TopUpId) -> tuple[TopUp, str | None]:
        """Take the next step: create the intent, or fetch it. Returns the top-up, and the secret while it can be paid.

        Raises:
            WalletError: from the store; the flow can be continued later.
        """
        return await self._advance(await self._existing(top_up_id))

    async def _advance(self, top_up: TopUp) -> tuple[TopUp, str | None]:
        """`advance` for a caller that has just read or written the top-up."""
        if self._api is None:
            return top_up, None
        alarm = wrong_mode(top_up.intent_id, top_up.id, asked_live=top_up.live, live=self._api.is_live)
        if top_up.state not in OPEN or alarm is not None:
            return top_up if top_up.due_at is None else await self._wait(top_up, alarm), None
        try:
            intent = await self._call(self._api, top_up)
        except NoAnswer:
            return await self._wait(top_up), None
        except Declined as refused:
            reason = refused.reason
            if top_up.state is TopUpState.CREATED:
                return await self._fold(top_up, lambda _, flow: Step(rules.refuse(flow, reason))), None
            return await self._wait(top_up), None
        reach("topup.answered")
        after = await self._fold_intent(top_up, intent)
        return after, intent.client_secret if after.state is TopUpState.AWAITING_PAYMENT else None

    async def observe(self, intent_id: str, *, with_clawbacks: bool) -> str:
        """Fetch a changed PaymentIntent, and its refunds and disputes if `with_clawbacks`; returns what it is for.

        Raises:
            NoAnswer: Stripe does not answer now.
            WalletError: from the store. In both cases call again.
        """
        try:
            intent = await self._provider().intent(intent_id)
        except Declined as refused:
            if refused.reason == MISSING:
                return "unknown to Stripe"
            raise NoAnswer(refused.reason) from refused  # a paid top-up is not due, so nobody would ask again
        named = intent.seen.top_up_id
        if not named:
            return "not ours"
        top_up = await self._flow_of(named, intent_id)
        if top_up is None:
            return "put aside"
        reach("topup.event")
        after = await self._fold_intent(top_up, intent)
        if with_clawbacks and after.intent_id == intent_id:
            await self._fold_clawbacks(after, intent_id)
        return top_up.id

    def _look_again(self, flow: TopUp, now: datetime) -> TopUp:
        return rules.look_again(flow, now)

    async def _call(self, api: StripeApi, top_up: TopUp) -> Intent:
        if top_up.intent_id is None:
            return await api.create_intent(top_up)
        if rules.is_abandoned(top_up, self._desk.clock()):
            try:
                return await api.cancel_intent(top_up)
            except Declined:  # paid in the last moment, or being paid
                pass
        return await api.intent(top_up.intent_id)

    async def _fold(
        self, flow: TopUp, step: Callable[[Snapshot, TopUp], Step[TopUp]], scope: Scope | None = None
    ) -> TopUp:
        return await self._desk.fold(scope or Scope(slot_of(flow.id)), flow.key, TopUp.from_record, step)

    async def _fold_intent(self, top_up: TopUp, intent: Intent) -> TopUp:
        now = self._desk.clock()
        slot = slot_of(top_up.id)
        (transfer_id,) = self._desk.transfer_ids(slot)
        credit = (PROVIDER, rules.credit_key(intent.seen.id))
        scope = Scope(slot, accounts=(top_up.account_id,), receipts=(credit,))
        return await self._fold(
            top_up,
            lambda snapshot, flow: rules.fold_intent(snapshot, flow, intent.seen, now, transfer_id),
            scope,
        )

    async def _fold_clawbacks(self, top_up: TopUp, intent_id: str) -> None:
        """Fold refunds and disputes as Stripe shows them now. Raises Contended.

        If another process writes the top-up meanwhile, they are fetched again: ours may be older than what it folded.
        """
        tries = 0
        while True:
            tries += 1
            try:
                for seen in await self._provider().clawbacks(intent_id):
                    reach("topup.clawback")
                    top_up = await self._try_clawback(top_up, seen)
            except Contended:
                if tries == _TRIES:
                    raise
                top_up = await self._load(top_up.id) or top_up
            else:
                return

    async def _try_clawback(self, top_up: TopUp, seen: ClawbackSeen) -> TopUp:
        now = self._desk.clock()
        slot = slot_of(top_up.id)
        ids = self._desk.transfer_ids(slot, clawbacks.pieces_max(top_up))
        scope = Scope(
            slot,
            accounts=(top_up.account_id,),
            transfers=clawbacks.linked(top_up),
            receipts=tuple((PROVIDER, key) for key in clawbacks.clawback_keys(top_up, seen.id)),
            due_at=now,
        )

        def step(snapshot: Snapshot, flow: TopUp) -> Step[TopUp]:
            if flow.version != top_up.version:
                raise Contended("others have looked at the same clawbacks")
            return clawbacks.fold_clawback(snapshot, flow, seen, now, ids)

        return await self._fold(top_up, step, scope)
