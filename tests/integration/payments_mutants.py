"""A pytest plugin that breaks money in or out in one way: `WALLET_MUTANT=NAME pytest -p THIS_MODULE …`."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from wallet_gql.domain import topups as rules
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.model import RecordKey
from wallet_gql.domain.payments import Step
from wallet_gql.domain.topups import IntentSeen, TopUp, TopUpState
from wallet_gql.failpoints import reach
from wallet_gql.integrations import stripe_api, stripe_events, topups
from wallet_gql.integrations.desk import Desk
from wallet_gql.integrations.provider import Declined, Intent, NoAnswer


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

        def effect(_: Snapshot) -> Decision[None]:
            changed = (made.flow.to_record(),) if made.flow != before else ()
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
        with urllib.request.urlopen(asked, timeout=5) as answer:
            json.load(answer)
        return sound(snapshot, top_up, actor, now)

    vars(stripe_api)["StripeApi"].__init__ = init
    vars(rules)["request_top_up"] = request


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        done_before_its_effect,
        dedupe_by_event_id,
        void_on_time_out,
        credit_on_the_clients_word,
        call_inside_the_commit,
    )
}

if os.environ.get("WALLET_MUTANT"):
    MUTANTS[os.environ["WALLET_MUTANT"]]()
