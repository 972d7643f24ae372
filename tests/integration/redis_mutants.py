"""A Redis backend with a deliberate fault, which the trials must detect. Each mutant patches this process.

Faulty functions are stored on the nodes under names of their own, beside the correct ones, so that ledgers can be
reused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Final

import pytest

from wallet_gql.backends.postgres import sharded as _pg_store
from wallet_gql.backends.postgres import upgrade as _pg_upgrade
from wallet_gql.backends.postgres.node import Connection, PgNode
from wallet_gql.backends.postgres.placement import Placement
from wallet_gql.backends.redis import claim as _redis_claim
from wallet_gql.backends.redis import credits as _redis_credits
from wallet_gql.backends.redis.credits import Credits
from wallet_gql.backends.redis.leases import Leases
from wallet_gql.backends.relational import rows as _rows
from wallet_gql.domain.codec import to_micros
from wallet_gql.domain.ids import TransferId
from wallet_gql.domain.model import Account

_LOCK: Final = 7205759403792799
_PACKAGES: Final = ("wallet_gql.backends.postgres", "wallet_gql.backends.redis")
_FUNCTIONS: Final = ("wallet_claim", "wallet_credit", "wallet_write_fenced", "wallet_write")
_CALLS: Final = {
    "wallet_claim": (_redis_claim, "CLAIM"),
    "wallet_credit": (_redis_credits, "TAKE_IN"),
    "wallet_write_fenced": (_redis_claim, "WRITE"),
}
"""The statements that call them."""


def sources() -> dict[str, str]:
    """The sound functions by name, as they are today."""
    folders = [resources.files(package) / "sql" for package in _PACKAGES]
    files = {file.name: file for folder in folders for file in folder.iterdir()}
    return {name: files[f"{name}.sql"].read_text(encoding="utf-8") for name in _FUNCTIONS}


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """The text with every change made; each must find its place."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def spoil_functions(patch: pytest.MonkeyPatch, spoiled: Mapping[str, str]) -> None:
    """Have these instead of the sound functions, on every node that this process opens; they call one another."""
    checked = _pg_upgrade.prepare_node
    bad = {name: f"{name}_spoiled" for name in spoiled}
    text = ";\n".join(source.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION") for source in spoiled.values())
    for name in sorted(bad, key=len, reverse=True):
        text = text.replace(f"{name}(", f"{bad[name]}(")

    async def prepare_node(node: PgNode, *, migrates: bool) -> None:
        await checked(node, migrates=migrates)
        async with node.connection(asyncio.get_running_loop().time() + 10) as connection:
            await connection.do(f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK})")
            await connection.do(text)
            await connection.do("COMMIT")

    patch.setattr(_pg_store, "prepare_node", prepare_node)
    for name, (module, statement) in _CALLS.items():
        if name in bad:
            patch.setattr(module, statement, getattr(module, statement).replace(name, bad[name]))


def spoil_own(patch: pytest.MonkeyPatch, function: str, *changes: tuple[str, str]) -> None:
    """Have a changed function in place of this one in every session from now on, also of stores that are open."""
    other = replaced(sources()[function].replace(f"{function}(", f"pg_temp.{function}("), *changes)
    call, own = f"SELECT {function}(", f"SELECT pg_temp.{function}("
    run, value = Connection.run, Connection.value

    async def running(connection: Connection, statement: str) -> str:
        return await run(connection, other + statement.replace(call, own) if statement.startswith(call) else statement)

    async def asking(connection: Connection, statement: str, *values: object) -> object:
        if statement.startswith(call):
            await run(connection, other)
        return await value(connection, statement.replace(call, own), *values)

    patch.setattr(Connection, "run", running)
    patch.setattr(Connection, "value", asking)


def _unclaimed() -> str:
    """Rows are read without a token being put into them."""
    return replaced(
        sources()["wallet_claim"],
        ("IF highest >= token THEN", "IF false THEN"),
        ("SET fence = token", "SET fence = fence"),
    )


