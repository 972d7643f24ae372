"""Small reads that several transports need: owners of accounts, and open holds. None takes a lock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ..domain.changes import ReadSet
from ..domain.ids import AccountId, UserId, is_system
from ..domain.model import Account, Hold
from ..storage import Store


async def owners_of(store: Store, account_ids: Iterable[AccountId]) -> dict[AccountId, UserId]:
    """The owner of each account, in one read. Unknown accounts and the wallet's own are left out.

    Raises:
        Unavailable: the store does not answer.
    """
    asked = tuple(dict.fromkeys(account_id for account_id in account_ids if not is_system(account_id)))
    if not asked:
        return {}
    snapshot = await store.fetch(ReadSet(credits=asked))
    facts = {account_id: snapshot.facts(account_id) for account_id in asked}
    return {account_id: found.owner for account_id, found in facts.items() if found}


async def account_ids_of(store: Store, user_id: UserId) -> frozenset[AccountId]:
    """The accounts of a user. Raises Unavailable."""
    snapshot = await store.fetch(ReadSet(wallets=(user_id,)))
    return frozenset(account.id for account in snapshot.wallet(user_id))


async def open_holds(store: Store, account: Account, now: datetime) -> list[Hold]:
    """The holds on an account that reserve its money at `now`, newest first. Raises Unavailable."""
    snapshot = await store.fetch(ReadSet(accounts=(account.id,), open_holds=True))
    return [hold for hold in reversed(snapshot.holds_of(account.id)) if not hold.is_due(now)]
