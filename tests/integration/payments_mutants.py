"""A pytest plugin that breaks top-ups or withdrawals in one way: `WALLET_MUTANT=NAME pytest -p THIS_MODULE …`."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, cast

from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.model import RecordKey
from wallet_gql.domain.payments import Step
from wallet_gql.domain.rules import clawbacks, withdrawals
from wallet_gql.domain.rules import topups as rules
from wallet_gql.domain.topups import ClawbackSeen, IntentSeen, TopUp, TopUpState
from wallet_gql.domain.withdrawals import Withdrawal, WithdrawalState
from wallet_gql.failpoints import reach
from wallet_gql.integrations.stripe import api as stripe_api
from wallet_gql.integrations.stripe import events as stripe_events
from wallet_gql.integrations.stripe import topups
from wallet_gql.integrations.stripe import withdrawals as flows_out
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.stripe.provider import Declined, Intent, NoAnswer
from wallet_gql.testing.patience import patience


def done_before_its_effect() -> None:
    """What remembers an effect is committed first, and the effect in a commit of its own."""

    async def fold(
        desk: Desk, scope: Scope, key: RecordKey, read: Callable[[Any], Any], step: Callable[[Snapshot, Any], Step[Any]]
    ) -> Any:
        named = replace(scope, records=(*scope.records, key))

        def mark(snapshot: Snapshot) -> Decision[tuple[Any, Step[Any]]]:
            before = read(snapshot.record(key))
            made = step(snapshot, before)
            return Decision(Changes(receipts=made.changes.receipts), (before, made))

        before, made = (await desk.store.execute(named, mark)).result
        reach("payments.folded")

        def effect(snapshot: Snapshot) -> Decision[None]:
            changed = (made.flow.to_record().after(snapshot.record(key)),) if made.flow != before else ()
            return Decision(replace(made.changes, receipts=()) + Changes(records=changed), None)

        await desk.store.execute(named, effect)
        return made.flow

    vars(topups)["Desk"].fold = fold


def dedupe_by_event_id() -> None:
    """An event is known by its own id alone: the same news under another id counts again."""
    now = {"event": "poll"}
    sound_look, sound_fold = stripe_events.Events._look, rules.fold_intent

    async def look(events: Any, event: Any) -> str:
        now["event"] = str(event["id"])
        try:
            return await sound_look(events, event)
        finally:
            now["event"] = "poll"

    def fold(snapshot: Snapshot, top_up: TopUp, seen: IntentSeen, at: datetime, transfer_id: Any) -> Step[TopUp]:
        if top_up.state is TopUpState.SUCCEEDED:
            top_up = replace(top_up, state=TopUpState.AWAITING_PAYMENT)
        return sound_fold(snapshot, top_up, seen, at, transfer_id)

    vars(rules)["credit_key"] = lambda intent_id: f"{intent_id}/{now['event']}"
    vars(rules)["fold_intent"] = fold
    vars(stripe_events)["Events"]._look = look


def void_on_time_out() -> None:
    """No answer is taken for a no."""

    def hasty(call: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any) -> Any:
            try:
                return await call(*args)
            except NoAnswer as error:
                raise Declined("timeout") from error

        return wrapped

    for name in ("send", "pay_out"):
        setattr(stripe_api.StripeApi, name, hasty(getattr(stripe_api.StripeApi, name)))


def credit_on_the_clients_word() -> None:
    """A client that comes back after the payment form is believed."""
    sound = topups.TopUps.request

    async def request(flows: Any, *args: Any) -> Any:
        started = await sound(flows, *args)
        top_up = started.top_up
        if started.replayed and top_up.state is TopUpState.AWAITING_PAYMENT:
            minor = top_up.amount_minor
            seen = IntentSeen(str(top_up.intent_id), "succeeded", minor, minor, top_up.currency, top_up.id)
            return replace(started, top_up=await flows._fold_intent(top_up, Intent(seen, None)))
        return started

    vars(topups)["TopUps"].request = request


def call_inside_the_commit() -> None:
    """The PaymentIntent is made by the decision that notes the top-up."""
    sound, sound_init = rules.request_top_up, stripe_api.StripeApi.__init__
    known: dict[str, str] = {}

    def init(api: Any, key: str, **more: Any) -> None:
        known.update(key=key, url=more["base_url"])
        sound_init(api, key, **more)

    def request(snapshot: Snapshot, top_up: TopUp, actor: str, now: datetime) -> Changes:
        form = f"amount={top_up.amount_minor}&currency={top_up.currency.lower()}"
        headers = {"Authorization": f"Bearer {known['key']}", "Idempotency-Key": f"{top_up.id}/intent"}
        asked = urllib.request.Request(f"{known['url']}/v1/payment_intents", form.encode(), headers)
        with urllib.request.urlopen(asked, timeout=patience(5)) as answer:
            json.load(answer)
        return sound(snapshot, top_up, actor, now)

    vars(stripe_api)["StripeApi"].__init__ = init
    vars(rules)["request_top_up"] = request


def call_without_a_lease() -> None:
    """Whoever comes calls, and nobody is kept from it; what one was refused with counts whoever else has called."""
    vars(withdrawals)["Withdrawal"].is_leased = lambda *_: False
    vars(withdrawals)["end_lease"] = lambda flow, _: flow
    sound = withdrawals.fold_refusal

    def fold(snapshot: Snapshot, flow: Withdrawal, asked: Withdrawal, reason: str, now: datetime) -> Step[Withdrawal]:
        return sound(snapshot, flow, replace(asked, lease=flow.lease), reason, now)

    vars(withdrawals)["fold_refusal"] = fold


def lease_whatever_was_written_since() -> None:
    """Whoever has asked may call, though others have written since."""
    sound = withdrawals.take_lease

    def take(flow: Withdrawal, _: Withdrawal, lease: int, until: datetime) -> Withdrawal:
        return sound(flow, flow, lease, until)

    vars(withdrawals)["take_lease"] = take


def forget_what_was_sent_late() -> None:
    """A transfer that comes to light after its withdrawal has failed is nobody's."""
    sound = withdrawals.fold_sent

    def fold(flow: Withdrawal, sent_id: str, now: datetime) -> Step[Withdrawal]:
        return sound(flow, sent_id, now) if flow.state is WithdrawalState.REQUESTED else Step(flow)

    vars(withdrawals)["fold_sent"] = fold


