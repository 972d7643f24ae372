"""Moving slots between Postgres nodes while the wallet serves: copy ahead, freeze, copy and activate, forget.

0. *Copy ahead* what never changes again, to where the target does not use it (`ahead`). The slots are served meanwhile.
1. *Freeze*, a commit on the source: it waits for every commit that is open or prepared there. From then on nobody
   writes or reads the batch's slots: every process is refused by the node's new epoch, and learns that they are moving.
2. *Settle*: credits that the source has sent to the target and that are prepared there are committed or rolled back.
3. *Activate*, one commit on the target: the rows that were left, those that were copied ahead, the decision record of
   this attempt, and the slots themselves. This commit is the decision. There is no moment at which the target has the
   slots without their rows.
4. *Forget*, one commit on the source: the rows go, and what remains of shared transfers sums to zero again.

If the mover dies, any process goes on. It first *fences* the attempt: it inserts `abort` under the decision's unique
key on the target. If the target has the slots, they are forgotten at the source; else the source serves them again, and
the dead mover can never activate them. What was copied ahead is dropped by whoever fences, and else by the next mover.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from ...domain.errors import Contended, Unavailable, WalletError
from ...domain.frozen import frozen
from ...failpoints import after_decision, before_decision
from ..kit.nodes import NodeMap
from .ahead import DROP, DROP_ALL, IS_FULL, Ahead, unstage
from .commit import commit_by
from .move_rows import forget_slots, read_slots, write_slots
from .node import Connection, PgNode
from .pace import Pace
from .placement import OF_NODE, SERVING, Leaving, Placement, Told, leaving_text, listed, slots_of, told_by
from .two_phase import Recovery, fenced, prepared_on

GATE: Final = 7205759403792794
"""The advisory lock that each commit shares until its end."""

MOVER: Final = 7205759403792797
"""The advisory lock that a mover holds on every node."""

FREEZE_MS: Final = 300
"""How long a freeze waits for commits in flight, in milliseconds: others wait behind it meanwhile."""

STEP_SECONDS: Final = 600.0
"""How long one step of a move may take."""

FREEZE_TRIES: Final = 5
"""How often a freeze is tried before what was copied ahead is given up."""

_FREEZE_PAUSE: Final = 0.2

ACTIVATE_SECONDS: Final = 3600.0
"""How long after its beginning a move can still be decided, by the target's clock.

