"""Changing the list of nodes: adding one, draining one, and moving the slots that the hash then places elsewhere.

Each change is a list of steps, all of which can be repeated: after a kill at any point the same command goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from ...domain.errors import ConfigurationError, Contended, InDoubt, Unavailable
from ...domain.ids import SLOTS
from ...failpoints import reach
from ...urls import parse
from ..kit.kinds import KINDS
from ..kit.nodes import NodeMap
from .ahead import DROP_ALL
from .move_rows import IS_EMPTY
from .mover import alone, indexed
from .moves import Batch
from .node import PgNode, for_long
from .pace import SHARE, Pace
from .parameters import for_driver
from .placement import DRAINING, GONE, SERVING, Member, Placement, Told, listed, members_text, slots_of
from .setup import ALONE, NAME, check_node, identity_of, parse_url, usable
from .sharded import PgStore
from .two_phase import prepared_on
from .upgrade import is_due, prepare_node

log = logging.getLogger("wallet_gql.postgres")

BATCH_MAX: Final = 64
BATCH_ROWS: Final = 8_000
"""About how many rows a batch should have at most: one commit puts them in place, and one deletes them."""

FROZEN_SECONDS: Final = 0.5
"""If a batch was unavailable for longer than this, the next one is smaller; for less than half of it, larger.

