"""What all backends on sharded Postgres nodes share: opening, reading, import, the gate, and the sweep.

Subclasses say how a command commits: two-phase commit in `store.py`, leases and intents in `redis/store.py`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Final, Literal

import orjson

from ...background import run_for_ever
from ...domain.changes import ReadSet, State, Writes
from ...domain.errors import ConfigurationError, Contended, InvariantViolated, NodeUnavailable, Unavailable, WalletError
from ...domain.ids import AccountId
from ...storage import NodeVitals, PageRequest
from ..kit.group_commit import LanePolicy
from ..kit.imports import completed, unknown_accounts
from ..kit.kinds import Row
from ..kit.nodes import NodeMap
from ..kit.store import PageAsked
from ..kit.wanted import Wanted
from ..relational.store import RelationalStore
from . import text as sql
from .commit import Branch, decide
from .json_text import fill, given, wish
from .node import Connection, PgNode
from .setup import identify, prepare_node
from .vitals import vitals_of

log = logging.getLogger("wallet_gql.postgres")

RECOVER_EVERY_SECONDS: Final = 0.5

PING_SECONDS: Final = 2.0

_FETCH_SECONDS: Final = 2.0
"""How long a node may take for a few named records; commands look these up before they begin."""

_IMPORT_SECONDS: Final = 60.0
"""How long one node's part of an import may take."""

_GATE_SECONDS: Final = 10.0
"""How long `gate` waits for one node's commits to end; how long it stays closed has no bound."""