A mover may be stopped for days and go on. By then the `abort` with which others have fenced it may have been removed as
an old decision (`two_phase.PRUNE_AFTER_SECONDS`); this is far less.
"""

STOPPED_SECONDS: Final = 30.0
"""A mover that has its batch frozen for longer than this counts as gone, even if its sessions live."""

SETTLE_SECONDS: Final = 5.0
_SETTLE_PAUSE: Final = 0.02
_SETTLE_MAX: Final = 1_000
_LIMITS: Final = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '60s'"
_LAZILY: Final = "SET LOCAL synchronous_commit = off"
"""What is staged need not outlive a crash."""
_READING: Final = "SET statement_timeout = 0; SET enable_seqscan = off"
_AS_BEFORE: Final = "RESET statement_timeout; RESET enable_seqscan"
_AT_ONCE: Final = Pace()
_PLAN: Final = "SET LOCAL enable_seqscan = off"
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_DECIDE: Final = """
INSERT INTO decisions (attempt, verdict) SELECT $1, 'commit' WHERE clock_timestamp() < to_timestamp($2) RETURNING 1
"""
_SHARE_GATE: Final = f"SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock_shared({GATE})"


@frozen
class Batch:
    """What was moved: how many rows, and for how many seconds nobody served their slots."""

    rows: int = 0
    frozen_seconds: float = 0.0


class Moves:
    """The steps of a move, and how any process finishes one that its mover has left."""

    def __init__(self, cluster: str, nodes: Mapping[str, PgNode], recovery: Recovery) -> None:
        """The `nodes` must be open."""
        self._cluster = cluster
        self._nodes = nodes
        self._recovery = recovery
        self._since: dict[str, float] = {}
        """When this process first saw an attempt that was on its way, on the loop's clock."""

    async def move(self, homes: Placement, source: str, target: str, slots: int, pace: Pace = _AT_ONCE) -> Batch:
        """Move slots. Until they are frozen, and again when they are forgotten, the mover rests as the `pace` says.

        Raises:
            Contended: commits in flight did not end soon, or another process has ended the attempt; nothing has moved.
            InDoubt, Unavailable: a node did not answer; `finish` says what has become of it.
        """
        leaving = Leaving(secrets.token_hex(16), target, slots)
        ahead = Ahead(leaving.attempt, listed(slots), target, moved(homes, leaving))
        await self._copy_ahead(source, ahead, pace)
        until = await self._nodes[target].ask(_NOW) + ACTIVATE_SECONDS
        await patiently(lambda: self._freeze(homes, source, leaving))
        began = time.monotonic()
        before_decision("moves.frozen")
        await self._settle(homes, source, leaving)
        before_decision("moves.settled")
        rows = await self._activate(source, leaving, ahead, until)
        batch = Batch(ahead.rows + rows, time.monotonic() - began)
        after_decision("moves.activated")
        await self._forget(source, leaving, ahead.homes)
        after_decision("moves.forgotten")
        await pace.rest(rows)
        return batch

    async def _copy_ahead(self, source: str, ahead: Ahead, pace: Pace) -> None:
        """Stage on the target what never changes again, piece by piece, while the source serves the slots."""
        pace.begin()
        target = self._nodes[ahead.node]
        async with self._nodes[source].connection(_deadline()) as connection:

            async def read(statement: str, *values: object) -> list[Any]:
                connection.deadline = _deadline()
                return await connection.rows(statement, *values)

            async def stage(statement: str, rows: int) -> None:
                async with target.connection(_deadline()) as other:
                    await other.do(f"BEGIN; {_LIMITS}; {_LAZILY}; {statement}; COMMIT")
                before_decision("moves.ahead")
                await pace.rest(rows)

            if await target.ask(IS_FULL):  # of attempts that have ended before they froze anything
                await target.rows(DROP_ALL)
            await connection.do(_READING)
            await ahead.copy(read, stage)
            await connection.do(_AS_BEFORE)

    async def _freeze(self, homes: Placement, source: str, leaving: Leaving) -> None:
        async with self._step(source) as connection:
            await close_gate(connection)
            told = await _locked(connection)
            if told.leaving is not None:
                raise Contended(f"other slots are leaving node {source}")
            _check_here(told, homes)
            if leaving.slots & ~told.here:
                raise Contended(f"node {source} has not all of the slots by now")
            here = f"{told.here & ~leaving.slots:x}"
            await connection.rows(
                "UPDATE node SET epoch = epoch + 1, here = $1, leaving = $2", here, leaving_text(leaving)
            )

    async def _settle(self, homes: Placement, source: str, leaving: Leaving) -> None:
        """See to it that nothing which the source has led is prepared on the target. Raises Contended."""
        del homes
        until = asyncio.get_running_loop().time() + SETTLE_SECONDS
        asked = self._nodes[leaving.peer], f"wgql:{self._cluster}:{source}:%"
        left = now = set(await prepared_on(*asked))
        while left:
            if asyncio.get_running_loop().time() > until:
                raise Contended(f"credits from {source} are in doubt on {leaving.peer}")
            await asyncio.sleep(_SETTLE_PAUSE)
            await self._recovery.run(_SETTLE_MAX)
            left = now.intersection(await prepared_on(*asked))

    async def _activate(self, source: str, leaving: Leaving, ahead: Ahead, until: float) -> int:
        """Returns how many rows were left to copy."""
        async with self._nodes[source].connection(_deadline()) as connection:
            await connection.begin(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LIMITS}; {_PLAN}")
            found = await read_slots(connection, ahead)
            await connection.do("COMMIT")
        before_decision("moves.copied")
        async with self._step(leaving.peer) as connection:
            await connection.do(f"{_SHARE_GATE}; {_PLAN}")
            if not await connection.rows(_DECIDE, leaving.attempt, until):
                raise Contended(f"moving slots to {leaving.peer} took too long; nothing has moved")
            told = await _locked(connection)
            _check_here(told, ahead.homes, less=leaving.slots)
            if told.members[leaving.peer].state != SERVING:
                raise Contended(f"node {leaving.peer} is {told.members[leaving.peer].state} by now; nothing has moved")
            await write_slots(connection, leaving.peer, ahead.homes, found)
            await unstage(connection, ahead)
            await self._carry(connection, source, leaving)
            here = told.here | leaving.slots
            await connection.rows("UPDATE node SET epoch = epoch + 1, here = $1", f"{here:x}")
            before_decision("moves.written")
        return found.count

    async def _carry(self, target: Connection, source: str, leaving: Leaving) -> None:
        """Take along what rows have beside their content, in the target's transaction: nothing in this protocol."""

    async def _forget(self, source: str, leaving: Leaving, after: NodeMap) -> None:
        async with self._step(source) as connection:
            await connection.do(f"{_SHARE_GATE}; {_PLAN}")
            told = await _locked(connection)
            if told.leaving == leaving:
                _check_here(told, after)
                await forget_slots(connection, source, after, listed(leaving.slots))
                await connection.rows("UPDATE node SET epoch = epoch + 1, leaving = NULL")

    async def _serve_again(self, source: str, leaving: Leaving) -> None:
        async with self._step(source) as connection:
            await connection.do(_SHARE_GATE)
            told = await _locked(connection)
            if told.leaving == leaving:
                here = f"{told.here | leaving.slots:x}"
                await connection.rows("UPDATE node SET epoch = epoch + 1, here = $1, leaving = NULL", here)

    async def finish(self, homes: Placement, *, is_mover: bool = False) -> None:
        """End every batch that is on its way and whose mover is gone. Raises Unavailable: a node does not answer."""
        found = {name: leaving for name in homes.names if (leaving := homes.told[name].leaving) is not None}
        now = asyncio.get_running_loop().time()
        self._since = {leaving.attempt: self._since.get(leaving.attempt, now) for leaving in found.values()}
        for source, leaving in found.items():
            is_stopped = now - self._since[leaving.attempt] > STOPPED_SECONDS
            if is_mover or is_stopped or not await self._has_mover(source):
                await self._finish(homes, source, leaving)

    async def _finish(self, homes: Placement, source: str, leaving: Leaving) -> None:
        if leaving.peer not in self._nodes:
            raise Unavailable(f"node {leaving.peer}, which slots of {source} go to, is not known here yet")
        target = self._nodes[leaving.peer]
        verdict = await fenced(target, leaving.attempt)
        (row,) = await target.rows(OF_NODE, aside=True)
        before_decision("moves.fenced")
        if verdict == "commit" or told_by(row).here & leaving.slots:
            await self._forget(source, leaving, moved(homes, leaving))
        else:
            await self._serve_again(source, leaving)
        with suppress(WalletError):  # there may be much of it; then the next mover drops it
            await target.rows(DROP, leaving.attempt, aside=True)

    async def _has_mover(self, name: str) -> bool:
        """Whether a mover is at work: it holds a lock on every node until its sessions end."""
        asked = "SELECT NOT pg_try_advisory_xact_lock_shared($1)"
        return bool(await self._nodes[name].ask(asked, MOVER, aside=True))

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[Connection]:
        """A transaction on a node, committed at the end. Raises WalletError: nothing was written. InDoubt."""
        async with self._nodes[name].connection(_deadline()) as connection:
            await connection.begin(f"BEGIN; {_LIMITS}")
            yield connection
            await commit_by(connection, "COMMIT", "COMMIT")


