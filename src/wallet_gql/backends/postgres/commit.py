"""The commit that both Postgres backends share: write on one node, and tell a certain failure from doubt."""

from __future__ import annotations

from ...domain.errors import InDoubt, InvariantViolated
from ...domain.frozen import frozen
from .errors import leaves_doubt, translate
from .node import Connection, literal


@frozen
class Branch:
    """One node's part of a commit: its open transaction and what to write in it, as JSON text."""

    connection: Connection
    writes: str


async def decide(branch: Branch) -> None:
    """Write and commit the transaction that is open. Raises as `commit_by` does."""
    await commit_by(branch.connection, f"SELECT wallet_write({literal(branch.writes)}); COMMIT", "COMMIT")


async def commit_by(connection: Connection, statement: str, confirmed: str) -> None:
    """Run the statement that commits. An error reported by the server means not committed; anything else is in doubt.

    Raises:
        WalletError: nothing was written. InDoubt: the reply was lost.
    """
    try:
        tag = await connection.run(statement)
    except Exception as error:
        connection.doubtful = True
        if leaves_doubt(error):
            raise InDoubt(f"node {connection.node} did not confirm the commit") from error
        raise translate(error, connection.node) from error
    if tag != confirmed:
        raise InvariantViolated(f"node {connection.node} answered {tag} to {confirmed}")
