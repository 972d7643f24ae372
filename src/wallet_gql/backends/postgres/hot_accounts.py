"""Which accounts other batches keep locked, those of this process or of others: whom a command waits for at once.

*Hot* are a few that are found locked again and again. To find one locked first would cost a command an attempt, in
which it locks what else it needs and keeps it from whoever is about to have both. In a crowd, where many accounts are
found locked, none is hot: to wait for each by itself would take the batches apart.

*Stuck* is one that stayed locked all the time that was given for it, such as that of a payment in doubt. Whoever waits
for it must hold nothing else meanwhile, or its neighbours would be stuck as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ...domain.ids import AccountId

SIGHTINGS: Final = 3
"""So often an account is found locked within `SECONDS` before it counts as hot."""
SECONDS: Final = 0.25
"""How long that lasts; then somebody looks again."""
HOT_MAX: Final = 4
"""More than so many at once are a crowd."""
STUCK_SECONDS: Final = 3.0
"""How long an account counts as stuck after it was waited for in vain, unless it is had before."""
_KNOWN_MAX: Final = 4_096


class HotAccounts:
    """Counts sightings by account, on the clock that is given (seconds)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[AccountId, tuple[int, float]] = {}
        """How often within the time that ends then."""
        self._hot: dict[AccountId, float] = {}
        """Until when."""
        self._stuck: dict[AccountId, float] = {}
        """Until when."""

    def awaited(self, account_ids: Iterable[AccountId]) -> AccountId | None:
        """For which of them a command should wait before anything else: one that is stuck, or else the hottest."""
        if not self._hot and not self._stuck:
            return None
        names = tuple(account_ids)
        return min(filter(self.is_stuck, names), default=None) or self.hottest(names)

    def stuck(self, account_ids: Iterable[AccountId]) -> None:
        """These were waited for in vain."""
        now = self._clock()
        self._stuck = {account_id: until for account_id, until in self._stuck.items() if until > now}
        if len(self._stuck) <= _KNOWN_MAX:
            self._stuck.update(dict.fromkeys(account_ids, now + STUCK_SECONDS))

    def free(self, account_id: AccountId) -> None:
        """It could be had."""
        self._stuck.pop(account_id, None)

    def is_stuck(self, account_id: AccountId) -> bool:
        """Whether it was waited for in vain a moment ago."""
        return self._stuck.get(account_id, 0.0) > self._clock()

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