def believe_a_refused_question() -> None:
    """That Stripe will not show what there is counts as its refusal to make it."""

    async def step(flows: Any, api: Any, before: Withdrawal, *, ask_first: bool) -> Withdrawal:
        now, reason = flows._desk.clock(), ""
        try:
            await flows._known(api, before, ask_first=ask_first)
        except Declined as refused:
            reason = refused.reason
        except NoAnswer:
            pass
        if not reason:
            return await sound(flows, api, before, ask_first=ask_first)
        refuse = lambda snapshot, flow: withdrawals.fold_refusal(snapshot, flow, flow, reason, now)  # noqa: E731 - short
        return cast("Withdrawal", await flows._fold(before, refuse))

    sound = flows_out.Withdrawals._step
    vars(flows_out)["Withdrawals"]._step = step


def alarm_after_the_commit() -> None:
    """The flow is committed, and the alarm is told in a commit of its own."""
    sound = Desk.fold

    async def fold(
        desk: Desk, scope: Scope, key: RecordKey, read: Callable[[Any], Any], step: Callable[[Snapshot, Any], Step[Any]]
    ) -> Any:
        told: list[Any] = []

        def quiet(snapshot: Snapshot, flow: Any) -> Step[Any]:
            made = step(snapshot, flow)
            told[:] = [made.alarm] if made.alarm else []
            return replace(made, alarm=None)

        after = await sound(desk, scope, key, read, quiet)
        for alarm in told:
            await desk.alarm(alarm)
        return after

    vars(topups)["Desk"].fold = fold


def take_in_whatever_was_read() -> None:
    """Clawbacks are taken in however old the look is, and one that takes nothing leaves no trace."""
    sound = clawbacks.fold_clawback

    def fold(snapshot: Snapshot, top_up: TopUp, seen: ClawbackSeen, *more: Any) -> Step[TopUp]:
        known = any(one.id == seen.id for one in top_up.clawbacks)
        return Step(top_up) if seen.taken is False and not known else sound(snapshot, top_up, seen, *more)

    vars(clawbacks)["fold_clawback"] = fold


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        done_before_its_effect,
        dedupe_by_event_id,
        void_on_time_out,
        credit_on_the_clients_word,
        call_inside_the_commit,
        call_without_a_lease,
        lease_whatever_was_written_since,
        forget_what_was_sent_late,
        believe_a_refused_question,
        alarm_after_the_commit,
        take_in_whatever_was_read,
    )
}

if os.environ.get("WALLET_MUTANT"):
    MUTANTS[os.environ["WALLET_MUTANT"]]()
