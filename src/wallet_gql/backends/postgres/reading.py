"""How a ledger on Postgres nodes is read: by a placement of slots that every node asked has confirmed.

Each read sends the epoch of the node that it asks. The node refuses another one, in the snapshot of the read itself, so
a node that slots have left cannot answer for them. The read is then done again, by a newer placement.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeVar

import orjson

from ...domain.changes import ReadSet, Snapshot, State
from ...domain.errors import Contended, Unavailable, WalletError
from ...domain.ids import AccountId, slot_of
from ...domain.model import Hold, Record
from ...storage import PAGE_MAX, HistoryLine, NodeTotal, Page, PageRequest, ScanKind, ScanPage
from ..kit.group_commit import LanePolicy
from ..kit.kinds import Row
from ..kit.receiving import RECEIVE_MAX
from ..kit.store import PageAsked
from ..kit.wanted import Wanted
from ..relational.store import RelationalStore, totals_of
from . import text as sql
from .json_text import fill, wish
from .learning import Learning
from .node import PgNode
from .placement import OtherEpoch, Placement, SlotMoving
from .setup import parse_url
from .sums import sums_of

R = TypeVar("R")

_FETCH_SECONDS: Final = 2.0
"""How long a node may take for a few named records; commands look these up before they begin."""

MOVE_SECONDS: Final = 2.0
"""How long a read waits for slots that are moving, and for a placement that its nodes do not refuse."""

_READING: ContextVar[Placement | None] = ContextVar("reading", default=None)
"""The placement by which a read of several statements goes from its beginning to its end."""


class PgReads(RelationalStore):
    """The reading half of a store on named Postgres nodes."""

    statements = sql.STATEMENTS

    def __init__(self, url: str, policy: LanePolicy) -> None:
        """See `PgStore`."""
        super().__init__(policy)
        self.nodes_url = url
        """The address of the nodes alone."""
        self._nodes = {name: PgNode(name, node_url) for name, node_url in sorted(parse_url(url).items())}
        self._learning = Learning(url, self._nodes)

    @property
    def placement(self) -> Placement:
        """The placement of slots that this process goes by."""
        return self._learning.known

    async def relearn(self) -> None:
        """Read the placement again, from every node. Raises Unavailable."""
        await self._learning.learn_all()

    def node(self, name: str) -> PgNode:
        """A node of the ledger. Raises KeyError."""
        return self._nodes[name]

    async def _by_placement(self, read: Callable[[Placement], Awaitable[R]]) -> R:
        """Read by the placement that is known; again by a newer one if a node refuses it, or slots are moving.

        Raises:
            Unavailable: also if that takes longer than `MOVE_SECONDS`.
        """
        until = asyncio.get_running_loop().time() + MOVE_SECONDS
        while True:
            homes = self.placement
            try:
                return await read(homes)
            except OtherEpoch as error:
                if asyncio.get_running_loop().time() > until:
                    raise Unavailable(error.detail) from error
            await self._learning.learn(homes)

    async def _throughout(self, read: Callable[[], Awaitable[R]]) -> R:
        """A read of all nodes by one placement. No slot is then on two nodes, nor on none.

        Slots that are just moving are read where they come from: their target would refuse once it had them.

        Raises:
            Unavailable: also if this process has never reached one of the nodes, whose rows would be left out.
        """

        async def by(homes: Placement) -> R:
            check_whole(homes)
            if homes.left:
                await self._finish_moves(homes)
                raise SlotMoving(f"nodes {', '.join(homes.left)} still have slots that others have already")
            token = _READING.set(homes)
            try:
                return await read()
            finally:
                _READING.reset(token)

        return await self._by_placement(by)

    @abstractmethod
    async def _finish_moves(self, homes: Placement) -> None:
        """End what a move that has stopped has left. Raises Unavailable."""

    def _homes(self) -> Placement:
        return _READING.get() or self.placement

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """See `Store.fetch`. Reads of slots that are moving wait here, in no group: others must not wait for them."""
        read = super().fetch

        async def by(homes: Placement) -> Snapshot:
            if homes.moving:
                Wanted.of((reads,)).split(homes.served)
            return await read(reads)

        return await self._by_placement(by)

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """See `Store.list_transfers`, and `fetch`."""
        read = super().list_transfers

        async def by(homes: Placement) -> Page[HistoryLine]:
            homes.served(slot_of(account_id))
            return await read(account_id, page)

        return await self._by_placement(by)

    def _read_lane(self, reads: ReadSet) -> Hashable:
        """Fetches from the same nodes are read together."""
        return None if len(self._nodes) == 1 else frozenset(Wanted.of((reads,)).split(self.placement.home))

    def _page_lane(self, account_id: AccountId, page: PageRequest) -> Hashable:
        """Pages of one node and one direction are read together."""
        return self.placement.home(slot_of(account_id)), page.newest_first

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`. Each node's part is read at one moment; the moments of two nodes may differ.

        Raises OtherEpoch for the whole group: each member then waits for a newer placement, and goes to the group where
        it belongs by that.
        """
        homes = self.placement
        state = State("", lambda _: None)
        if len(homes.names) == 1:
            await self._read_part(homes, homes.names[0], state, wanted)
            return state
        parts = wanted.split(homes.served)
        await asyncio.gather(*(self._read_part(homes, name, state, part) for name, part in parts.items()))
        return state

    async def _read_part(self, homes: Placement, name: str, state: State, part: Wanted) -> None:
        """Load a node's part without locks."""
        asked = self._wish(part, "read", homes.epochs[name])
        load = "SELECT wallet_load($1, $2)"
        text = await self._nodes[name].ask(load, asked, "read", seconds=_FETCH_SECONDS, soon=True)
        fill(state, part, orjson.loads(text))

    def _wish(self, wanted: Wanted, mode: str, epoch: int, **more: Any) -> str:
        """The input of `wallet_load`. On one node nothing is ever pending, and no slot moves."""
        alone = len(self._nodes) == 1
        receive = None if alone else 0 if mode == "read" else RECEIVE_MAX
        return wish(wanted, receive=receive, **({} if alone and mode == "read" else {"epoch": epoch}), **more)

    async def _ask_pages(self, asked: Sequence[PageAsked]) -> list[list[Row]]:
        """See `RelationalStore._ask_pages`, and `_fetch`. After a move not all need be of one node."""
        homes = self.placement
        by_node: dict[str, list[int]] = {}
        for place, (account_id, _) in enumerate(asked):
            by_node.setdefault(homes.served(slot_of(account_id)), []).append(place)
        found: list[list[Row]] = [[] for _ in asked]
        token = _READING.set(homes)
        try:
            for node, places in by_node.items():
                pages = await self._pages_on(node, [asked[place] for place in places])
                for place, page in zip(places, pages, strict=True):
                    found[place] = page
        finally:
            _READING.reset(token)
        return found

    async def _pages_on(self, node: str, asked: Sequence[PageAsked]) -> list[list[Row]]:
        """The pages of one node. One statement for a single page, another one for several."""
        if len(asked) == 1:
            text, values = self.statements.history_page(*asked[0])
            return [list(await self._ask(node, text, *values, soon=True))]
        newest_first = asked[0][1].newest_first
        bounds = [sql.bounds(page) for _, page in asked]
        values = ([account_id for account_id, _ in asked], *map(list, zip(*bounds, strict=True)))
        found: list[list[Row]] = [[] for _ in asked]
        rows = await self._ask(node, sql.PAGES[newest_first], *values, soon=True)
        for place, page in groupby(rows, key=itemgetter(-1)):
            found[place - 1] += page
        return found

    async def _ask(self, node: str, statement: str, *values: Any, soon: bool = False) -> Sequence[Row]:
        statement, values = self._at_epoch(node, statement, *values)
        return await self._nodes[node].rows(statement, *values, soon=soon)

    def _at_epoch(self, node: str, statement: str, *values: Any) -> tuple[str, tuple[Any, ...]]:
        """A read and its values, so that the node refuses it if it has another epoch. On one node no slot moves."""
        if len(self._nodes) == 1:
            return statement, values
        return sql.at_epoch(statement, len(values)), (*values, self._homes().epochs[node])

    async def _ask_for_sweep(self, node: str, statement: str, *values: Any) -> Sequence[Row]:
        """See `RelationalStore`. A node that does not answer is skipped."""
        try:
            return await self._ask(node, statement, *values)
        except OtherEpoch:
            raise
        except WalletError:
            return ()

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """See `Store.list_records`."""
        read = super().list_records
        return await self._throughout(lambda: read(kind, owner, after=after, limit=limit, descending=descending))

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        read = super().list_due
        return await self._throughout(lambda: read(kind, before, limit))

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`."""
        found: list[NodeTotal] = []
        for part in (await self.totals_apart()).values():
            if isinstance(part, WalletError):
                raise part
            found += part
        return found

    async def totals_apart(self) -> Mapping[str, Sequence[NodeTotal] | WalletError]:
        """See `SummedApart`. Raises Unavailable if this process has never reached one of the nodes."""
        return await self._throughout(self._sums)

    async def _sums(self) -> Mapping[str, Sequence[NodeTotal] | WalletError]:
        homes = self._homes()
        asked = {name: asyncio.create_task(self._sums_on(name)) for name in homes.names}
        try:
            return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
        finally:  # one that has refused the epoch lets none of the others sum in vain
            for task in asked.values():
                task.cancel()

    async def _sums_on(self, node: str) -> Sequence[NodeTotal] | WalletError:
        """The sums of one node, or why there are none. Raises OtherEpoch."""
        statement, values = self._at_epoch(node, self.statements.totals)
        try:
            return totals_of(node, await sums_of(self._nodes[node], statement, *values))
        except OtherEpoch:
            raise
        except WalletError as error:
            return error

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`. Raises Contended if slots have moved since the scan began: it could miss them."""
        begun, inner = orjson.loads(after) if after else (None, None)
        read = super().scan

        async def page() -> ScanPage:
            epochs = sorted(self._homes().epochs.items())
            if begun is not None and list(map(tuple, begun)) != epochs:
                raise Contended("slots have moved since this scan began: wait for the move to end, or stop it")
            found = await read(kind, inner, limit)
            following = None if found.after is None else orjson.dumps([epochs, found.after]).decode()
            return ScanPage(found.items, following)

        return await self._throughout(page)


def check_whole(homes: Placement) -> None:
    """Raises OtherEpoch if this process does not know all nodes, or not the node of each slot."""
    if homes.unmet:
        raise OtherEpoch(f"nodes {', '.join(homes.unmet)} were added, and have never answered here")
    if homes.unowned:
        raise OtherEpoch("there are slots whose node is not known, because a node does not answer")
