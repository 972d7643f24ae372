"""The commit that both Postgres backends share: write on one node, and tell a certain failure from doubt."""

from __future__ import annotations

from ...domain.errors import InDoubt, InvariantViolated
from ...domain.frozen import frozen
from .errors import leaves_doubt, translate
from .node import Lease, literal


@frozen
class Branch:
    """One node's part of a commit: its open transaction and what to write in it, as JSON text."""

    lease: Lease
    writes: str


async def decide(branch: Branch) -> None:
    """Write and commit the transaction that is open. Raises as `commit_by` does."""
    await commit_by(branch.lease, f"SELECT wallet_write({literal(branch.writes)}); COMMIT", "COMMIT")


async def commit_by(lease: Lease, statement: str, confirmed: str) -> None:
    """Run the statement that commits. An error reported by the server means not committed; anything else is in doubt.

    Raises:
        WalletError: nothing was written. InDoubt: the reply was lost.
    """
    try:
        tag = await lease.run(statement)
    except Exception as error:
        lease.doubtful = True
        if leaves_doubt(error):
            raise InDoubt(f"node {lease.node} did not confirm the commit") from error
        raise translate(error, lease.node) from error
    if tag != confirmed:
        raise InvariantViolated(f"node {lease.node} answered {tag} to {confirmed}")
