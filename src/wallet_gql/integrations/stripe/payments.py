"""Builds top-ups, withdrawals and webhooks from the settings."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

from ...domain.errors import ConfigurationError
from ...domain.payments import StoredAlarm
from ...records import Swept
from ...settings import Settings
from ...storage import Store
from .desk import Desk
from .events import Events
from .reconcile import Reconciler
from .topups import TopUps
from .withdrawals import Withdrawals

if TYPE_CHECKING:
    from .api import StripeApi


@dataclass(frozen=True, slots=True)
class Payments:
    """Top-ups and withdrawals. Without a provider (`is_configured` False), existing ones can still be read."""

    is_configured: bool
    desk: Desk
    top_ups: TopUps
    withdrawals: Withdrawals
    events: Events
    reconciler: Reconciler

    async def alarms(self, *, with_settled: bool = False) -> list[StoredAlarm]:
        """What only an operator can settle and nobody has; or all alarms. Oldest first."""
        return await self.desk.alarms(with_settled=with_settled)

    async def sweep(self) -> Swept:
        """Advance all top-ups and withdrawals that are due."""
        return await self.top_ups.sweep() + await self.withdrawals.sweep()


def make_payments(desk: Desk, api: StripeApi | None, webhook_secrets: tuple[str, ...]) -> Payments:
    """The flows over a store, with a provider or without."""
    top_ups, withdrawals = TopUps(desk, api), Withdrawals(desk, api)
    is_live = api is not None and api.is_live
    events = Events(desk, top_ups, withdrawals, webhook_secrets if api else (), live=is_live)
    reconciler = Reconciler(desk.store, api, top_ups, withdrawals)
    return Payments(api is not None, desk, top_ups, withdrawals, events, reconciler)


def check_library(settings: Settings) -> None:
    """Raise ConfigurationError if a key is set, but the provider's library is not installed."""
    if settings.stripe_api_key.get_secret_value():
        try:
            import_module(".api", __package__)  # most wallets have no provider, and not its library
        except ImportError as error:
            raise ConfigurationError(
                "WALLET_STRIPE_API_KEY: Stripe's library is missing; pip install 'wallet-gql[stripe]'"
            ) from error


@asynccontextmanager
async def open_payments(settings: Settings, store: Store, clock: Callable[[], datetime]) -> AsyncIterator[Payments]:
    """Open payments as the settings say; at the end, close the connections to the provider.

    Raises:
        ConfigurationError: a key is set, but the provider's library is not installed.
    """
    desk = Desk(
        store,
        clock,
        lambda: secrets.randbits(62),
        settings.timeout_seconds,
        spending_limits=settings.limits_by_currency,
    )
    key = settings.stripe_api_key.get_secret_value()
    if not key:
        yield make_payments(desk, None, ())
        return
    check_library(settings)
    from .api import StripeApi  # noqa: PLC0415 - same

    api = StripeApi(key, base_url=settings.stripe_api_base, timeout_seconds=settings.stripe_timeout_seconds)
    try:
        yield make_payments(desk, api, settings.webhook_secrets)
    finally:
        await api.close()
