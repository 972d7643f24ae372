"""Two-phase commit between Postgres nodes: prepare, decide, commit, recover.

The leader's ordinary commit *is* the decision: it contains the debit, the receipts and the decision record. Only the
other nodes prepare, and what they prepare brings inserts only: the credits, which stay pending there until somebody
locks the payees' accounts anyway. So a payment in doubt locks nobody but its payers.

Recovery runs on every process, beside live coordinators. For each prepared transaction it first *fences* the decision:
it inserts `abort` under the decision's unique key on the leader. If the leader has committed, the insert finds
`commit`; otherwise the fence is in, and the leader can never commit. Nothing depends on ages or clocks.

Recovery settles a prepared transaction only from its second sighting on, so that it does not keep killing batches that
are just between their two phases. This only serves liveness; the fence gives safety.
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

from ...background import log_once_a_minute
from ...domain.errors import InDoubt, InvariantViolated, Unavailable, WalletError
from ...failpoints import after_decision, before_decision
from ...storage import Recovered
from .commit import Branch, commit_by, decide
from .errors import translate
from .node import PgNode, literal
from .placement import GONE, OF_NODE, all_members, told_by

log = logging.getLogger("wallet_gql.two_phase")

FINISH_SECONDS: Final = 2.0
"""How long a reply waits for the second phase. After that the credit arrives by recovery."""

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
"""How old a decision must be before it is removed: far older than any coordinator's connection can be."""
_PRUNE_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gid:
    """The name of one attempt to commit one batch; the decision's key is `attempt`, on the node `leader`."""

    cluster: str
    leader: str
    attempt: str

    @classmethod
    def new(cls, cluster: str, leader: str) -> Gid:
        """A new attempt: 128 random bits."""
        return cls(cluster, leader, secrets.token_hex(16))

    @classmethod
    def parse(cls, text: str) -> Gid | None:
        """The attempt that a prepared transaction's name stands for; None if the name is not ours."""
        match = _GID.fullmatch(text)
        return None if match is None else cls(match["cluster"], match["leader"], match["attempt"])

    @property
    def text(self) -> str:
        """The name as Postgres stores it: at most 199 bytes, of safe characters, as PREPARE takes no parameters."""
        return f"wgql:{self.cluster}:{self.leader}:{self.attempt}"


async def prepared_on(node: PgNode, like: str = "%") -> list[str]:
    """The names of a node's prepared transactions that are like that, in order. Raises Unavailable."""
    return [str(row[0]) for row in await node.rows(_PREPARED, like, seconds=FINISH_SECONDS, aside=True)]


async def fenced(node: PgNode, attempt: str) -> str:
    """Fence an attempt, and return its verdict: `commit`, or `abort`, now for ever. Raises Unavailable."""
    await node.rows(_FENCE, attempt, seconds=FINISH_SECONDS, aside=True)
    return str(await node.ask(_VERDICT, attempt, seconds=FINISH_SECONDS, aside=True))


async def commit_one(branch: Branch) -> None:
    """Write and commit on one node.

    Raises:
        WalletError: nothing was written. InDoubt: the reply was lost.
    """
    await decide(branch)
    after_decision("postgres.committed")


async def commit_across(gid: Gid, leader: Branch, others: Sequence[Branch]) -> frozenset[str]:
    """Write on the leader and prepare the others' credits, commit the leader, commit the others.

    Returns the nodes that have not confirmed the second phase yet.

    Raises:
        WalletError: it failed before the decision; prepared transactions are rolled back here or by recovery.
        InDoubt: the leader's reply was lost.
    """
    # All nodes at once: the leader has locked the accounts that it writes, the others lock none. Other waits, such as
    # for a receipt that another process writes under the same key, happen only on the leader.
    prepared: list[Branch] = []

    async def prepare(other: Branch) -> None:
        await _prepare(other, gid)
        prepared.append(other)
        before_decision("postgres.prepared")

    answers = await asyncio.gather(_write(leader), *map(prepare, others), return_exceptions=True)
    try:
        for answer in answers:
            if answer is not None:
                raise answer
        await _decide(leader, gid)
    except InDoubt:
        raise
    except WalletError:  # certainly not committed; after any other error, such as a cancellation, only recovery knows
        await asyncio.gather(*(_roll_back(branch, gid) for branch in prepared))
        raise
    after_decision("postgres.committed")
    finished = await asyncio.gather(*(_finish(branch, gid) for branch in prepared))
    after_decision("postgres.finished")
    return frozenset(branch.connection.node for branch, done in zip(prepared, finished, strict=True) if not done)


async def _write(leader: Branch) -> None:
    await leader.connection.do(f"SELECT wallet_write({literal(leader.writes)})")
    before_decision("postgres.written")


async def _decide(leader: Branch, gid: Gid) -> None:
    """Write the decision record and commit it together with the leader's part."""
    await commit_by(leader.connection, f"{_DECISION.format(gid.attempt)}; COMMIT", "COMMIT")


async def _prepare(branch: Branch, gid: Gid) -> None:
    """Begin, insert and prepare in one message."""
    pend = f"BEGIN; SELECT wallet_pend({literal(branch.writes)})"
    tag = await branch.connection.do(f"{pend}; PREPARE TRANSACTION '{gid.text}'")
    if tag != "PREPARE TRANSACTION":  # Postgres answers COMMIT in a failed transaction with ROLLBACK, not with an error
        raise InvariantViolated(f"node {branch.connection.node} answered {tag} to PREPARE TRANSACTION")


