"""The one commit that both Postgres backends share: write on one node, and know what a failure means."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from ..domain.errors import InDoubt, InvariantViolated
from ._pg_node import Lease, is_gone, literal, translate


@dataclass(frozen=True, slots=True)
class Branch:
    """One node's part of a commit: its open transaction and what to write in it, as JSON text."""

    lease: Lease
    writes: str


async def decide(branch: Branch) -> None:
    """The commit that decides. An error that the server reports is a no; anything else is doubt.

    Raises:
        WalletError: it failed, nothing was written. InDoubt: the reply was lost.
    """
    try:
        tag = await branch.lease.run(f"SELECT wallet_write({literal(branch.writes)}); COMMIT")
    except Exception as error:
        branch.lease.doubtful = True
        if is_gone(error) or not isinstance(error, asyncpg.PostgresError):
            raise InDoubt(f"node {branch.lease.node} did not confirm the commit") from error
        raise translate(error, branch.lease.node) from error
    if tag != "COMMIT":
        raise InvariantViolated(f"node {branch.lease.node} answered {tag} to COMMIT")
