"""Two-phase commit between Postgres nodes: prepare, decide, commit, recover.

The leader's ordinary commit *is* the decision: debit, receipts and the decision record are in it. Only the other nodes
prepare. Recovery runs on every process, beside live coordinators: for each prepared transaction it first *fences* the
decision by inserting `abort` under the decision's unique key on the leader. Either the leader has committed, and the
insert finds `commit`, or the fence is in and the leader can never commit. Nothing depends on ages or clocks.

A prepared transaction is looked at from its second sighting on, so that recovery does not keep killing batches that are
just between their two steps. That is for liveness alone; safety is the fence's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from ...domain.errors import InDoubt, InvariantViolated, Unavailable, WalletError
from ...failpoints import FailpointError, reach
from ...storage import Recovered
from .commit import Branch, commit_by, decide
from .errors import translate
from .node import PgNode, literal

log = logging.getLogger("wallet_gql.two_phase")

FINISH_SECONDS: Final = 2.0
"""How long the reply waits for the second phase at most; after that the credit arrives by recovery."""

_GID: Final = re.compile(r"wgql:(?P<cluster>[0-9a-f]{16}):(?P<leader>[A-Za-z0-9_-]{1,63}):(?P<attempt>[0-9a-f]{32})")
_PREPARED: Final = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE $1 ORDER BY gid"
_DECISION: Final = "INSERT INTO decisions (attempt, verdict) VALUES ('{}', 'commit')"
_FENCE: Final = "INSERT INTO decisions (attempt, verdict) VALUES ($1, 'abort') ON CONFLICT (attempt) DO NOTHING"
_VERDICT: Final = "SELECT verdict FROM decisions WHERE attempt = $1"
_PRUNE: Final = """
DELETE FROM decisions WHERE attempt IN (
  SELECT attempt FROM decisions WHERE decided_at < now() - make_interval(secs => $1) AND attempt <> ALL ($2) LIMIT $3
) RETURNING attempt
"""

PRUNE_AFTER_SECONDS: Final = 24 * 3600
"""How old a decision is before it may go: far older than any coordinator's connection, which the server cuts off."""
_PRUNE_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gid:
    """The name of one attempt to commit one batch; the decision's key is `attempt`, on the node `leader`."""

    cluster: str
    leader: str
    attempt: str

    @classmethod
    def new(cls, cluster: str, leader: str) -> Gid:
        """A fresh attempt: 128 random bits."""
        return cls(cluster, leader, secrets.token_hex(16))

    @classmethod
    def parse(cls, text: str) -> Gid | None:
        """The attempt of a prepared transaction's name; None if it is none of ours."""
        match = _GID.fullmatch(text)
        return None if match is None else cls(match["cluster"], match["leader"], match["attempt"])

    @property
    def text(self) -> str:
        """As Postgres stores it (at most 199 bytes; made of safe characters, for PREPARE takes no parameters)."""
        return f"wgql:{self.cluster}:{self.leader}:{self.attempt}"


async def commit_one(branch: Branch) -> None:
    """Write and commit on one node.

    Raises:
        WalletError: it failed, nothing was written. InDoubt: the reply was lost.
    """
    await decide(branch)
    _after("postgres.committed")


def fail_point(name: str) -> None:
    """A failpoint before the decision: failing there, nothing was written. Raises Unavailable."""
    try:
        reach(name)
    except FailpointError as error:
        raise Unavailable(f"failpoint {name}") from error


def _after(name: str) -> None:
    """A failpoint after the decision: failing there, the caller does not know. Raises InDoubt."""
    try:
        reach(name)
    except FailpointError as error:
        raise InDoubt(f"failpoint {name}") from error


async def commit_across(gid: Gid, leader: Branch, others: Sequence[Branch]) -> frozenset[str]:
    """Write everywhere and prepare the others, commit the leader, commit the others.

    Answers the nodes that have not confirmed the second phase yet.

    Raises:
        WalletError: it failed before the decision; what was prepared is rolled back here or by recovery.
        InDoubt: the leader's reply was lost.
    """
    # All at once: each node has locked the accounts that it writes. What is still waited for, such as a receipt that
    # another process writes under the same key, is waited for on the leader alone, where nobody waits for us in turn.
    prepared: list[Branch] = []

    async def prepare(other: Branch) -> None:
        await _prepare(other, gid)
        prepared.append(other)
        fail_point("postgres.prepared")

    answers = await asyncio.gather(_write(leader), *map(prepare, others), return_exceptions=True)
    try:
        for answer in answers:
            if answer is not None:
                raise answer
        await _decide(leader, gid)
    except InDoubt:
        raise
    except WalletError:  # a certain no; on anything else, such as a cancellation, only recovery knows the verdict
        await asyncio.gather(*(_roll_back(branch, gid) for branch in prepared))
        raise
    _after("postgres.committed")
    finished = await asyncio.gather(*(_finish(branch, gid) for branch in prepared))
    _after("postgres.finished")
    return frozenset(branch.lease.node for branch, done in zip(prepared, finished, strict=True) if not done)


async def _write(leader: Branch) -> None:
    await leader.lease.do(f"SELECT wallet_write({literal(leader.writes)})")
    fail_point("postgres.written")


async def _decide(leader: Branch, gid: Gid) -> None:
    """The decision: the leader's part, written before, and the record of it, in one commit."""
    await commit_by(leader.lease, f"{_DECISION.format(gid.attempt)}; COMMIT", "COMMIT")


