"""A Postgres backend with a deliberate fault, which trials must detect: `MUTANTS[name](patch)` breaks this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from wallet_gql.backends.postgres import commit as _pg_commit
from wallet_gql.backends.postgres import node as _pg_node
from wallet_gql.backends.postgres import sharded as _pg_store
from wallet_gql.backends.postgres import store as postgres
from wallet_gql.backends.postgres import two_phase as _two_phase
from wallet_gql.backends.postgres import upgrade as _pg_upgrade
from wallet_gql.backends.postgres.commit import Branch
from wallet_gql.backends.postgres.json_text import fill, wish
from wallet_gql.backends.postgres.node import Connection, PgNode
from wallet_gql.backends.postgres.placement import Placement
from wallet_gql.backends.postgres.two_phase import Gid, Recovery
from wallet_gql.backends.relational import migrations
from wallet_gql.domain.errors import Contended
from wallet_gql.failpoints import after_decision

AT_ONCE: Final = "wallet_load_at_once"
_LOCK: Final = 7205759403792799


def unfenced_recovery(patch: pytest.MonkeyPatch) -> None:
    """Recovery looks for a decision and, where there is none yet, rolls back without a fence."""

    async def settle(self: Recovery, node: PgNode, gid: Gid) -> str:
        verdict = await self._nodes[gid.leader].ask(_two_phase._VERDICT, gid.attempt)
        word = "COMMIT" if verdict == "commit" else "ROLLBACK"
        await self._carry_out(node, f"{word} PREPARED '{gid.text}'")
        return "commit" if verdict == "commit" else "abort"

    patch.setattr(Recovery, "_settle", settle)


def roll_back_by_age(patch: pytest.MonkeyPatch) -> None:
    """Recovery believes that what is a tenth of a second old has no coordinator any more."""

    async def settle(self: Recovery, node: PgNode, gid: Gid) -> str:
        old = "SELECT clock_timestamp() - prepared > interval '100 ms' FROM pg_prepared_xacts WHERE gid = $1"
        if not await node.ask(old, gid.text):
            raise Contended
        await self._carry_out(node, f"ROLLBACK PREPARED '{gid.text}'")
        return "abort"

    patch.setattr(Recovery, "_settle", settle)


def decision_after_phase_two(patch: pytest.MonkeyPatch) -> None:
    """The others commit first, the leader last."""

    async def commit_across(gid: Gid, leader: Branch, others: Sequence[Branch]) -> frozenset[str]:
        await _two_phase._write(leader)
        for other in others:
            await _two_phase._prepare(other, gid)
        await asyncio.gather(*(_two_phase._finish(other, gid) for other in others))
        after_decision("postgres.finished")
        await _two_phase._decide(leader, gid)
        return frozenset()

    patch.setattr(postgres, "commit_across", commit_across)


def receipt_apart(patch: pytest.MonkeyPatch) -> None:
    """The leader's receipts follow in a transaction of their own, after the money."""
    whole_one, whole_across = _two_phase.commit_one, _two_phase.commit_across

    async def commit_one(branch: Branch) -> None:
        money, receipts = _split(branch)
        await whole_one(money)
        await _later(receipts)

    async def commit_across(gid: Gid, leader: Branch, others: Sequence[Branch]) -> frozenset[str]:
        money, receipts = _split(leader)
        late = await whole_across(gid, money, others)
        await _later(receipts)
        return late

    patch.setattr(postgres, "commit_one", commit_one)
    patch.setattr(postgres, "commit_across", commit_across)


def _split(branch: Branch) -> tuple[Branch, Branch]:
    writes = json.loads(branch.writes)
    nothing: dict[str, list[Any]] = {name: [] for name in writes}
    receipts = {**nothing, "receipts": writes.get("receipts", [])}
    without = {**writes, "receipts": []}
    return Branch(branch.connection, json.dumps(without)), Branch(branch.connection, json.dumps(receipts))


