"""Which accounts are often locked by other batches, of this process or another: commands wait for those first.

An account is *hot* if it was found locked several times within a short time. A command that needs a hot account waits
for it before it locks anything else; otherwise its first attempt would lock its other accounts and then fail. If many
accounts are found locked at once, none counts as hot: a separate lane for each would split the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ...domain.ids import AccountId

SIGHTINGS: Final = 3
"""How often an account must be found locked within `SECONDS` to count as hot."""
SECONDS: Final = 0.25
"""How long sightings count, and how long an account stays hot after the last sighting."""
HOT_MAX: Final = 4
"""If more accounts than this are hot at once, none counts as hot."""
_KNOWN_MAX: Final = 4_096


class HotAccounts:
    """Counts how often accounts were found locked. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[AccountId, tuple[int, float]] = {}
        """The count of sightings, and the time at which counting starts anew."""
        self._hot: dict[AccountId, float] = {}
        """The time until which an account is hot."""

    def saw(self, account_ids: Iterable[AccountId]) -> None:
        """Note that another transaction had these accounts locked."""
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
        """The smallest id of the accounts that are hot now, so that opposite payments wait for the same account."""
        if not 0 < len(self._hot) <= HOT_MAX:
            return None
        now = self._clock()
        return min((i for i in account_ids if self._hot.get(i, 0.0) > now), default=None)