async def _prepare(branch: Branch, gid: Gid) -> None:
    tag = await branch.lease.do(f"SELECT wallet_write({literal(branch.writes)}); PREPARE TRANSACTION '{gid.text}'")
    if tag != "PREPARE TRANSACTION":  # in a failed transaction Postgres answers ROLLBACK, and no error
        raise InvariantViolated(f"node {branch.lease.node} answered {tag} to PREPARE TRANSACTION")


async def _finish(branch: Branch, gid: Gid) -> bool:
    """The second phase on one node; whether it is done. If not, recovery does it."""
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await branch.lease.run(f"COMMIT PREPARED '{gid.text}'")
    except Exception as error:  # noqa: BLE001 - decided is decided; whatever failed, recovery finishes it
        branch.lease.doubtful = True
        if isinstance(error, asyncpg.UndefinedObjectError | asyncpg.ObjectInUseError):
            return isinstance(error, asyncpg.UndefinedObjectError)  # recovery was here first, or is here now
        log.warning("%s: the second phase on %s is left to recovery: %s", gid.text, branch.lease.node, error)
        return False
    return True


async def _roll_back(branch: Branch, gid: Gid) -> None:
    branch.lease.deadline = asyncio.get_running_loop().time() + FINISH_SECONDS  # the batch's own may be what failed
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await branch.lease.run(f"ROLLBACK PREPARED '{gid.text}'")
    except Exception as error:  # noqa: BLE001 - nothing was decided; recovery rolls it back
        branch.lease.doubtful = True
        log.info("%s: rolling back on %s is left to recovery: %s", gid.text, branch.lease.node, error)


class Recovery:
    """Settles prepared transactions whose coordinator is gone. Safe at any time, on any process, twice."""

    def __init__(self, cluster: str, nodes: Mapping[str, PgNode]) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._seen: dict[str, set[str]] = {name: set() for name in nodes}
        self.unripe = False
        """Whether the last run left something alone because it saw it for the first time."""

    async def run(self, limit: int, *, at_once: bool = False) -> Recovered:
        """Settle up to `limit` transactions per node; `at_once` also those that were not seen before.

        A node that does not answer is passed over; what depends on it stays until it is back.
        """
        self.unripe = False
        results = await asyncio.gather(*(self._node(node, limit, at_once=at_once) for node in self._nodes.values()))
        return Recovered(
            committed=sum(committed for committed, _ in results), rolled_back=sum(back for _, back in results)
        )

    async def _node(self, node: PgNode, limit: int, *, at_once: bool) -> tuple[int, int]:
        try:
            found = await self._prepared(node)
        except WalletError as error:
            log.info("recovery passes %s over: %s", node.name, error)
            return 0, 0
        ripe = sorted(found if at_once else found & self._seen[node.name])[:limit]
        self.unripe |= not at_once and bool(found - self._seen[node.name])
        self._seen[node.name] = found
        leaders: dict[str, list[Gid]] = {}
        for text in ripe:
            gid = Gid.parse(text)
            if gid is None or gid.leader not in self._nodes:
                log.error("prepared transaction %s on %s names no leader of this cluster; left alone", text, node.name)
            else:
                leaders.setdefault(gid.leader, []).append(gid)
        verdicts = await asyncio.gather(*(self._settle_all(node, gids) for gids in leaders.values()))
        settled = [verdict for some in verdicts for verdict in some]
        return settled.count("commit"), settled.count("abort")

    async def _prepared(self, node: PgNode) -> set[str]:
        rows = await node.rows(_PREPARED, f"wgql:{self._cluster}:%", seconds=FINISH_SECONDS, aside=True)
        return {str(row["gid"]) for row in rows}

    async def _settle_all(self, node: PgNode, gids: Sequence[Gid]) -> list[str]:
        """Settle what one leader decided, one by one, up to the first that cannot be settled now."""
        verdicts: list[str] = []
        for gid in gids:
            try:
                verdicts.append(await self._settle(node, gid))
            except WalletError as error:
                log.info("recovery of %s on %s will try again: %s", gid.text, node.name, error)
                break
        return verdicts

    async def _settle(self, node: PgNode, gid: Gid) -> str:
        """Fence, read the verdict, and carry it out. Raises Unavailable: not now."""
        leader = self._nodes[gid.leader]
        await leader.rows(_FENCE, gid.attempt, seconds=FINISH_SECONDS, aside=True)
        verdict = str(await leader.ask(_VERDICT, gid.attempt, seconds=FINISH_SECONDS, aside=True))
        fail_point("postgres.fenced")
        word = "COMMIT" if verdict == "commit" else "ROLLBACK"
        await self._carry_out(node, f"{word} PREPARED '{gid.text}'")
        return verdict

    async def prune(self, *, older_than_seconds: float = PRUNE_AFTER_SECONDS) -> int:
        """Forget old decisions that no prepared transaction waits for; how many.

        Raises:
            Unavailable: a node did not tell what is prepared on it, so nothing was forgotten.
        """
        listed = await asyncio.gather(*(self._prepared(node) for node in self._nodes.values()))
        open_now = [gid.attempt for text in set().union(*listed) if (gid := Gid.parse(text)) is not None]
        values = (float(older_than_seconds), open_now, _PRUNE_MAX)
        gone = await asyncio.gather(*(node.rows(_PRUNE, *values, aside=True) for node in self._nodes.values()))
        return sum(map(len, gone))

    async def _carry_out(self, node: PgNode, statement: str) -> None:
        async with node.lease(asyncio.get_running_loop().time() + FINISH_SECONDS, aside=True) as lease:
            try:
                await lease.run(statement)
            except asyncpg.UndefinedObjectError:
                return  # the coordinator or another recoverer did it
            except Exception as error:
                raise translate(error, node.name) from error
