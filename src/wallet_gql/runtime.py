"""Makes a running wallet from settings: opens its parts, sweeps in the background, closes in reverse order."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import metrics
from .backends import open_store
from .background import attempt, run_for_ever
from .books.exchange import check_finished
from .domain.errors import InvalidInput, reasons
from .identity import Identity
from .identity.passwords import Passwords
from .integrations.stripe.payments import Payments, open_payments
from .integrations.webhooks.deliveries import Webhooks
from .integrations.webhooks.events import HttpSender, can_send
from .integrations.webhooks.sealing import sealer_of
from .integrations.webhooks.targets import check_url
from .settings import Mode, Settings
from .storage import Store
from .survey import Survey
from .verbs.ledger import Ledger, utc_now
from .verbs.merchants import Merchants

log = logging.getLogger("wallet_gql")

_RECOVER_MAX = 1_000

_THRESHOLDS = (20_000, 10, 5)
"""When garbage is looked for. Nearly everything that a request makes is freed without that; by Python's own numbers the
search would begin every 700 objects, and take a tenth of a payment's time. What has lived for long is searched every
million objects: were it done more rarely, what little garbage there is among it would add up to megabytes."""

Job = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Wallet:
    """The running parts, shared by all transports."""

    settings: Settings
    store: Store
    ledger: Ledger
    identity: Identity
    payments: Payments
    merchants: Merchants
    webhooks: Webhooks


def settle_memory() -> None:
    """Exempt everything that is in memory now from garbage collection.

    For long-running servers: modules and the schema are most of the objects, they are never freed, and scanning them
    took a good part of the processor time of a payment.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


@contextmanager
def settled_memory() -> Iterator[None]:
    """`settle_memory` inside the `with` block."""
    before = gc.get_threshold()
    settle_memory()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@asynccontextmanager
async def open_wallet(settings: Settings, *, sweeps: bool = True, migrates: bool = True) -> AsyncIterator[Wallet]:
    """Open the store and everything above it; with `sweeps`, run recovery and sweeps until it is closed.

    Without `migrates`, a store is refused that holds no ledger, or one of an older version.

    Raises:
        ConfigurationError: the store refuses to start, and says why; or the ledger is half imported.
    """
    opening = open_store(settings.storage, migrates=migrates, production=settings.mode is Mode.PRODUCTION)
    async with opening as store:
        await check_finished(store)
        async with wallet_over(store, settings, sweeps=sweeps) as wallet:
            yield wallet


@asynccontextmanager
async def wallet_over(store: Store, settings: Settings, *, sweeps: bool = True) -> AsyncIterator[Wallet]:
    """Everything above an open store, as `open_wallet`; the store stays open. Raises ConfigurationError."""
    async with open_payments(settings, store, utc_now) as payments:
        ledger = Ledger(
            store,
            transfer_fee_basis_points=settings.transfer_fee_basis_points,
            timeout_seconds=settings.timeout_seconds,
            spending_limits=settings.limits_by_currency,
        )
        identity = _identity(settings, store)
        merchants, webhooks, sender = _merchants(settings, ledger)
        wallet = Wallet(settings, store, ledger, identity, payments, merchants, webhooks)
        await store.recover(_RECOVER_MAX)
        parts = (_own_jobs(wallet), _outside_jobs(wallet), {"sending events": webhooks.sweep}) if sweeps else ()
        tasks = [asyncio.create_task(_sweep(part, settings.sweep_seconds)) for part in parts]
        if sweeps and (folder := metrics.folder()) is not None:
            tasks += (asyncio.create_task(_survey(wallet, folder)), asyncio.create_task(_flush()))
        try:
            yield wallet
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("background work had ended", exc_info=ended)
            await webhooks.aclose()
            await sender.aclose()
            identity.passwords.close()
            metrics.flush()


def _identity(settings: Settings, store: Store) -> Identity:
    passwords = Passwords(is_test=settings.mode is Mode.TEST)
    return Identity(store, clock=utc_now, passwords=passwords, session_cache_seconds=settings.session_cache_seconds)


def _merchants(settings: Settings, ledger: Ledger) -> tuple[Merchants, Webhooks, HttpSender]:
    is_free = settings.webhook_private_targets
    sender = HttpSender(allow_private=is_free)
    sealer = sealer_of(settings)
    retry_seconds = settings.webhook_retry_seconds
    webhooks = Webhooks(ledger.store, sender, clock=utc_now, retry_seconds=retry_seconds, unseal=sealer.open)

    def check(url: str) -> str:
        if not can_send():
            raise InvalidInput("webhookUrl", reasons.WEBHOOKS_MISSING())
        return check_url(url, allow_private=is_free)

    points = settings.merchant_fee_basis_points
    merchants = Merchants(ledger, fee_basis_points=points, check_url=check, on_paid=webhooks.wake, seal=sealer.seal)
    return merchants, webhooks, sender


def _own_jobs(wallet: Wallet) -> Mapping[str, Job]:
    return {
        "recovery": lambda: wallet.store.recover(_RECOVER_MAX),
        "expiring holds": wallet.ledger.expire_due_holds,
        "forgetting sessions and names": wallet.identity.sweep,
    }


def _outside_jobs(wallet: Wallet) -> Mapping[str, Job]:
    """Jobs that wait for servers outside. They have a task of their own, so that our own jobs do not wait for them."""
    return {"top-ups and withdrawals": wallet.payments.sweep}


async def _sweep(jobs: Mapping[str, Job], every_seconds: float) -> None:
    """Run every job in turn, for ever. An error of one job does not stop the others."""

    async def all_of_them() -> None:
        for name, job in jobs.items():
            if await attempt(log, name, job):
                metrics.SWEPT_AT.set(time.time(), name)
            else:
                metrics.SWEEP_FAILURES.add(name)

    metrics.SWEEP_SECONDS.set(every_seconds)
    for name in jobs:
        metrics.SWEPT_AT.set(time.time(), name)
    await run_for_ever(log, "the sweeps", all_of_them, every_seconds=every_seconds)


async def _flush() -> None:
    while True:
        await asyncio.sleep(metrics.FLUSH_SECONDS)
        metrics.flush()


async def _survey(wallet: Wallet, folder: Path) -> None:
    """Look at the store for the metrics, for ever."""
    settings = wallet.settings
    metrics.WORKERS.set(1)
    with closing(Survey(wallet.store, folder, utc_now, books_seconds=settings.books_seconds)) as survey:
        every_seconds = settings.survey_seconds
        async with asyncio.TaskGroup() as group:
            for name, step in (("the survey", survey.look), ("summing the books", survey.sum_books)):
                group.create_task(run_for_ever(log, name, step, every_seconds=every_seconds, at_once=True))