Each batch refuses three times what is in flight on its nodes, so they should be few.
"""

ATTEMPTS_MAX: Final = 20
"""How often one batch is tried before the mover gives up."""

_ATTEMPT_PAUSE: Final = 0.2
_HAS_STANDBY: Final = """
SELECT EXISTS (
  SELECT FROM pg_stat_replication WHERE coalesce(application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal'))
"""
"""Whether a standby follows; a back-up is none."""
_JOIN: Final = """
INSERT INTO node (cluster_id, name, nodes, epoch, protocol, here, members)
SELECT $1, $2, $3, 1, $4, '0', $5 WHERE NOT EXISTS (SELECT FROM node)
"""
_IS_FOREIGN: Final = """
SELECT count(*) > 0 AND NOT bool_or(relname = 'node')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE relkind = 'r' AND n.nspname = ANY (current_schemas(false))
"""
"""Whether a database has tables, but not ours."""
_MEMBERS: Final = "UPDATE node SET members = $1, epoch = epoch + 1 WHERE members IS DISTINCT FROM $1"
_COUNTS: Final = """
SELECT (SELECT count(*) FROM accounts WHERE substr(id, 18, 3) = ANY ($1)),
       (SELECT count(*) FROM entries WHERE substr(account_id, 18, 3) = ANY ($1)),
       (SELECT count(*) FROM records WHERE kind = 'user' AND slot = ANY ($2)),
       (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY ($3) AND relkind = 'r')::bigint
"""
_TABLES: Final = [kind.table for kind in KINDS]


@dataclass(slots=True)
class Part:
    """The slots that go from one node to another."""

    source: str
    target: str
    slots: list[int]
    users: int = 0
    accounts: int = 0
    entries: int = 0
    size_bytes: int = 0
    """About how much of the source's tables goes: its share of the source's slots."""


@dataclass(slots=True)
class Progress:
    """How far a move is. `frozen_seconds_max` is the longest time that a batch of slots was unavailable."""

    slots: int
    moved: int = 0
    rows: int = 0
    frozen_seconds_max: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def rows_per_second(self) -> float:
        """The rate so far."""
        return self.rows / max(time.monotonic() - self.began, 1e-6)


def misplaced(homes: Placement, *, more: Sequence[str] = (), less: Sequence[str] = ()) -> list[Part]:
    """The slots that the hash places elsewhere, among nodes that are not being drained; with `more`, without `less`."""
    names = {name for name in homes.names if homes.members[name].state == SERVING}
    wanted = NodeMap(sorted((names | set(more)) - set(less)))
    parts: dict[tuple[str, str], list[int]] = {}
    for slot in range(SLOTS):
        if homes.home(slot) != wanted.home(slot):
            parts.setdefault((homes.home(slot), wanted.home(slot)), []).append(slot)
    return [Part(*pair, slots) for pair, slots in sorted(parts.items())]


async def _unlocked() -> None:
    raise AssertionError("only who holds the mover's lock changes anything")


class Membership:
    """The operator's commands on an open store."""

    def __init__(self, store: PgStore) -> None:
        """The store must be open."""
        self._store = store
        self._beat: Callable[[], Awaitable[None]] = _unlocked
        """Raises unless this mover still has its lock. It may have been stopped for long, and another one have come."""

    # Plans

    async def plan(self, *, more: Sequence[str] = (), less: Sequence[str] = ()) -> list[Part]:
        """What `rebalance` would move, with its size: now, with `more` nodes, or without some. Raises Unavailable."""
        homes = self._store.placement
        parts = misplaced(homes, more=more, less=less)
        for part in parts:
            texts = [f"{slot:03x}" for slot in part.slots]
            async with self._store.node(part.source).connection(for_long()) as connection:
                await connection.begin("BEGIN; SET LOCAL statement_timeout = 0")
                (row,) = await connection.rows(_COUNTS, texts, part.slots, _TABLES)
                await connection.do("COMMIT")
            part.accounts, part.entries, part.users = row[0], row[1], row[2]
            part.size_bytes = int((row[3] or 0) * len(part.slots) / slots_of(homes, part.source).bit_count())
        return parts

    # Changes

    async def add(self, name: str, url: str) -> None:
        """Make a blank database a node of the ledger; afterwards `rebalance` gives it slots.

        Without a `url` it is that of the settings, which may list the node before it is added.

        Raises:
            ConfigurationError: it names the reason and the remedy; nothing has changed.
        """
        async with self._alone():
            async with self._candidate(name, url) as (node, address):
                await prepare_node(node, migrates=True)
                members = {**self._store.placement.members, name: Member(address, SERVING)}
                await self._join(node, members)
            reach("moves.joined")
            await self._tell(members)

    async def check_add(self, name: str, url: str) -> None:
        """Raise what `add` and the move after it would be refused with, and change nothing."""
        async with self._candidate(name, url):
            pass

    @asynccontextmanager
    async def _candidate(self, name: str, url: str) -> AsyncIterator[tuple[PgNode, str]]:
        """The database that may become a node, open, and the address to store. Raises ConfigurationError."""
        address, full = self._checked(name, url)
        node = PgNode(name, full)
        try:
            with usable(node):
                await node.open()
                await check_node(node, two_phase=self._store.protocol == "two-phase commit")
                if await node.ask(_IS_FOREIGN):
                    raise ConfigurationError(f"node {name}: the database is not empty; give it an empty one")
                if not await is_due(node, migrates=True):
                    await self._own(node)
            await self._check_standbys([*map(self._store.node, self._store.placement.names), node])
            yield node, address
        finally:
            await node.close()

    def _checked(self, name: str, url: str) -> tuple[str, str]:
        """The address to store, without a secret, and the URL for the driver. Raises ConfigurationError."""
        homes = self._store.placement
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"node name {name!r}: 1 to 63 letters, digits, dashes or underscores")
        if len(homes.names) < 2:  # noqa: PLR2004 - several
            raise ConfigurationError(
                "the ledger has one node, and its processes write it as such: "
                "make a ledger of several nodes, then wallet-gql export and import"
            )
        known = homes.members.get(name)
        if known is not None and known.state != SERVING:
            raise ConfigurationError(f"the name {name} was used by a node that is {known.state}: take a new name")
        listed_as = parse_url(self._store.nodes_url).get(name)  # a file of nodes may have been changed meanwhile
        if not url:
            if listed_as is None:
                raise ConfigurationError(f"{name} is not listed in WALLET_STORAGE: give its URL")
            return "", listed_as
        asked = parse(url)
        if asked.scheme not in ("postgres", "postgresql") or asked.parameters.get("node", name) != name:
            raise ConfigurationError(f"write postgres://user@host/db; the node is called {name}")
        full = for_driver(asked)
        has_secret = asked.password is not None or any(key.endswith("password") for key in asked.parameters)
        if has_secret and listed_as != full:
            raise ConfigurationError(
                f"a password is never stored in the ledger: put the URL of {name} into the file that "
                "postgres://?nodes=FILE in WALLET_STORAGE names, on every server; or let each server find the "
                "password (passfile= in the URL, ~/.pgpass) and leave it out"
            )
        return "" if listed_as == full else full, full

    async def _own(self, node: PgNode) -> Told | None:
        """What the database says if it is this node of the ledger, None if it is empty. Raises ConfigurationError."""
        homes, told = self._store.placement, await identity_of(node)
        if told is None:
            if node.name in homes.members:
                raise ConfigurationError(f"node {node.name} is a node of this ledger, and its database is another one")
            if not await node.ask(IS_EMPTY):
                raise ConfigurationError(f"node {node.name}: the database is not empty; give it an empty one")
            return None
        if told.cluster_id != homes.told[homes.names[0]].cluster_id or told.name != node.name:
            raise ConfigurationError(
                f"node {node.name}: the database is a node of another ledger, or another node of this one; "
                "give it an empty one"
            )
        if node.name in homes.told and (told.epoch, told.here) != (homes.epochs[node.name], homes.told[node.name].here):
            raise ConfigurationError(
                f"node {node.name} is a node of this ledger, and its database is an old copy of it"
            )
        return told

    async def _join(self, node: PgNode, members: dict[str, Member]) -> None:
        if await self._own(node) is None:
            homes, names = self._store.placement, f'["{node.name}"]'
            cluster = homes.told[homes.names[0]].cluster_id
            await node.rows(_JOIN, cluster, node.name, names, self._store.protocol, members_text(members))
            await self._own(node)

    async def _tell(self, members: dict[str, Member]) -> None:
        """Write the list of members on every node; each process then learns it from any of them."""
        for name in self._store.placement.names:
            await self._beat()
            await self._store.node(name).rows(_MEMBERS, members_text(members))
            reach("moves.told")
        await self._store.relearn()

    async def _tell_the_rest(self) -> None:
        """Tell the members that some nodes know to all, as `add` or `drain` would have done, had it not been killed.

        A process that has not heard of a node would find nobody who has the slots that move there.
        """
        homes = await self._fresh()
        if any(homes.told[name].members != homes.members for name in homes.names):
            await self._tell({**homes.members})

    async def drain(self, name: str) -> None:
        """Decide that a node gives up its slots; afterwards `rebalance` moves them, and `drop` ends it.

        Raises:
            ConfigurationError: it names the reason and the remedy; nothing has changed.
        """
        async with self._alone():
            homes = self._store.placement
            if name not in homes.names:
                raise ConfigurationError(f"there is no node {name}; there are {', '.join(homes.names)}")
            left = [n for n in homes.names if n != name and homes.members[n].state == SERVING]
            if len(left) < 2:  # noqa: PLR2004 - several
                raise ConfigurationError(
                    f"without {name} the ledger would not have several nodes: add one first, or export and import"
                )
            await self._tell({**homes.members, name: Member(homes.members[name].address, DRAINING)})

    async def rebalance(
        self, told: Callable[[Progress], None] = lambda _: None, *, rate: float = 0.0, share: float = SHARE
    ) -> Progress:
        """Move every slot to where the hash places it.

        Args:
            told: gets the progress after each batch.
            rate: the most rows a second, if that is not 0.
            share: of the time, above 0 and at most 1: the mover rests for the others, so that the wallet serves.

        Raises:
            ConfigurationError: a standby may lack the newest commits, so a fail-over could undo half a move.
            Contended: a batch could not be moved now. Unavailable: a node does not answer. All may be repeated.
        """
        async with self._alone():
            await self._check_standbys(map(self._store.node, self._store.placement.names))
            await self._tell_the_rest()
            await self._store.moves.finish(await self._fresh(), is_mover=True)
            for name in self._store.placement.names:
                await self._store.node(name).rows(DROP_ALL)
            pace = Pace(share, rate)
            parts = misplaced(await self._fresh())
            progress = Progress(sum(len(part.slots) for part in parts))
            told(progress)
            for part in parts:
                async with indexed(self._store.node(part.source)):
                    await self._move(part, progress, told, pace)
            await self._drop_drained()
            return progress

    async def _check_standbys(self, nodes: Iterable[PgNode]) -> None:
        for node in nodes:
            if await node.ask(ALONE) and await node.ask(_HAS_STANDBY):
                raise ConfigurationError(
                    f"node {node.name} has a standby that may lack its newest commits: a fail-over could undo half a "
                    "move; set synchronous_standby_names while slots move, or stop the standby"
                )

    async def _move(
        self,
        part: Part,
        progress: Progress,
        told: Callable[[Progress], None],
        pace: Pace,
    ) -> None:
        most, left = 1, list(part.slots)
        while left:
            slots = sum(1 << slot for slot in left[:most])
            await self._check_standbys(map(self._store.node, (part.source, part.target)))  # one may have come meanwhile
            done = await self._attempt(part, slots, pace)
            left = left[most:]
            if done.rows > BATCH_ROWS or done.frozen_seconds > FROZEN_SECONDS:
                most = max(most // 2, 1)
            elif done.rows * 2 <= BATCH_ROWS and done.frozen_seconds * 2 <= FROZEN_SECONDS:
                most = min(most * 2, BATCH_MAX)
            progress.moved += slots.bit_count()
            progress.rows += done.rows
            progress.frozen_seconds_max = max(progress.frozen_seconds_max, done.frozen_seconds)
            told(progress)

    async def _attempt(self, part: Part, slots: int, pace: Pace) -> Batch:
        failure: Contended | InDoubt | Unavailable | None = None
        for left in reversed(range(ATTEMPTS_MAX)):
            await self._beat()
            homes = await self._fresh()
            try:
                return await self._store.moves.move(homes, part.source, part.target, slots, pace)
            except (Contended, InDoubt, Unavailable) as error:
                log.info("a batch of slots from %s to %s is tried again: %s", part.source, part.target, error)
                failure = error
            homes = await self._fresh()
            await self._store.moves.finish(homes, is_mover=True)
            homes = await self._fresh()
            if all(homes.home(slot) == part.target for slot in listed(slots)):
                return Batch()  # the commit whose answer was lost had taken effect
            if left:
                await asyncio.sleep(_ATTEMPT_PAUSE)
        raise Contended(f"slots of {part.source} cannot be moved now: {failure}") from failure

    async def _drop_drained(self) -> None:
        """Nodes that are being drained and have nothing any more are gone from now on."""
        homes = await self._fresh()
        for name in [n for n in homes.names if homes.members[n].state == DRAINING]:
            node = self._store.node(name)
            if any(homes.home(slot) == name for slot in range(SLOTS)) or not await node.ask(IS_EMPTY, seconds=30.0):
                raise Contended(f"node {name} still has rows; run wallet-gql nodes rebalance again")
            await self._settled(name, homes)
            reach("moves.drained")
            await self._tell({**homes.members, name: Member("", GONE)})

    async def _settled(self, name: str, homes: Placement) -> None:
        """Nothing that the node has led or taken part in is prepared anywhere. Raises Contended."""
        await self._store.recover(1_000)
        for other in homes.names:
            asked = "%" if other == name else f"wgql:%:{name}:%"
            if await prepared_on(self._store.node(other), asked):
                raise Contended(f"commits of node {name} are in doubt on {other}; run the command again")

    async def _fresh(self) -> Placement:
        await self._store.relearn()
        return self._store.placement

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """See `mover.alone`: on every node."""
        async with alone([self._store.node(name) for name in (await self._fresh()).names]) as self._beat:
            yield
