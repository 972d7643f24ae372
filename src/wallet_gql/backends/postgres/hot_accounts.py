"""Which accounts are often locked by other batches, of this process or another: commands wait for those first.

An account is *hot* if it was found locked several times within a short time. A command that needs a hot account waits
for it before it locks anything else; otherwise its first attempt would lock its other accounts and then fail. If many
accounts are found locked at once, none counts as hot: a separate lane for each would split the batches.

An account is *stuck* if it stayed locked for all the time that a batch waited, for example because a payment is in
doubt. A batch that waits for a stuck account must hold no other account, or that one would be stuck as well.
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
STUCK_SECONDS: Final = 3.0
"""How long an account counts as stuck after a wait that failed, unless it is locked successfully sooner."""
_KNOWN_MAX: Final = 4_096


class HotAccounts:
    """Counts how often accounts were found locked. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[AccountId, tuple[int, float]] = {}
        """The count of sightings, and the time at which counting starts anew."""
        self._hot: dict[AccountId, float] = {}
        """The time until which an account is hot."""
        self._stuck: dict[AccountId, float] = {}
        """The time until which an account is stuck."""

    def awaited(self, account_ids: Iterable[AccountId]) -> AccountId | None:
        """The account that a command should wait for first: one that is stuck, else one that is hot."""
        if not self._hot and not self._stuck:
            return None
        names = tuple(account_ids)
        return min(filter(self.is_stuck, names), default=None) or self.hottest(names)

    def stuck(self, account_ids: Iterable[AccountId]) -> None:
        """Note that a wait for these accounts failed."""
        now = self._clock()
        self._stuck = {account_id: until for account_id, until in self._stuck.items() if until > now}
        if len(self._stuck) <= _KNOWN_MAX:
            self._stuck.update(dict.fromkeys(account_ids, now + STUCK_SECONDS))

    def free(self, account_id: AccountId) -> None:
        """Note that the account was locked successfully."""
        self._stuck.pop(account_id, None)

    def is_stuck(self, account_id: AccountId) -> bool:
        """Whether a wait for the account failed a moment ago."""
        return self._stuck.get(account_id, 0.0) > self._clock()

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
