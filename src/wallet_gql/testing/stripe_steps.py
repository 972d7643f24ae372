"""Calls to Stripe with an action between the answer and its commit, as if processes overlapped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..integrations.stripe.api import StripeApi

Meanwhile = Callable[[], Awaitable[object]]


class SteppedApi(StripeApi):
    """Stripe's calls. A set action runs once, and may make calls itself."""

    after_writing: Meanwhile | None = None
    """The action after the next writing call was answered, or got no answer."""

    after_reading: Meanwhile | None = None
    """The action after the next reading call was answered, or got no answer."""

    in_flight: int = 0
    """How many calls wait for their answer: each may reach Stripe at any moment."""

    async def _write(self, call: Awaitable[Any]) -> dict[str, Any]:
        meanwhile, self.after_writing = self.after_writing, None
        self.in_flight += 1
        try:
            return await super()._write(call)
        finally:
            self.in_flight -= 1
            if meanwhile is not None:
                await meanwhile()

    async def _read(self, call: Awaitable[Any]) -> dict[str, Any]:
        meanwhile, self.after_reading = self.after_reading, None
        self.in_flight += 1
        try:
            return await super()._read(call)
        finally:
            self.in_flight -= 1
            if meanwhile is not None:
                await meanwhile()