async def _later(branch: Branch) -> None:
    await branch.connection.do("BEGIN")
    await _pg_commit.decide(branch)


def synchronous_commit_off(patch: pytest.MonkeyPatch) -> None:
    """A commit is answered before it is on the disk, and the check at the start is gone."""
    patch.setitem(_pg_node.SETTINGS, "synchronous_commit", "off")

    async def check_node(node: PgNode, *, two_phase: bool) -> None:
        del node, two_phase

    async def prepare_node(node: PgNode, *, migrates: bool) -> None:
        await _pg_upgrade.prepare_node(node, migrates=migrates)
        node.is_strict = False

    patch.setattr(_pg_upgrade, "check_node", check_node)
    patch.setattr(_pg_store, "prepare_node", prepare_node)


def read_in_the_locking_statement(patch: pytest.MonkeyPatch) -> None:
    """One statement locks the accounts and reads holds and receipts: after a wait these are as they were before it."""
    checked = _pg_upgrade.prepare_node

    async def prepare_node(node: PgNode, *, migrates: bool) -> None:
        await checked(node, migrates=migrates)
        async with node.connection(asyncio.get_running_loop().time() + 10) as connection:
            await connection.do(f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK})")
            await connection.do(stale_loader())
            await connection.do("COMMIT")

    async def load(_self: Any, homes: Placement, connection: Connection, *values: Any, **more: Any) -> dict[str, Any]:
        state, wanted, mode = values
        statement = "SELECT wallet_load($1, $2)" if mode == "read" else f"SELECT {AT_ONCE}($1, $2)"
        text = await connection.value(
            statement, wish(wanted, epoch=homes.epochs[connection.node], receive=None, **more), mode
        )
        found: dict[str, Any] = orjson.loads(text)
        fill(state, wanted, found)
        return {"busy_records": None, **found}

    patch.setattr(_pg_store, "prepare_node", prepare_node)
    patch.setattr(postgres.PostgresStore, "_load", load)


def stale_loader() -> str:
    """`wallet_load` with its two steps made one."""
    path = Path(migrations.__file__).parent / "versions" / "0002_functions.sql"
    text = path.read_text(encoding="utf-8").split("-- next\n")[0]
    before, _, rest = text.partition("  IF mode = 'skip' THEN\n")
    after = rest.partition("  RETURN json_build_object(")[2]
    locked = (
        "WITH locked AS MATERIALIZED (SELECT a.* FROM accounts AS a WHERE a.id = ANY (wanted_accounts)"
        " OR a.owner = ANY (wanted_owners) ORDER BY a.id FOR UPDATE)"
    )
    after = after.replace("FROM accounts AS a WHERE a.id = ANY (locked))", "FROM locked AS a)")
    after = after.replace("h.account_id = ANY (locked)", "h.account_id IN (SELECT id FROM locked)")
    after = after.replace("a.id <> ALL (locked)", "false").replace("  )::text;\nEND", "  )::text);\nEND")
    changed = f"{before}  RETURN ({locked} SELECT json_build_object({after}"
    return changed.replace("CREATE FUNCTION wallet_load(", f"CREATE OR REPLACE FUNCTION {AT_ONCE}(")


def prepare_tag_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Whatever PREPARE answers counts as prepared."""

    async def prepare(branch: Branch, gid: Gid) -> None:
        writes = _pg_node.literal(branch.writes)
        await branch.connection.do(f"BEGIN; SELECT wallet_pend({writes}); PREPARE TRANSACTION '{gid.text}'")

    patch.setattr(_two_phase, "_prepare", prepare)


MUTANTS: Final[Mapping[str, Callable[[pytest.MonkeyPatch], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        unfenced_recovery,
        roll_back_by_age,
        decision_after_phase_two,
        receipt_apart,
        synchronous_commit_off,
        read_in_the_locking_statement,
        prepare_tag_unchecked,
    )
}
