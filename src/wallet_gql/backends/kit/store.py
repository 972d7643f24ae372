"""What every backend shares above its driver: group commit, group reads, and `watch` by polling with hints."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import Final, Self, TypeVar

from ...domain.changes import Decide, Outcome, ReadSet, Scope, Snapshot, State
from ...domain.ids import AccountId
from ...domain.model import RecordKey
from ...storage import PAGE_MAX, TIMEOUT_SECONDS, Committed, HistoryLine, Page, PageRequest
from .group_commit import Command, Deferred, GroupCommit, LanePolicy
from .group_read import GroupRead
from .wanted import Wanted

PageAsked = tuple[AccountId, PageRequest]
"""A page of an account's history: the account and the page."""

R = TypeVar("R")

WATCH_POLL_SECONDS: Final = 0.25


class GroupStore(ABC):
    """Base of the backends: this class collects commands into batches, subclasses commit the batches."""

    migrates: bool = True
    """Whether opening makes a ledger where there is none, and brings an older one up to date; see `versions.is_due`."""

    production: bool = False
    """Whether opening refuses settings that are only good for trying the wallet out."""

    def __init__(self, policy: LanePolicy | None = None) -> None:
        """Open nothing; `async with` does. `policy` says how lanes batch and take turns."""
        self.groups = GroupCommit(self._commit, policy)
        self.fetches: GroupRead[ReadSet, State] = GroupRead(self._fetch_all)
        self.pages: GroupRead[PageAsked, Page[HistoryLine]] = GroupRead(lambda _, asked: self._pages(asked))
        self._watchers: dict[AccountId, set[asyncio.Event]] = {}
        self._hearers: list[Callable[[Sequence[RecordKey]], None]] = []

    async def __aenter__(self) -> Self:
        """Open what the backend needs. Raises ConfigurationError."""
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Finish the commits in flight, then close."""
        try:
            await self.groups.close()
            await self.fetches.close()
            await self.pages.close()
        finally:
            await self._close()

    @abstractmethod
    async def _open(self) -> None:
        """Open pools and check versions. Raises ConfigurationError."""

    @abstractmethod
    async def _close(self) -> None:
        """Close what `_open` opened, in reverse."""

    @abstractmethod
    async def _commit(
        self, lane: Hashable, batch: Sequence[Command], wait_seconds: float
    ) -> Sequence[Outcome | Deferred]:
        """Load the batch's scopes under locks, decide, write, commit. Raises Unavailable or InDoubt for all of it."""

    def _lane(self, scope: Scope) -> Hashable:
        """The lane of a command: equal lanes commit together. By default there is one lane."""
        return None

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """See `Store.execute`."""
        scope.check_home()
        try:
            done = await self.groups.submit(self._lane(scope), scope, decide, timeout_seconds)
        finally:
            if scope.records:
                for hear in self._hearers:
                    hear(scope.records)
        return Committed(done.result, credited=not done.peers, accounts=done.accounts)

    def on_records(self, hear: Callable[[Sequence[RecordKey]], None]) -> None:
        """See `Store.on_records`."""
        self._hearers.append(hear)

    @abstractmethod
    async def _fetch(self, wanted: Wanted) -> State:
        """Load `wanted`, of any slots, without locks; each node's part at one moment. Raises Unavailable."""

    @abstractmethod
    async def _pages(self, asked: Sequence[PageAsked]) -> Sequence[Page[HistoryLine]]:
        """The pages asked for, in order; all are of one lane. Uses one round trip if possible. Raises Unavailable."""

    def _read_lane(self, reads: ReadSet) -> Hashable:
        """The lane of a fetch: equal lanes are read together; by default all. No read should wait for another node."""
        return None

    def _page_lane(self, account_id: AccountId, page: PageRequest) -> Hashable:
        """The lane of a page: equal lanes are read together; by default all."""
        return None

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """See `Store.fetch`."""
        return Snapshot(await self.fetches.ask(self._read_lane(reads), reads), reads)

    async def _fetch_all(self, _lane: Hashable, group: Sequence[ReadSet]) -> list[State]:
        return [await self._fetch(Wanted.of(group))] * len(group)

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """See `Store.list_transfers`."""
        return await self.pages.ask(self._page_lane(account_id, page), (account_id, page))

    def _hint(self, account_ids: Iterable[AccountId]) -> None:
        """Wake the watchers of accounts that this process has just written."""
        if self._watchers:
            for account_id in account_ids:
                for event in self._watchers.get(account_id, ()):
                    event.set()

    async def watch(self, account_id: AccountId, after_sequence: int) -> AsyncIterator[HistoryLine]:
        """Poll for entries above `after_sequence`. A commit of this process only triggers the next poll sooner."""
        event = asyncio.Event()
        self._watchers.setdefault(account_id, set()).add(event)
        try:
            while True:
                event.clear()
                request = PageRequest(PAGE_MAX, after=after_sequence, newest_first=False)
                page = await self.list_transfers(account_id, request)
                for line in page.items:
                    yield line
                    after_sequence = line.entry.sequence
                if not page.has_more:
                    await _wait(event, WATCH_POLL_SECONDS)
        finally:
            self._watchers[account_id].discard(event)
            if not self._watchers[account_id]:
                del self._watchers[account_id]


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def start_of(*, descending: bool) -> str:
    """The text that all ids are behind, in that order: what an empty `after` of `Store.list_records` stands for."""
    return chr(sys.maxunicode) if descending else ""


def page_of(rows: Sequence[R], limit: int) -> Page[R]:
    """A page from up to limit + 1 rows: the extra row only shows that there are more."""
    return Page(tuple(rows[:limit]), has_more=len(rows) > limit)