_UNCHECKED: Final = ("IF held + more <> wanted THEN", "IF false THEN")


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """The lease alone is trusted: no token is put into rows, and none compared."""
    spoil_functions(
        patch,
        {
            "wallet_claim": _unclaimed(),
            "wallet_write_fenced": replaced(sources()["wallet_write_fenced"], _UNCHECKED),
        },
    )


def fence_only_at_the_write(patch: pytest.MonkeyPatch) -> None:
    """A row takes any token that is not lower than its own, at the write: too late for what was read."""
    late = (
        "PERFORM wallet_write(given);",
        "PERFORM wallet_write(given);\n  UPDATE accounts SET fence = token WHERE id = ANY (claimed_accounts);",
    )
    source = replaced(sources()["wallet_write_fenced"], ("fence = token)", "fence <= token)"), late)
    spoil_functions(patch, {"wallet_claim": _unclaimed(), "wallet_write_fenced": source})


def trusting_the_lock(patch: pytest.MonkeyPatch) -> None:
    """Read, modify, write: balances are written as they were computed, whatever the row has become."""

    def account_update(before: Account, after: Account) -> Sequence[Any]:
        values = after.posted_minor, after.held_minor, after.sequence
        return (*values, to_micros(after.changed_at), after.status.value, after.id, before.sequence)

    patch.setattr(_rows, "account_update", account_update)
    write = replaced(
        sources()["wallet_write"],
        ("posted_minor = a.posted_minor + (w ->> 0)::bigint", "posted_minor = (w ->> 0)::bigint"),
        ("held_minor = a.held_minor + (w ->> 1)::bigint", "held_minor = (w ->> 1)::bigint"),
        (" AND a.sequence = (w ->> 6)::bigint", ""),
    )
    spoil_functions(
        patch,
        {
            "wallet_claim": _unclaimed(),
            "wallet_write_fenced": replaced(sources()["wallet_write_fenced"], _UNCHECKED),
            "wallet_write": write,
        },
    )


def _without_keys() -> dict[str, str]:
    """Whoever takes credits in passes over headers that are there already: no key refuses a second credit."""
    changes = [(f"FROM jsonb_array_elements(given -> '{name}') AS w;",) * 2 for name in ("transfers", "system_entries")]
    write = replaced(
        sources()["wallet_write"], *((old, old.replace(";", " ON CONFLICT DO NOTHING;")) for old, _ in changes)
    )
    credit = replaced(sources()["wallet_credit"], ("known OR NOT has_payee", "NOT has_payee"))
    return {"wallet_credit": credit, "wallet_write": write}


def credit_without_key(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the payee has it already, and no key refuses it."""
    spoil_functions(patch, _without_keys())


def check_then_credit(patch: pytest.MonkeyPatch) -> None:
    """Whether the payee has it is looked up first, in a transaction of its own; no key refuses it later."""
    whole = Credits._take_in

    async def take_in(self: Credits, homes: Placement, peer: str, batch: Sequence[Any]) -> set[TransferId]:
        names = [sending.credit.transfer.id for sending in batch]
        found = await self._nodes[peer].rows("SELECT id FROM transfers WHERE id = ANY($1)", names)
        known = {TransferId(row[0]) for row in found}
        await asyncio.sleep(0.02)
        new = [sending for sending in batch if sending.credit.transfer.id not in known]
        return known | (await whole(self, homes, peer, new) if new else set())

    patch.setattr(Credits, "_take_in", take_in)
    spoil_functions(patch, _without_keys())


def tokens_from_zero(patch: pytest.MonkeyPatch) -> None:
    """After the Redis has forgotten them tokens begin anew, and rows take them."""

    async def raise_token(self: Leases, node: str, floor: int) -> None:
        del self, node, floor

    patch.setattr(Leases, "raise_token", raise_token)
    spoil_functions(
        patch, {"wallet_claim": replaced(sources()["wallet_claim"], ("IF highest >= token THEN", "IF false THEN"))}
    )


MUTANTS: Final[Mapping[str, Callable[[pytest.MonkeyPatch], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        no_fence,
        fence_only_at_the_write,
        trusting_the_lock,
        credit_without_key,
        check_then_credit,
        tokens_from_zero,
    )
}
