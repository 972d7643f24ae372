"""Counts failed log-ins, and refuses further ones before the password is checked.

Failures are counted for each pair of name and address, for each name over a site (an IPv6 /48), and for each address. A
name is refused only because of its own failures at this address or site. So guessing is slow, and nobody can lock a
user out, neither from another address nor from a shared one. At an address with many failures, each name has fewer
attempts.

An attempt is counted as failed before it is made, and forgotten if it succeeds. So even with many concurrent attempts,
at most that many passwords are checked. The counts are records: they survive a restart, and all processes share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime

from ..domain.changes import ReadSet
from ..domain.errors import RateLimited, WalletError
from ..domain.model import Record, RecordKey
from ..domain.security_events import (
    ADDRESS_FAILURES_MAX,
    BUSY_FAILURES_MAX,
    FAILURES_MAX,
    SITE_FAILURES_MAX,
    Throttle,
    Visitor,
    throttle_key,
)
from ..records import change, read, remove
from ..storage import Store

Attempt = tuple[RecordKey, ...]
"""The keys under which an attempt was counted: first name and address, then name and site."""


class Throttles:
    """The counts. Without a visitor (on the command line) nothing is counted."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def attempt(self, name: str, visitor: Visitor | None) -> Attempt:
        """Count an attempt for a name as failed, before the password is checked. Raises RateLimited."""
        if visitor is None:
            return ()
        now = self._clock()
        everything = Throttle.from_record(await read(self._store, _of_address(visitor)), now)
        most = FAILURES_MAX if everything.count < ADDRESS_FAILURES_MAX else BUSY_FAILURES_MAX
        bounds = [(throttle_key("name", name, visitor.network), most)]
        if visitor.site is not None:
            bounds.append((throttle_key("site", name, visitor.site), SITE_FAILURES_MAX))
        taken: list[RecordKey] = []
        for key, bound in bounds:
            try:
                await self._take(key, bound, now)
            except WalletError:
                await self._give_back(taken)
                raise
            taken.append(key)
        return tuple(taken)

    async def _take(self, key: RecordKey, most: int, now: datetime) -> None:
        def make(before: Record | None) -> Record:
            found = Throttle.from_record(before, now)
            if found.count >= most:
                raise _refusal(found, now)
            return replace(found, count=found.count + 1).to_record(key)

        await change(self._store, key, make)

    async def failed(self, visitor: Visitor | None) -> None:
        """Count a failure for the address."""
        if visitor is None:
            return
        now, key = self._clock(), _of_address(visitor)

        def make(before: Record | None) -> Record:
            found = Throttle.from_record(before, now)
            return replace(found, count=found.count + 1).to_record(key)

        await change(self._store, key, make)

    async def succeeded(self, attempt: Attempt) -> None:
        """Forget the failures for this name and address; other failures on the site stay."""
        if attempt:
            await remove(self._store, attempt[0], lambda _: True)
            await self._give_back(attempt[1:])

    async def forget(self, names: Iterable[str], visitors: Collection[Visitor]) -> None:
        """Forget the failures for these names from where these visitors were; those of addresses stay."""
        places = {("name", visitor.network) for visitor in visitors}
        places |= {("site", visitor.site) for visitor in visitors if visitor.site is not None}
        keys = tuple(throttle_key(sort, name, place) for name in names for sort, place in places)
        found = await self._store.fetch(ReadSet(records=keys))
        for key in keys:
            if found.record(key) is not None:
                await remove(self._store, key, lambda _: True)

    async def refund_attempt(self, attempt: Attempt) -> None:
        """Take one attempt off the counts, because no password was checked."""
        await self._give_back(attempt)

    async def _give_back(self, keys: Iterable[RecordKey]) -> None:
        now = self._clock()
        for key in keys:

            def make(before: Record | None, key: RecordKey = key) -> Record | None:
                found = Throttle.from_record(before, now)
                if before is None or not found.count:
                    return None
                return replace(found, count=found.count - 1).to_record(key)

            await change(self._store, key, make)


def _of_address(visitor: Visitor) -> RecordKey:
    return throttle_key("address", visitor.network)


def _refusal(found: Throttle, now: datetime) -> RateLimited:
    return RateLimited(max(1, math.ceil((found.ends_at - now).total_seconds())))
