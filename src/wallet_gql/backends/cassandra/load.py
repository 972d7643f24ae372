"""Reads what is wanted: first names, then the rows that they lead to; many keys per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...domain.changes import State
from ...domain.codec import to_micros
from ...domain.ids import AccountId, TransferId
from ...domain.model import Account, Hold, Receipt, Record, Transfer
from ..kit import kinds
from ..kit.wanted import Wanted, load_found
from .client import Client
from .tables import FAR, record_key, text_of, values_of

ROWS: Final[dict[str, kinds.Kind[Any]]] = {
    kind.name: kind for kind in (kinds.ACCOUNT, kinds.HOLD, kinds.RECEIPT, kinds.RECORD)
}
"""The kinds that have a table of their own name, with one row per record."""


@dataclass(slots=True)
class Found:
    """What was found of the wanted items."""

    accounts: dict[AccountId, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    transfers: dict[str, tuple[Transfer, int]] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def fill(self, state: State, wanted: Wanted, *, remote: Collection[AccountId] = ()) -> None:
        """Put it into the state, except for the accounts that are `remote`."""
        load_found(
            state,
            wanted,
            accounts=(account for account in self.accounts.values() if account.id not in remote),
            holds=self.holds.values(),
            transfers=self.transfers.values(),
            receipts=self.receipts,
            records=self.records,
        )


async def load(
    client: Client,
    wanted: Wanted,
    transfer_key: Callable[[TransferId], str],
    known: Mapping[AccountId, Account] | None = None,
) -> Found:
    """Read what is wanted. Accounts in `known` are not read again. Raises Failure."""
    found = Found()
    known = known or {}
    named = wanted.accounts | wanted.credits
    found.accounts.update((name, known[name]) for name in named if name in known)
    keys = {transfer_key(transfer_id) for transfer_id in wanted.transfers}
    accounts, wallets, holds, transfers, receipts, records = await asyncio.gather(
        rows(client, "account", named - found.accounts.keys()),
        client.ask_keys("get_wallet", wanted.wallets),
        rows(client, "hold", wanted.holds),
        client.ask_keys("get_transfer", keys),
        rows(client, "receipt", (text_of(*name) for name in wanted.receipts)),
        rows(client, "record", map(record_key, wanted.records)),
    )
    found.accounts.update(accounts)
    found.holds.update(holds)
    found.transfers.update(map(_transfer, (row for row in transfers if row[1] is not None)))
    found.receipts.extend(receipts.values())
    found.records.extend(records.values())
    owned = {account_id for _, account_id in wallets}
    found.accounts.update((name, known[name]) for name in owned if name in known)
    found.accounts.update(await rows(client, "account", owned - found.accounts.keys()))
    if wanted.open_holds or wanted.due_at is not None:
        await _load_open_holds(client, wanted, found)
    return found


async def _load_open_holds(client: Client, wanted: Wanted, found: Found) -> None:
    """Load the open holds of the named accounts; an account whose `held_minor` is 0 has none."""
    accounts = (found.accounts[name] for name in wanted.accounts if name in found.accounts)
    holding = [account.id for account in accounts if account.held_minor]
    if not holding:
        return
    until = FAR if wanted.open_holds or wanted.due_at is None else to_micros(wanted.due_at)
    listed = {hold_id for (hold_id,) in await client.ask_keys("get_open_hold", holding, until)}
    found.holds.update(await rows(client, "hold", listed - found.holds.keys()))


async def rows(client: Client, name: str, keys: Iterable[str]) -> dict[Any, Any]:
    """The records of a kind under some keys, by key."""
    read = ROWS[name].from_row
    return {key: read(values_of(row)) for key, row in await client.ask_keys(f"get_{name}", keys)}


def _transfer(row: tuple[Any, ...]) -> tuple[str, tuple[Transfer, int]]:
    _, text, reversed_minor = row
    transfer: Transfer = kinds.TRANSFER.from_row(values_of(text)[0])
    return transfer.id, (transfer, reversed_minor or 0)