async def _finish(branch: Branch, gid: Gid) -> bool:
    """The second phase on one node. Returns whether it is done; if not, recovery does it."""
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await branch.connection.run(f"COMMIT PREPARED '{gid.text}'")
    except Exception as error:  # noqa: BLE001 - already decided; whatever failed, recovery finishes it
        branch.connection.doubtful = True
        if isinstance(error, asyncpg.UndefinedObjectError | asyncpg.ObjectInUseError):
            return isinstance(error, asyncpg.UndefinedObjectError)  # recovery has done it, or is doing it now
        log.warning("%s: the second phase on %s is left to recovery: %s", gid.text, branch.connection.node, error)
        return False
    return True


async def _roll_back(branch: Branch, gid: Gid) -> None:
    # a deadline of its own: the batch's may be what failed
    branch.connection.deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
    try:
        async with asyncio.timeout(FINISH_SECONDS):
            await branch.connection.run(f"ROLLBACK PREPARED '{gid.text}'")
    except Exception as error:  # noqa: BLE001 - nothing was decided; recovery rolls it back
        branch.connection.doubtful = True
        log.info("%s: rolling back on %s is left to recovery: %s", gid.text, branch.connection.node, error)


class Recovery:
    """Settles prepared transactions whose coordinator is gone. Safe at any time, on any process, twice."""

    def __init__(self, cluster: str, nodes: Mapping[str, PgNode]) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._seen: dict[str, set[str]] = {}

    async def run(self, limit: int, *, at_once: bool = False) -> tuple[Recovered, bool]:
        """Settle up to `limit` transactions per node; with `at_once` also those seen for the first time.

        Also returns whether it skipped one because it saw it for the first time. A node that does not answer is
        skipped; what depends on it stays until it is back.
        """
        results = await asyncio.gather(*(self._node(node, limit, at_once=at_once) for node in self._present()))
        committed, rolled_back = sum(one for one, _, _ in results), sum(one for _, one, _ in results)
        return Recovered(committed=committed, rolled_back=rolled_back), any(unripe for _, _, unripe in results)

    async def _node(self, node: PgNode, limit: int, *, at_once: bool) -> tuple[int, int, bool]:
        """How many it committed and rolled back, and whether it skipped one that it saw for the first time."""
        try:
            found = set(await self._prepared(node))
        except WalletError as error:
            log.info("recovery passes %s over: %s", node.name, error)
            return 0, 0, False
        seen = self._seen.get(node.name, set())
        ripe = sorted(found if at_once else found & seen)[:limit]
        unripe = not at_once and bool(found - seen)
        self._seen[node.name] = found
        leaders: dict[str, list[Gid]] = {}
        for text in ripe:
            gid = Gid.parse(text)
            if gid is None or gid.leader not in self._nodes:
                said = f"prepared transaction {text} on {node.name} names no leader of this cluster; left alone"
                log_once_a_minute(log, logging.ERROR, f"{text} on {node.name}", said)
            else:
                leaders.setdefault(gid.leader, []).append(gid)
        verdicts = await asyncio.gather(*(self._settle_all(node, gids) for gids in leaders.values()))
        settled = [verdict for some in verdicts for verdict in some]
        return settled.count("commit"), settled.count("abort"), unripe

    def _present(self) -> list[PgNode]:
        return [node for node in self._nodes.values() if not node.is_gone]

    async def _prepared(self, node: PgNode) -> list[str]:
        return await prepared_on(node, f"wgql:{self._cluster}:%")

    async def _settle_all(self, node: PgNode, gids: Sequence[Gid]) -> list[str]:
        """Settle one leader's transactions one by one, up to the first that cannot be settled now."""
        verdicts: list[str] = []
        for gid in gids:
            try:
                verdicts.append(await self._settle(node, gid))
            except WalletError as error:
                log.info("recovery of %s on %s will try again: %s", gid.text, node.name, error)
                break
        return verdicts

    async def _settle(self, node: PgNode, gid: Gid) -> str:
        """Fence the decision, read the verdict, and carry it out. Raises Unavailable: not possible now."""
        verdict = await fenced(self._nodes[gid.leader], gid.attempt)
        before_decision("postgres.fenced")
        word = "COMMIT" if verdict == "commit" else "ROLLBACK"
        await self._carry_out(node, f"{word} PREPARED '{gid.text}'")
        return verdict

    async def prune(self, *, older_than_seconds: float = PRUNE_AFTER_SECONDS) -> int:
        """Delete old decisions that no prepared transaction waits for. Returns how many.

        Raises:
            Unavailable: a node did not list its prepared transactions, or is not known here, so nothing was deleted.
        """
        nodes = self._present()
        told = await asyncio.gather(*(node.rows(OF_NODE, aside=True) for node in nodes))
        members = all_members(told_by(row) for rows in told for row in rows)
        unknown = {name for name, member in members.items() if member.state != GONE} - {node.name for node in nodes}
        if unknown:
            raise Unavailable(f"decisions stay, because nodes {', '.join(sorted(unknown))} have never answered here")
        listed = await asyncio.gather(*map(self._prepared, nodes))
        open_now = [gid.attempt for text in set().union(*listed) if (gid := Gid.parse(text)) is not None]
        values = (float(older_than_seconds), open_now, _PRUNE_MAX)
        gone = await asyncio.gather(*(node.rows(_PRUNE, *values, aside=True) for node in nodes))
        return sum(map(len, gone))

    async def _carry_out(self, node: PgNode, statement: str) -> None:
        async with node.connection(asyncio.get_running_loop().time() + FINISH_SECONDS, aside=True) as connection:
            try:
                await connection.run(statement)
            except asyncpg.UndefinedObjectError:
                return  # the coordinator or another recovery did it
            except Exception as error:
                raise translate(error, node.name) from error
