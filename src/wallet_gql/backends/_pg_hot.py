"""Which accounts other processes lock again and again: commands that need one wait for it at once.

To find it locked first would cost them an attempt, in which they lock what else they need and keep it from whoever is
about to have both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..domain.ids import AccountId

SIGHTINGS: Final = 3
"""So often an account is found locked within `SECONDS` before it counts as hot: in a crowd of accounts few are."""
SECONDS: Final = 0.25
"""How long that lasts; then somebody looks again."""
_KNOWN_MAX: Final = 4_096


class HotAccounts:
    """Counts sightings by account, on the clock that is given (seconds)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[AccountId, tuple[int, float]] = {}
        """How often within the time that ends then."""

    def saw(self, account_ids: Iterable[AccountId]) -> None:
        """Somebody else had these locked."""
        now = self._clock()
        if len(self._seen) > _KNOWN_MAX:
            self._seen.clear()
        for account_id in account_ids:
            count, until = self._seen.get(account_id, (0, 0.0))
            fresh = until <= now
            # The third sighting begins the time anew: as many commands then wait, and none looks.
            renewed = fresh or count + 1 == SIGHTINGS
            self._seen[account_id] = (1 if fresh else count + 1, now + SECONDS if renewed else until)

    def hottest(self, account_ids: Iterable[AccountId]) -> AccountId | None:
        """The smallest of them that is hot now: opposite payments wait behind the same one."""
        if not self._seen:
            return None
        now = self._clock()
        known = ((account_id, *self._seen.get(account_id, (0, 0.0))) for account_id in account_ids)
        hot = [account_id for account_id, count, until in known if count >= SIGHTINGS and until > now]
        return min(hot, default=None)
