"""The rows of a batch of slots: read where they come from, written where they go, forgotten where they came from.

A transfer between two accounts has a part on each node that has one of them: its header, the entries there, and system
entries with which they sum to zero. Which these are follows from the header and from the homes of the two accounts
(`NodeMap.system_lines`). So afterwards both nodes hold what they would hold if the slots had always been on the new
one. Only a third node's clearing entry still names the node to which the money went at the time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ...domain.model import Transfer
from ..kit.kinds import ACCOUNT, ENTRY, HOLD, KINDS, RECEIPT, RECORD, TRANSFER, Kind, Row
from ..kit.nodes import NodeMap
from ..relational.statements import select
from .ahead import (
    ENTRIES,
    NAMES,
    NEW,
    RECEIPTS,
    SERVER,
    WITH_OTHERS,
    Ahead,
    between_systems,
    headers,
    lines,
    pieces,
)
from .node import Connection, literal

_BY_ID: Final = "WHERE substr(id, 18, 3) = ANY ($1)"
_BY_SLOT: Final = "WHERE slot = ANY ($1)"
_BY_ACCOUNT: Final = "WHERE account_id = ANY ($1)"
_TAKEN_BY: Final[dict[str, tuple[Kind[Any], str]]] = {
    "placed": (HOLD, f"{_BY_ID} AND (state = 'open' OR {NEW.format(2)})"),
    "receipts": (RECEIPT, f"{_BY_SLOT} AND {NEW.format(2)}"),
    "created": (RECORD, _BY_SLOT),
}
"""What is found by its own slot, by the name that `wallet_write` has for it: what may not be staged."""

_PENDING: Final = (
    f"SELECT account_id, transfer_id, amount_minor, at FROM pending_credits {_BY_ACCOUNT} ORDER BY inserted_by, arrival"  # noqa: S608 - own names
)

INDEXES: Final = {
    "accounts_by_slot": "accounts (substr(id, 18, 3))",
    "holds_by_slot": "holds (substr(id, 18, 3), id)",
    "records_by_slot": "records (slot)",
}
"""Made on a node while slots leave it; otherwise nothing asks for these."""

_NAME: Final = [column.name for column in TRANSFER.columns].index("id")
"""Where a transfer's row has its id."""

_KEPT: Final = (*(kind.table for kind in KINDS), "pending_credits", "intents")
IS_EMPTY: Final = f"SELECT NOT ({' OR '.join(f'EXISTS (SELECT FROM {table})' for table in _KEPT)})"  # noqa: S608 - own names
"""Whether a node has no rows of any slot."""


_OF_TRANSFER: Final = [column.name for column in ENTRY.columns].index("transfer_id")
_COUNT: Final = [column.name for column in ACCOUNT.columns].index("sequence")

WRITE_ROWS: Final = 10_000
"""How many rows one statement writes: Postgres refuses a JSON array of more than 268 MB."""


@dataclass(frozen=True, slots=True)
class SlotRows:
    """What one node has of some slots and has not staged. `rows` are by the names that `wallet_write` has for them."""

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


async def read_slots(connection: Connection, ahead: Ahead) -> SlotRows:
    """Read what a node has of some slots and has not staged, inside a transaction in which nobody else writes them."""
    read = connection.rows
    ahead.check(await connection.value(SERVER))
    found: dict[str, Sequence[Row]] = {}
    for name, (kind, rest) in _TAKEN_BY.items():
        values = (ahead.texts if _BY_ID in rest else list(ahead.slots), ahead.since)
        found[name] = await read(select(kind, rest), *values[: rest.count("$")])
    found["opened"] = await read(select(ACCOUNT, _BY_ID), ahead.texts)
    found["entries"] = await _entries_left(connection, ahead, found["opened"])
    found["pending"] = await read(_PENDING, [row[0] for row in found["opened"]])
    touched = {row[_OF_TRANSFER] for row in found["entries"]} | {row[1] for row in found["pending"]}
    found["transfers"] = [*await headers(read, touched), *await between_systems(read, found["receipts"])]
    if touched - {row[_NAME] for row in found["transfers"]}:
        raise AssertionError(f"node {connection.node} has entries of transfers that it does not have")
    return SlotRows(found)


