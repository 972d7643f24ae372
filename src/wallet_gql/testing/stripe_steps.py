"""Calls to Stripe with something else between the answer and its commit, as if processes overlapped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..integrations.stripe.api import StripeApi

Meanwhile = Callable[[], Awaitable[object]]


class SteppedApi(StripeApi):
    """Stripe's calls. What is set to happen in between happens once, and may make calls itself."""

    after_writing: Meanwhile | None = None
    """What happens when the next call that writes has been answered, or has got no answer."""

    after_reading: Meanwhile | None = None
    """What happens when the next call that only reads has been answered, or has got no answer."""

    async def _write(self, call: Awaitable[Any]) -> dict[str, Any]:
        meanwhile, self.after_writing = self.after_writing, None
        try:
            return await super()._write(call)
        finally:
            if meanwhile is not None:
                await meanwhile()

    async def _read(self, call: Awaitable[Any]) -> dict[str, Any]:
        meanwhile, self.after_reading = self.after_reading, None
        try:
            return await super()._read(call)
        finally:
            if meanwhile is not None:
                await meanwhile()
