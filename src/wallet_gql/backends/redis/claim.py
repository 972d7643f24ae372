"""Fencing tokens on rows: claim rows before reading them, and write only if the claims still stand.

Checking the token only at the write would lose updates: the next holder may have read the rows before a late write of
the last holder lands. With the claim first, the row itself says who may write it, even after the lease has ended. Both
steps are single statements, so no row of the database stays locked while a process thinks, stops or dies between them.
Both use one connection: if a crashing server forgets a claim, the connection that could write under it is gone too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ...domain.changes import State
from ...domain.errors import Contended
from ...domain.ids import AccountId
from ...domain.model import RecordKey
from ..kit.wanted import Wanted
from ..postgres.commit import commit_by
from ..postgres.json_text import fill, given
from ..postgres.node import Connection, literal
from .leases import Held, Leases

CLAIM: Final = "SELECT wallet_claim($1, $2)"
WRITE: Final = "SELECT wallet_write_fenced({given})"


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claimed rows: they carry the token of `held`, and `state` has their content as of the claim.

    `found` is the node's whole answer.
    """

    held: Held
    state: State
    found: Mapping[str, Any]
    accounts: Sequence[AccountId]
    records: Sequence[RecordKey]


async def claim(
    connection: Connection, leases: Leases, held: Held, state: State, wanted: Wanted, *, asked: str
) -> Claimed:
    """Put the token into the rows, then read them into `state`. `asked` is the wish for what is `wanted`, as JSON text.

    Raises:
        Contended: a row has seen this token or a higher one. OtherEpoch: the node has other slots by now. Unavailable:
            it does not answer.
    """
    found: dict[str, Any] = orjson.loads(await connection.value(CLAIM, asked, held.token))
    if "stale" in found:
        await leases.raise_token(held.node, found["stale"])
        raise Contended(f"token {held.token} of node {held.node} comes after {found['stale']}")
    fill(state, wanted, found)
    return Claimed(held, state, found, list(state.accounts), list(state.records))


async def write(
    connection: Connection, claimed: Claimed, intents: Sequence[tuple[str, str]] = (), *, epoch: int
) -> None:
    """Commit the writes of the state if every claimed row still carries the token, even if the lease has ended.

    `intents` are pairs (peer, transfer): the peer still has to take in the transfer's credit.

    Raises:
        Contended: another process has claimed a row meanwhile; nothing was written. InDoubt: the reply was lost.
    """
    writes = claimed.state.writes
    text = given(
        writes,
        token=claimed.held.token,
        claimed_accounts=claimed.accounts,
        claimed_records=[(key.kind, key.id, key.slot) for key in claimed.records],
        received_transfers=[credit.transfer_id for credit in writes.received],
        intents=intents,
        patience_ms=connection.patience_ms(),
        epoch=epoch,
    )
    await commit_by(connection, WRITE.format(given=literal(text)), "SELECT 1")
