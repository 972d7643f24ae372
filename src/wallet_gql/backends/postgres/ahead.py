"""Rows of slots that never change again, copied to the slots' next node while they are still served.

They are staged: pieces of them lie in the table `staged`, which nothing else reads. The commit that activates the
slots inserts them where they belong (`unstage`), so while the slots are frozen only what is left has to be read:

- *Entries*, with the headers of their transfers and the system entries that the next node will have of these. An
  account counts its entries without a gap, and whoever writes one has locked the account. So what is visible of them
  is always the first so many, and the others are those with a higher sequence.
- *Receipts* and *closed holds* have no such order: a commit may end before an earlier one, whatever their times and
  keys say. What was not visible yet was written by a transaction that had not ended, so its number is not below that
  of the oldest one that was open before the first row was read (`_HORIZON`). All rows from there on are read again;
  some are staged already. A receipt brings the header of a transfer between two system accounts, which has no entry.

Everything else is copied while the slots are frozen, because it changes (accounts, records, open holds) or goes
(pending credits).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ...domain.errors import Contended
from ...domain.frozen import frozen
from ...domain.ids import SYSTEM_PREFIX
from ...domain.model import Transfer
from ..kit.kinds import ENTRY, HOLD, RECEIPT, SYSTEM_ENTRY, TRANSFER, Coding, Kind, Row
from ..kit.nodes import NodeMap
from ..relational.statements import select
from .hosts import TIMELINE
from .node import Connection, literal

Read = Callable[..., Awaitable[list[Any]]]
"""Runs a statement with its values on the slots' node, and returns the rows."""

Stage = Callable[[str, int], Awaitable[None]]
"""Runs a statement on the slots' next node, which copies so many rows."""

PIECE_ROWS: Final = 2_000
"""About how many entries, receipts or holds are copied in one step, so that a step is short."""

_GROUPS_MAX: Final = 100
"""Of how many accounts or slots one statement reads: each gets its share of the piece."""

CATCH_UP_ROWS: Final = 1_000
"""While more rows than this came in during a round, another round follows: these would be copied frozen."""

_ROUNDS_MAX: Final = 10

SERVER: Final = f"SELECT concat_ws(' ', ({TIMELINE}), pg_postmaster_start_time())"
"""Which server of a node answers: its timeline, and when it was started."""

_HORIZON: Final = f"SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text, ({SERVER})"
"""The number of the oldest transaction that has not ended, and the server that has counted them."""

NEW: Final = "age(xmin) <= age(${}::text::xid)"
"""Whether a row was written by that transaction or a later one. Numbers wrap around, so very old rows may seem new."""

_OF_TRANSFER: Final = [column.name for column in ENTRY.columns].index("transfer_id")

_LED: Final = [column.name for column in RECEIPT.columns].index("transfer_id")
_SYSTEM: Final = f"LIKE '{SYSTEM_PREFIX}%'"
_BETWEEN_SYSTEMS: Final = f"debit_account_id {_SYSTEM} AND credit_account_id {_SYSTEM}"
WITH_OTHERS: Final = (
    "NOT (substr(id, 18, 3) = ANY ($2) "
    f"AND (debit_account_id {_SYSTEM} OR substr(debit_account_id, 18, 3) = ANY ($2)) "
    f"AND (credit_account_id {_SYSTEM} OR substr(credit_account_id, 18, 3) = ANY ($2)))"
)
"""Transfers that not only these slots have to do with (`NodeMap.touched`)."""

NAMES: Final = "SELECT id FROM accounts WHERE substr(id, 18, 3) = ANY ($1)"


@frozen
class Ordered:
    """Rows that are read group by group, in each group by the columns `order`."""

    name: str
    kind: Kind[Any]
    group: str
    order: tuple[str, ...]
    only: str = "true"
    gapless: bool = False
    """Whether the one column of `order` counts the rows of a group."""

    @property
    def piece(self) -> str:
        """The statement: the groups, a column of positions for each of `order`, and the most rows of each group."""
        types = [self.kind.column(name).coding for name in (self.group, *self.order)]
        values = ", ".join(f"${n}::{_type(coding)}[]" for n, coding in enumerate(types, 1))
        names = ", ".join(f"p{n}" for n, _ in enumerate(self.order))
        order = ", ".join(self.order)
        found = select(
            self.kind,
            f"WHERE {_GROUPED.get(self.group, self.group)} = a.g AND ({order}) > ({names}) AND {self.only} "
            f"ORDER BY {order} LIMIT ${len(types) + 1}",
        )
        asked = f"unnest({values}) WITH ORDINALITY AS a(g, {names}, place)"
        last = ", ".join(f"x.{name}" for name in self.order)
        return f"SELECT a.place, x.* FROM {asked} CROSS JOIN LATERAL ({found}) AS x ORDER BY a.place, {last}"  # noqa: S608 - own names

    @property
    def newer(self) -> str:
        """The statement: of the groups, the rows that a transaction or a later one has written."""
        return select(self.kind, f"WHERE {_GROUPED[self.group]} = ANY ($1) AND {self.only} AND {NEW.format(2)}")