class PgStore(RelationalStore):
    """A ledger on named Postgres nodes; subclasses commit and recover."""

    statements = sql.STATEMENTS
    protocol: ClassVar[Literal["two-phase commit", "leases"]]
    """How commits reach several nodes. For two-phase commit the nodes must allow prepared transactions."""

    def __init__(self, urls: Mapping[str, str], policy: LanePolicy | None = None) -> None:
        """`urls` maps the nodes' names to their URLs. Raises ConfigurationError."""
        super().__init__(policy)
        self._nodes = {name: PgNode(name, url) for name, url in urls.items()}
        self._map = NodeMap(list(self._nodes))
        self._epoch = 1
        self._cluster = ""
        self._recovering: asyncio.Task[None] | None = None

    # Opening and closing

    async def _open(self) -> None:
        many = len(self._nodes) > 1
        try:
            for name in self._map.names:
                node = self._nodes[name]
                try:
                    await node.open()
                    two_phase = many and self.protocol == "two-phase commit"
                    await prepare_node(node, two_phase=two_phase, creates=self.creates)
                except Contended:
                    raise
                except Unavailable as error:
                    fault = "does not answer" if isinstance(error, NodeUnavailable) else "cannot be used"
                    remedy = "start it, or correct its URL"
                    raise ConfigurationError(f"node {name} {fault} ({error.__cause__!r}); {remedy}") from error
            self._cluster, self._epoch = await identify([self._nodes[name] for name in self._map.names], self.protocol)
            await self._opened()
        except BaseException:
            await self._close()
            raise
        if many:
            self._recovering = asyncio.create_task(self._recover_for_ever())

    @abstractmethod
    async def _opened(self) -> None:
        """Set up what else the backend needs. The nodes are open and belong together."""

    async def _finish(self) -> None:
        """Close what `_opened` set up. The sweep has ended and the nodes are still open."""

    @abstractmethod
    async def _sweep(self) -> None:
        """Settle what any process left unfinished, as far as possible now."""

    async def _recover_for_ever(self) -> None:
        """Sweep for ever: every process settles what any process left unfinished."""
        await run_for_ever(log, "recovery", self._sweep, every_seconds=RECOVER_EVERY_SECONDS)

    async def _close(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        await self._finish()
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    # Reading

    async def _load(
        self, connection: Connection, state: State, wanted: Wanted, mode: str, **more: Any
    ) -> dict[str, Any]:
        """Load `wanted` into the state, with the locks of the mode. Returns the node's whole answer."""
        text = await connection.value("SELECT wallet_load($1, $2)", wish(wanted, epoch=self._epoch, **more), mode)
        found: dict[str, Any] = orjson.loads(text)
        fill(state, wanted, found)
        return found

    def _read_lane(self, reads: ReadSet) -> Hashable:
        """Fetches from the same nodes are read together."""
        return None if len(self._nodes) == 1 else frozenset(Wanted.of((reads,)).split(self._map.home))

    def _page_lane(self, account_id: AccountId, page: PageRequest) -> Hashable:
        """Pages of one node and one direction are read together."""
        return self._home(account_id), page.newest_first

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`. Each node's part is read at one moment; the moments of two nodes may differ."""
        state = State("", lambda _: None)
        parts = wanted.split(self._map.home)

        async def read(name: str, part: Wanted) -> None:
            deadline = asyncio.get_running_loop().time() + _FETCH_SECONDS
            async with self._nodes[name].connection(deadline, reads=True) as connection:
                await self._load(connection, state, part, "read")

        await asyncio.gather(*(read(name, part) for name, part in parts.items()))
        return state

    async def _ask_pages(self, node: str, asked: Sequence[PageAsked]) -> list[list[Row]]:
        """See `RelationalStore._ask_pages`. One statement for a single page, another one for several."""
        if len(asked) == 1:
            text, values = self.statements.history_page(*asked[0])
            return [await self._nodes[node].rows(text, *values)]
        newest_first = asked[0][1].newest_first
        bounds = [sql.bounds(page) for _, page in asked]
        values = ([account_id for account_id, _ in asked], *map(list, zip(*bounds, strict=True)))
        found: list[list[Row]] = [[] for _ in asked]
        for row in await self._nodes[node].rows(sql.PAGES[newest_first], *values):
            found[row[0] - 1].append(row[1:])
        return found

    async def _ask(self, node: str, statement: str, *values: Any) -> Sequence[Row]:
        return await self._nodes[node].rows(statement, *values)

    async def _ask_for_sweep(self, node: str, statement: str, *values: Any) -> Sequence[Row]:
        """See `RelationalStore`. A node that does not answer is skipped."""
        try:
            return await self._ask(node, statement, *values)
        except WalletError:
            return ()

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`: an advisory lock on every node, which each commit shares from PREPARE to its end."""
        async with AsyncExitStack() as stack:
            for name in self._map.names:
                deadline = asyncio.get_running_loop().time() + _GATE_SECONDS
                connection = await stack.enter_async_context(self._nodes[name].connection(deadline))
                await connection.begin("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                await connection.do(sql.CLOSE_GATE)
            yield

    async def _import(self, node: str, writes: Writes) -> None:
        deadline = asyncio.get_running_loop().time() + _IMPORT_SECONDS
        async with self._nodes[node].connection(deadline) as connection:
            await connection.begin("BEGIN")
            strangers = unknown_accounts(writes)
            if await connection.value(self.statements.count_accounts, strangers) != len(strangers):
                raise InvariantViolated("an imported entry is of an unknown account")
            names = [transfer.id for transfer in writes.transfers]
            known = {row[0] for row in await connection.rows(self.statements.known_transfers, names)}
            try:
                await decide(Branch(connection, given(completed(writes, known, node, self._map))))
            except WalletError as error:
                raise InvariantViolated(f"an item cannot be imported: {error}") from error

    async def vitals(self) -> Sequence[NodeVitals]:
        """See `Observed.vitals`."""
        found = await asyncio.gather(*map(vitals_of, self._nodes.values()))
        return [one for some in found for one in some]

    async def ping(self) -> None:
        """Every node could write now. Raises Unavailable."""
        await asyncio.gather(*map(_ping, self._nodes.values()))


async def _ping(node: PgNode) -> None:
    await node.run(sql.CAN_WRITE, seconds=PING_SECONDS)
    await node.check_settings(PING_SECONDS)