def _deadline() -> float:
    return asyncio.get_running_loop().time() + STEP_SECONDS


async def patiently(step: Callable[[], Awaitable[None]]) -> None:
    """Do what needs a closed gate, and again if others do not let it: each try keeps them waiting for a moment only.

    Raises Contended: in vain each time.
    """
    for left in reversed(range(FREEZE_TRIES)):
        try:
            return await step()
        except Contended:
            if not left:
                raise
        await asyncio.sleep(_FREEZE_PAUSE)
    raise AssertionError("the last try returns or raises")


async def close_gate(connection: Connection) -> None:
    """Wait until no commit of the node is open, and let none begin until the transaction ends. Raises Contended.

    If this process is stopped meanwhile, its session soon ends.
    """
    limits = f"SET LOCAL lock_timeout = '{FREEZE_MS}ms'; SET LOCAL idle_in_transaction_session_timeout = '5s'"
    await connection.do(f"{limits}; SELECT pg_advisory_xact_lock({GATE})")


async def _locked(connection: Connection) -> Told:
    """What the node says of itself, which nobody else changes until the transaction ends. Commits may look at it."""
    await connection.rows("SELECT FROM node FOR NO KEY UPDATE")
    (row,) = await connection.rows(OF_NODE)
    return told_by(row)


def _check_here(told: Told, homes: NodeMap, *, less: int = 0) -> None:
    """Raise Contended unless a node has the slots whose home it is, but for `less`.

    The parts of a transfer on a node follow from which of its two slots are there. So this is asked under the lock that
    keeps others from changing it.
    """
    if told.here != slots_of(homes, told.name) & ~less:
        raise Contended(f"node {told.name} has other slots by now; read the placement again")


def moved(homes: Placement, leaving: Leaving) -> NodeMap:
    """The homes as they are once the slots are on their new node. Raises Unavailable: some node was not asked."""
    if homes.unowned:
        raise Unavailable("a node does not say which slots it has, so none can move")
    after = list(homes.homes)
    for slot in listed(leaving.slots):
        after[slot] = leaving.peer
    return NodeMap(homes.names, after)