_GROUPED: Final = {"slot": "slot", "id": "substr(id, 18, 3)"}
"""The slot of a row, by the column that tells it."""


def _type(coding: Coding) -> str:
    return "bigint" if coding in (Coding.NUMBER, Coding.SLOT, Coding.TIME) else "text"


ENTRIES: Final = Ordered("entries", ENTRY, "account_id", ("sequence",), gapless=True)
RECEIPTS: Final = Ordered("receipts", RECEIPT, "slot", ("actor", "key"))
HOLDS: Final = Ordered("placed", HOLD, "id", ("id",), "state <> 'open'")


async def pieces(
    read: Read, asked: Ordered, positions: dict[Any, tuple[Any, ...]], most: int
) -> AsyncIterator[list[Row]]:
    """The rows behind the positions of their groups, about `most` at a time. The positions move along.

    Raises:
        Contended: a row is missing where they have no gaps. An import writes them in no order.
    """
    columns = [column.name for column in asked.kind.columns]
    places = [columns.index(name) + 1 for name in asked.order]
    left = list(positions)
    while left:
        groups = left[-_GROUPS_MAX:]
        share = max(most // len(groups), 1)
        behind = zip(*(positions[group] for group in groups), strict=True)
        found = await read(asked.piece, groups, *map(list, behind), share)
        counts = dict.fromkeys(groups, 0)
        for row in found:
            group = groups[row[0] - 1]
            counts[group] += 1
            before, positions[group] = positions[group], tuple(row[place] for place in places)
            if asked.gapless and positions[group][0] != before[0] + 1:
                raise Contended(f"{group} has no row {before[0] + 1} yet; is an import at work?")
        left[-_GROUPS_MAX:] = [group for group, count in counts.items() if count == share]
        if found:
            yield [tuple(row)[1:] for row in found]


async def headers(read: Read, ids: Iterable[str], only: str = "true", *values: object) -> list[Row]:
    """The headers of transfers, as rows; `only` is a condition on them."""
    asked = list(ids)
    statement = select(TRANSFER, f"WHERE id = ANY ($1) AND {only}")
    return [tuple(row) for row in await read(statement, asked, *values)] if asked else []


async def between_systems(read: Read, receipts: Iterable[Row]) -> list[Row]:
    """The headers of transfers that have no entry of a customer: the receipt, in the slot that led it, names it."""
    return await headers(read, {row[_LED] for row in receipts} - {None}, _BETWEEN_SYSTEMS)


def lines(homes: NodeMap, node: str, transfers: Iterable[Transfer]) -> list[Row]:
    """The system entries of transfers on one node, as rows."""
    return [SYSTEM_ENTRY.to_row(line) for transfer in transfers for line in homes.system_lines(transfer, node)]


@dataclass(slots=True)
class Ahead:
    """What one attempt has staged, and so what is left to copy. `homes` are those after the move to `node`."""

    attempt: str
    slots: Sequence[int]
    node: str
    homes: NodeMap
    positions: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """The last staged entry of each account."""
    since: str = ""
    """What was written from this transaction on may not be staged."""
    server: str = ""
    """Where it was read. Another server, or the same one after a crash, may give the same numbers to other rows."""
    pieces: int = 0
    rows: int = 0

    @property
    def texts(self) -> list[str]:
        """The slots as ids have them."""
        return [f"{slot:03x}" for slot in self.slots]

    def check(self, server: str) -> None:
        """Raise Contended if another server answers than the one that was read first."""
        self.server = self.server or server
        if self.server != server:
            raise Contended(f"the node that slots leave for {self.node} has failed over; nothing has moved")

    async def copy(self, read: Read, stage: Stage) -> None:
        """Copy what there is, in rounds: each copies what came in during the one before."""
        for _ in range(_ROUNDS_MAX):
            before = self.rows
            await self._round(read, stage)
            if self.rows - before <= CATCH_UP_ROWS:
                return

    async def _round(self, read: Read, stage: Stage) -> None:
        ((since, server),) = await read(_HORIZON)
        self.check(server)
        for (name,) in await read(NAMES, self.texts):
            self.positions.setdefault(name, (0,))
        async for rows in pieces(read, ENTRIES, self.positions, PIECE_ROWS):
            found = await headers(read, {row[_OF_TRANSFER] for row in rows})
            await self._put(stage, {"entries": rows, **self._with_lines(found)})
        for asked, groups in ((RECEIPTS, list(self.slots)), (HOLDS, self.texts)):
            async for rows in self._unordered(read, asked, groups):
                found = await between_systems(read, rows) if asked is RECEIPTS else []
                await self._put(stage, {asked.name: rows, **self._with_lines(found)})
        self.since = since

    def _with_lines(self, found: list[Row]) -> dict[str, list[Row]]:
        """Headers with the system entries that follow from them."""
        return {"transfers": found, "system_entries": lines(self.homes, self.node, map(TRANSFER.from_row, found))}

    async def _unordered(self, read: Read, asked: Ordered, groups: list[Any]) -> AsyncIterator[list[Row]]:
        """In the first round all of them, later what has come in since."""
        if not self.since:
            lowest = tuple("" for _ in asked.order)
            async for rows in pieces(read, asked, dict.fromkeys(groups, lowest), PIECE_ROWS):
                yield rows
            return
        found: list[Row] = [tuple(row) for row in await read(asked.newer, groups, self.since)]
        for begin in range(0, len(found), PIECE_ROWS):
            yield found[begin : begin + PIECE_ROWS]

    async def _put(self, stage: Stage, rows: dict[str, list[Row]]) -> None:
        count = sum(map(len, rows.values()))
        values = f"{literal(self.attempt)}, {self.pieces}, {literal(orjson.dumps(rows).decode())}"
        await stage(f"INSERT INTO staged (attempt, place, rows) VALUES ({values})", count)  # noqa: S608 - literals
        self.pieces += 1
        self.rows += count


DROP: Final = "DELETE FROM staged WHERE attempt = $1"
"""What an attempt has staged."""

DROP_ALL: Final = "TRUNCATE staged"
"""What attempts have left whose movers are gone."""

IS_FULL: Final = "SELECT EXISTS (SELECT FROM staged) OR pg_total_relation_size('staged') > 64 * 1024 * 1024"
"""Whether to do that before a batch. Each time makes new files; but what is deleted leaves its room behind."""

_LOCK: Final = "LOCK TABLE staged IN SHARE ROW EXCLUSIVE MODE"
_COUNT: Final = "SELECT count(*) FROM staged WHERE attempt = $1"


def _staged(name: str) -> str:
    """The rows of that name, as `w`."""
    return f"FROM staged AS s CROSS JOIN LATERAL jsonb_array_elements(s.rows -> '{name}') AS w WHERE s.attempt = $1"


def _insert(name: str, kind: Kind[Any], rest: str = "ON CONFLICT DO NOTHING") -> str:
    values = ", ".join(f"(w ->> {n})::{_type(column.coding)}" for n, column in enumerate(kind.columns))
    return f"INSERT INTO {kind.table} ({kind.names()}) SELECT {values} {_staged(name)} {rest}"


UNSTAGE: Final = (
    f"DELETE FROM system_entries WHERE transfer_id IN (SELECT w ->> 0 {_staged('transfers')})",  # noqa: S608 - own names
    _insert("transfers", TRANSFER),
    _insert("system_entries", SYSTEM_ENTRY),
    _insert("entries", ENTRY, ""),
    _insert("receipts", RECEIPT),
    _insert("placed", HOLD),
    DROP,
)
"""The node has a part of some transfers already, and some rows were read twice: these are the same."""


async def unstage(connection: Connection, ahead: Ahead) -> None:
    """Insert what an attempt has staged, in the transaction that activates its slots, after what was left.

    Raises:
        Contended: some of it is gone. Another mover has dropped it, or the node has crashed.
    """
    if not ahead.pieces:
        return
    await connection.do(_LOCK)
    if await connection.value(_COUNT, ahead.attempt) != ahead.pieces:
        raise Contended(f"rows that were copied ahead to {ahead.node} are gone; nothing has moved")
    await connection.do("; ".join(UNSTAGE).replace("$1", literal(ahead.attempt)))