async def _entries_left(connection: Connection, ahead: Ahead, opened: Sequence[Row]) -> list[Row]:
    """The entries behind those that are staged; an account's `sequence` is the number of its entries."""
    counts = {row[0]: row[_COUNT] for row in opened}
    left = {name: ahead.positions.get(name, (0,)) for name, count in counts.items()}
    left = {name: position for name, position in left.items() if position != (counts[name],)}
    found = [row async for rows in pieces(connection.rows, ENTRIES, left, WRITE_ROWS) for row in rows]
    wrong = [name for name, position in left.items() if position != (counts[name],)]
    if wrong:
        raise AssertionError(f"account {wrong[0]} on node {connection.node} has not as many entries as it counts")
    return found


async def write_slots(connection: Connection, node: str, homes: NodeMap, found: SlotRows) -> None:
    """Write the rows on a node, in a transaction, as `homes` will have it. Of some transfers it has a part already."""
    rows = dict(found.rows)
    await _write(connection, "opened", rows.pop("opened"))
    for transfers, part in zip(found.transfers, _parts(rows.pop("transfers")), strict=True):
        names = [transfer.id for transfer in transfers]
        known = {row[0] for row in await connection.rows("SELECT id FROM transfers WHERE id = ANY ($1)", names)}
        await connection.rows("DELETE FROM system_entries WHERE transfer_id = ANY ($1)", list(known))
        await _write(connection, "transfers", [row for row in part if row[_NAME] not in known])
        await _write(connection, "system_entries", lines(homes, node, transfers))
    for name, others in rows.items():
        await _write(connection, name, others)


async def forget_slots(connection: Connection, node: str, homes: NodeMap, slots: Sequence[int]) -> None:
    """Delete some slots' rows on a node that they have left, in a transaction. What is left sums to zero again.

    An intent that is still there was closed before the copy, and a crash of the node has opened it again.
    """
    texts = [f"{slot:03x}" for slot in slots]
    names = [row[0] for row in await connection.rows(NAMES, texts)]
    async for ids in _touched(connection, names, slots):
        if not ids:
            continue
        transfers = [TRANSFER.from_row(row) for row in await headers(connection.rows, ids, WITH_OTHERS, texts)]
        stay = [transfer for transfer in transfers if node in homes.touched(transfer)]
        gone = ids - {transfer.id for transfer in stay}
        await connection.rows("DELETE FROM system_entries WHERE transfer_id = ANY ($1)", list(ids))
        await connection.rows("DELETE FROM transfers WHERE id = ANY ($1)", list(gone))
        await connection.rows("DELETE FROM intents WHERE transfer_id = ANY ($1)", list(ids))
        await _write(connection, "system_entries", lines(homes, node, stay))
    for table in ("entries", "pending_credits"):
        await connection.rows(f"DELETE FROM {table} {_BY_ACCOUNT}", names)  # noqa: S608 - names of our own tables
    for table in ("accounts", "holds"):
        await connection.rows(f"DELETE FROM {table} {_BY_ID}", texts)  # noqa: S608 - as above
    for table in ("receipts", "records"):
        await connection.rows(f"DELETE FROM {table} {_BY_SLOT}", list(slots))  # noqa: S608 - as above


async def _touched(connection: Connection, names: Sequence[str], slots: Sequence[int]) -> AsyncIterator[set[str]]:
    """The transfers of some accounts and slots, some at a time. One between two of them may come twice."""
    async for rows in pieces(connection.rows, ENTRIES, dict.fromkeys(names, (0,)), WRITE_ROWS):
        yield {row[_OF_TRANSFER] for row in rows}
    yield {row[1] for row in await connection.rows(_PENDING, list(names))}
    async for rows in pieces(connection.rows, RECEIPTS, dict.fromkeys(slots, ("", "")), WRITE_ROWS):
        yield {row[_NAME] for row in await between_systems(connection.rows, rows)}


async def _write(connection: Connection, name: str, rows: Sequence[Row]) -> None:
    for part in _parts(rows):
        text = orjson.dumps({name: [tuple(row) for row in part]}).decode()
        await connection.do(f"SELECT wallet_write({literal(text)})")


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[begin : begin + WRITE_ROWS] for begin in range(0, len(rows), WRITE_ROWS))
