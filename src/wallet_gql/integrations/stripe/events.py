"""Stripe's webhooks: a verified event says only which object changed; its state is then fetched from Stripe.

So events may come in any order, repeatedly, or late. Whoever steals a webhook secret can make the wallet fetch objects,
but not credit money. An event is answered with success only when everything that it led to is committed; until then the
answer is a failure, and Stripe sends the event again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ...domain.errors import Unavailable
from ...domain.payments import Alarm
from .desk import Desk
from .provider import NoAnswer
from .signature import verify
from .topups import TopUps
from .withdrawals import Withdrawals

_CLAIMING: Final = ("charge", "refund", "dispute")
"""Objects that are about money taken back; each names its PaymentIntent."""


class NotAnEvent(Exception):
    """The body is signed, but is not an event."""


class Events:
    """Handles the events that Stripe posts."""

    def __init__(
        self, desk: Desk, top_ups: TopUps, withdrawals: Withdrawals, secrets: Sequence[str], *, live: bool
    ) -> None:
        """`secrets` are the valid ones: of one endpoint or two, with a second one for each while it is rotated."""
        self._desk = desk
        self._top_ups = top_ups
        self._withdrawals = withdrawals
        self._secrets = tuple(secrets)
        self._live = live

    @property
    def is_open(self) -> bool:
        """Whether there is a secret to verify events with."""
        return bool(self._secrets)

    async def receive(self, raw: bytes, header: str | None) -> str:
        """Handle one event; returns what it was about.

        Raises:
            BadSignature: it is not Stripe's, or too old; nothing was done. NotAnEvent: it is signed, but not an event.
            Unavailable, InDoubt: it was not handled; Stripe must send it again.
        """
        verify(raw, header, self._secrets, int(self._desk.clock().timestamp()))
        event = _event(raw)
        event_id = str(event.get("id", ""))[:80]
        if bool(event.get("livemode")) is not self._live:
            await self._desk.alarm(Alarm(event_id, f"its livemode is not that of the key, which is {self._live}"))
            return "put aside"
        try:
            return await self._look(event)
        except NoAnswer as error:
            raise Unavailable("the payment provider does not answer") from error

    async def _look(self, event: Mapping[str, Any]) -> str:
        about = _object(event)
        kind, object_id = about.get("object"), about.get("id")
        if kind == "payment_intent" and isinstance(object_id, str):
            return await self._top_ups.observe(object_id, with_clawbacks=False)
        if kind in _CLAIMING and isinstance(about.get("payment_intent"), str):
            return await self._top_ups.observe(str(about["payment_intent"]), with_clawbacks=True)
        if kind == "payout" and isinstance(object_id, str) and isinstance(event.get("account"), str):
            return await self._withdrawals.observe(object_id, str(event["account"]))
        return "of no concern"


def _event(raw: bytes) -> Mapping[str, Any]:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NotAnEvent("it is not JSON") from error
    if not isinstance(event, dict) or event.get("object") != "event":
        raise NotAnEvent("it is no event")
    return event


def _object(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    found = data.get("object") if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
