"""The stand-in beside a wallet: it posts its events to the wallet, and plays the bank that payouts go to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from ...domain.currencies import EXPONENTS
from .server import StandIn
from .state import PLATFORM

log = logging.getLogger(__name__)

FAILING: Final = "Fails"
"""Payouts of connected accounts whose id ends so, such as `acct_bobFails`, are returned by the bank."""

_FUNDS: Final = 10**12
"""What the platform has in each currency, in minor units: withdrawals need no top-up before."""

_TICK_SECONDS: Final = 0.1
_PAUSE_MAX_SECONDS: Final = 10.0
_POST_SECONDS: Final = 10.0

_DIRECT: Final = build_opener(ProxyHandler({}))
"""Asks the wallet itself, whatever proxy the environment names."""


@contextmanager
def running(webhook: str, secrets: tuple[str, ...], *, port: int = 0, bank_seconds: float = 3.0) -> Iterator[StandIn]:
    """A stand-in that works by itself, until the end of the block.

    Args:
        webhook: The wallet's address for events: `http://…/webhooks/stripe`.
        secrets: Sign the events; the wallet has them, too.
        port: Where to listen on this machine; 0 picks a free one.
        bank_seconds: How long a payout is pending, and then how long it is in transit.

    Raises:
        OSError: the port cannot be had.
    """
    stand_in = StandIn(secrets, port=port)
    stand_in.state.knows_every_account = True
    stand_in.state.balances.update({(PLATFORM, currency.lower()): _FUNDS for currency in EXPONENTS})
    ended = threading.Event()
    work = threading.Thread(target=_work, args=(stand_in, webhook, bank_seconds, ended), daemon=True)
    with stand_in:
        work.start()
        try:
            yield stand_in
        finally:
            ended.set()
            work.join()


def _work(stand_in: StandIn, webhook: str, bank_seconds: float, ended: threading.Event) -> None:
    """Move payouts on and post events, in their order, each until the wallet takes it."""
    told, pause = 0, _TICK_SECONDS
    while not ended.wait(pause):
        pause = _TICK_SECONDS
        with stand_in.lock:
            _move_payouts(stand_in, bank_seconds)
            waiting = stand_in.state.events[told:]
        for event in waiting:
            if ended.is_set() or not _post(webhook, *stand_in.signed(event)):
                pause = min(_PAUSE_MAX_SECONDS, 10 * _TICK_SECONDS)
                break
            told += 1


def _move_payouts(stand_in: StandIn, bank_seconds: float) -> None:
    state = stand_in.state
    state.now = stand_in.now()
    for payout in state.of_kind("payout"):
        age = state.now - payout["created"]
        if payout["status"] == "pending" and age >= bank_seconds:
            state.settle_payout(payout["id"], "in_transit")
        elif payout["status"] == "in_transit" and age >= 2 * bank_seconds:
            state.settle_payout(payout["id"], "failed" if payout["account"].endswith(FAILING) else "paid")


def _post(webhook: str, raw: bytes, signature: str) -> bool:
    """Whether the wallet has taken the event."""
    headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
    try:
        request = Request(webhook, raw, headers)  # noqa: S310 - the operator's own address
        with _DIRECT.open(request, timeout=_POST_SECONDS):
            return True
    except HTTPError as refused:
        with refused:
            log.warning("the wallet does not take an event: %s; it is posted again", refused)
        return False
    except (OSError, HTTPException):  # it does not serve yet, or not now
        return False
