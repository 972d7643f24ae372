"""The rows of a batch of slots: read where they come from, written where they go, forgotten where they came from.

A transfer between two accounts has a part on each node that has one of them: its header, the entries there, and system
entries with which they sum to zero. Which these are follows from the header and from the homes of the two accounts
(`NodeMap.system_lines`). So afterwards both nodes hold what they would hold if the slots had always been on the new
one. Only a third node's clearing entry still names the node to which the money went at the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ...domain.model import Transfer
from ..kit.kinds import ACCOUNT, ENTRY, HOLD, RECEIPT, RECORD, SYSTEM_ENTRY, TRANSFER, Kind, Row
from ..kit.nodes import NodeMap
from ..relational.statements import select
from .node import Connection, literal

_BY_ID: Final = "WHERE substr(id, 18, 3) = ANY ($1)"
_BY_SLOT: Final = "WHERE slot = ANY ($1)"
_BY_ACCOUNT: Final = "WHERE account_id = ANY ($1)"
_TAKEN_BY: Final[dict[str, tuple[Kind[Any], str]]] = {
    "placed": (HOLD, _BY_ID),
    "receipts": (RECEIPT, _BY_SLOT),
    "created": (RECORD, _BY_SLOT),
}
"""What is found by its own slot, by the name that `wallet_write` has for it."""

_PENDING: Final = (
    f"SELECT account_id, transfer_id, amount_minor, at FROM pending_credits {_BY_ACCOUNT} ORDER BY arrival"  # noqa: S608 - own names
)

INDEXES: Final = {
    "accounts_by_slot": "accounts (substr(id, 18, 3))",
    "holds_by_slot": "holds (substr(id, 18, 3))",
    "records_by_slot": "records (slot)",
}
"""Made on a node while slots leave it; otherwise nothing asks for these."""

_NAME: Final = [column.name for column in TRANSFER.columns].index("id")
"""Where a transfer's row has its id."""

_KEPT: Final = (
    "accounts",
    "entries",
    "system_entries",
    "transfers",
    "holds",
    "receipts",
    "records",
    "pending_credits",
    "intents",
)
IS_EMPTY: Final = f"SELECT NOT ({' OR '.join(f'EXISTS (SELECT FROM {table})' for table in _KEPT)})"  # noqa: S608 - own names
"""Whether a node has no rows of any slot."""


WRITE_ROWS: Final = 10_000
"""How many rows one statement writes: Postgres refuses a JSON array of more than 268 MB."""


@dataclass(frozen=True, slots=True)
class SlotRows:
    """Everything of some slots that one node has. `rows` are by the names that `wallet_write` has for them."""

    rows: dict[str, Sequence[Row]]

    @property
    def transfers(self) -> Iterator[tuple[Transfer, ...]]:
        """The transfers, some at a time, in the order of their rows."""
        for part in _parts(self.rows["transfers"]):
            yield tuple(TRANSFER.from_row(tuple(row)) for row in part)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(map(len, self.rows.values()))


async def read_slots(connection: Connection, slots: Sequence[int]) -> SlotRows:
    """Read all that a node has of some slots, inside a transaction in which nobody else writes them."""
    texts = [f"{slot:03x}" for slot in slots]
    found: dict[str, Sequence[Row]] = {
        name: await connection.rows(select(kind, rest), texts if rest is _BY_ID else list(slots))
        for name, (kind, rest) in _TAKEN_BY.items()
    }
    found["opened"] = await connection.rows(select(ACCOUNT, _BY_ID), texts)
    names = [row[0] for row in found["opened"]]
    found["entries"] = await connection.rows(select(ENTRY, _BY_ACCOUNT), names)
    found["pending"] = await connection.rows(_PENDING, names)
    touched = {*_transfers(ENTRY, found["entries"]), *(row[1] for row in found["pending"])}
    # Between two system accounts there are no entries: its receipt, in the slot that led it, is what names a transfer.
    led = {*_transfers(RECEIPT, found["receipts"])} - {None}
    found["transfers"] = await connection.rows(select(TRANSFER, "WHERE id = ANY ($1)"), list(touched | led))
    if touched - {row[_NAME] for row in found["transfers"]}:
        raise AssertionError(f"node {connection.node} has entries of transfers that it does not have")
    return SlotRows(found)


def _transfers(kind: Kind[Any], rows: Iterable[Row]) -> Iterator[Any]:
    place = [column.name for column in kind.columns].index("transfer_id")
    return (row[place] for row in rows)


async def write_slots(connection: Connection, node: str, homes: NodeMap, found: SlotRows) -> None:
    """Write the rows on a node, in a transaction, as `homes` will have it. Of some transfers it has a part already."""
    rows = dict(found.rows)
    await _write(connection, "opened", rows.pop("opened"))
    for transfers, part in zip(found.transfers, _parts(rows.pop("transfers")), strict=True):
        known = await _known(connection, transfers)
        await connection.rows("DELETE FROM system_entries WHERE transfer_id = ANY ($1)", list(known))
        await _write(connection, "transfers", [row for row in part if row[_NAME] not in known])
        await _write(connection, "system_entries", _lines(homes, node, transfers))
    for name, others in rows.items():
        await _write(connection, name, others)


async def forget_slots(connection: Connection, node: str, homes: NodeMap, slots: Sequence[int]) -> None:
    """Delete some slots' rows on a node that they have left, in a transaction. What is left sums to zero again.

    An intent that is still there was closed before the copy, and a crash of the node has opened it again.
    """
    found = await read_slots(connection, slots)
    names = [row[0] for row in found.rows["opened"]]
    for table in ("entries", "pending_credits"):
        await connection.rows(f"DELETE FROM {table} {_BY_ACCOUNT}", names)  # noqa: S608 - names of our own tables
    texts = [f"{slot:03x}" for slot in slots]
    for table in ("accounts", "holds"):
        await connection.rows(f"DELETE FROM {table} {_BY_ID}", texts)  # noqa: S608 - as above
    for table in ("receipts", "records"):
        await connection.rows(f"DELETE FROM {table} {_BY_SLOT}", list(slots))  # noqa: S608 - as above
    for transfers in found.transfers:
        stay = [transfer for transfer in transfers if node in homes.touched(transfer)]
        touched = [transfer.id for transfer in transfers]
        gone = {*touched} - {transfer.id for transfer in stay}
        await connection.rows("DELETE FROM system_entries WHERE transfer_id = ANY ($1)", touched)
        await connection.rows("DELETE FROM transfers WHERE id = ANY ($1)", list(gone))
        await connection.rows("DELETE FROM intents WHERE transfer_id = ANY ($1)", touched)
        await _write(connection, "system_entries", _lines(homes, node, stay))


def _lines(homes: NodeMap, node: str, transfers: Iterable[Transfer]) -> list[Row]:
    lines = (line for transfer in transfers for line in homes.system_lines(transfer, node))
    return [SYSTEM_ENTRY.to_row(line) for line in lines]


async def _known(connection: Connection, transfers: Sequence[Transfer]) -> set[str]:
    names = [transfer.id for transfer in transfers]
    return {row[0] for row in await connection.rows("SELECT id FROM transfers WHERE id = ANY ($1)", names)}


async def _write(connection: Connection, name: str, rows: Sequence[Row]) -> None:
    for part in _parts(rows):
        text = orjson.dumps({name: [tuple(row) for row in part]}).decode()
        await connection.do(f"SELECT wallet_write({literal(text)})")


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[begin : begin + WRITE_ROWS] for begin in range(0, len(rows), WRITE_ROWS))
