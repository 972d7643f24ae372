"""From settings to a running wallet: opens everything, sweeps in the background, closes in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from .backends import open_store
from .domain.errors import WalletError
from .identity import Identity
from .ledger import Ledger, utc_now
from .settings import Settings
from .storage import Store

log = logging.getLogger("wallet_gql")

_RECOVER_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Wallet:
    """The running parts, shared by all transports."""

    settings: Settings
    store: Store
    ledger: Ledger
    identity: Identity


@asynccontextmanager
async def open_wallet(settings: Settings, *, sweeps: bool = True) -> AsyncIterator[Wallet]:
    """Open the store and everything above it; with `sweeps`, also run recovery and sweeps until closed.

    Raises:
        ConfigurationError: the store refuses to start, and says why.
    """
    async with open_store(settings.storage) as store:
        ledger = Ledger(
            store,
            transfer_fee_basis_points=settings.transfer_fee_basis_points,
            timeout_seconds=settings.timeout_seconds,
        )
        identity = Identity(store, clock=utc_now)
        wallet = Wallet(settings, store, ledger, identity)
        await store.recover(_RECOVER_MAX)
        tasks = [asyncio.create_task(_sweep(wallet))] if sweeps else []
        try:
            yield wallet
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            identity.passwords.close()


async def _sweep(wallet: Wallet) -> None:
    jobs: list[Callable[[], Awaitable[object]]] = [
        lambda: wallet.store.recover(_RECOVER_MAX),
        wallet.ledger.expire_due_holds,
        wallet.identity.sweep,
    ]
    while True:
        await asyncio.sleep(wallet.settings.sweep_seconds)
        for job in jobs:
            try:
                await job()
            except WalletError as error:
                log.warning("a sweep will try again: %s", error)
            except Exception:
                log.exception("a sweep failed")
