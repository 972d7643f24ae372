"""Sums of a whole node: the only reads whose time grows with the ledger, so they have a limit of their own."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from .node import PATIENCE, PgNode

SUMS_SECONDS: Final = 600.0
"""How long the sums of one node may take. The sessions' own limit is that of statements which payments wait for."""


async def sums_of(node: PgNode, statement: str, *values: Any) -> list[Any]:
    """All rows of a statement that reads all accounts. A node that does not answer at all is noticed at once.

    Raises:
        Unavailable: also as OtherEpoch. Contended: it takes longer than `SUMS_SECONDS`.
    """
    deadline = asyncio.get_running_loop().time() + SUMS_SECONDS / PATIENCE  # the server's own limit comes first
    async with node.connection(deadline, reads=True) as connection:
        await connection.begin(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {SUMS_SECONDS * 1_000:.0f}")
        rows = await connection.rows(statement, *values)
        await connection.do("COMMIT")
        return rows
