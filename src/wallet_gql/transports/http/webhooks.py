"""`POST /webhooks/stripe`: where Stripe posts its events. Only the signature shows that they are Stripe's.

| status | when |
|---|---|
| 200 | handled, or kept as an alarm for an operator: do not send it again |
| 400 | the signature is not Stripe's, or too old, or the body is not an event: nothing was done |
| 404 | this wallet has no webhook secret |
| 413 | the body is larger than any event |
| 503, 504 | not handled: send it again |
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...domain.errors import WalletError
from ...integrations.stripe.events import NotAnEvent
from ...integrations.stripe.signature import BadSignature
from ...runtime import Wallet
from ..catalogue import texts
from ..catalogue.errors import BAD_EVENT, NOT_FOUND
from .errors import problem
from .problems import Problem

log = logging.getLogger(__name__)

PATH: Final = "/webhooks/stripe"


def routes() -> list[Route]:
    """The endpoint."""
    route = Route(PATH, receive, methods=["POST"])
    return [route]


async def receive(request: Request) -> Response:
    """Handle one event. Raises Problem."""
    wallet: Wallet = request.app.state.wallet
    events = wallet.payments.events
    if not events.is_open:
        raise Problem(NOT_FOUND, texts.NO_STRIPE())
    raw = await request.body()
    try:
        about = await events.receive(raw, request.headers.get("stripe-signature"))
    except (BadSignature, NotAnEvent) as error:
        log.warning("a webhook was refused: %s", error)
        raise Problem(BAD_EVENT, texts.NO_EVENT(error=error)) from None
    except WalletError as error:
        log.warning("a webhook was not taken in and will come again: %s", error)
        return problem(error)
    log.debug("a webhook was about %s", about)
    return JSONResponse({"received": True})
