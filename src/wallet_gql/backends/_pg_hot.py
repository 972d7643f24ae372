"""Which few accounts other processes lock again and again: commands that need one wait for it at once.

To find it locked first would cost them an attempt, in which they lock what else they need and keep it from whoever is
about to have both. In a crowd, where many accounts are found locked, none is hot: to wait for each by itself would take
the batches apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..domain.ids import AccountId

SIGHTINGS: Final = 3
"""So often an account is found locked within `SECONDS` before it counts as hot."""
SECONDS: Final = 0.25
"""How long that lasts; then somebody looks again."""
HOT_MAX: Final = 4
"""More than so many at once are a crowd."""
_KNOWN_MAX: Final = 4_096


class HotAccounts:
    """Counts sightings by account, on the clock that is given (seconds)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[AccountId, tuple[int, float]] = {}
        """How often within the time that ends then."""
        self._hot: dict[AccountId, float] = {}
        """Until when."""

    def saw(self, account_ids: Iterable[AccountId]) -> None:
        """Somebody else had these locked."""
        now = self._clock()
        if len(self._seen) > _KNOWN_MAX:
            self._seen.clear()
        for account_id in account_ids:
            count, until = self._seen.get(account_id, (0, 0.0))
            if until <= now:
                count, until = 0, now + SECONDS
            self._seen[account_id] = count + 1, until
            if count + 1 >= SIGHTINGS:
                self._hot[account_id] = now + SECONDS
        self._hot = {account_id: until for account_id, until in self._hot.items() if until > now}

    def hottest(self, account_ids: Iterable[AccountId]) -> AccountId | None:
        """The smallest of them that is hot now: opposite payments wait behind the same one."""
        if not 0 < len(self._hot) <= HOT_MAX:
            return None
        now = self._clock()
        return min((i for i in account_ids if self._hot.get(i, 0.0) > now), default=None)
