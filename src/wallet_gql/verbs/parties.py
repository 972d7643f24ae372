"""The two sides of a transfer or a hold, as one of them sees it: which way the money goes, and who the other is.

None of these reads takes a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

from ..domain.changes import ReadSet, Snapshot
from ..domain.frozen import frozen
from ..domain.ids import AccountId, UserId, is_system
from ..domain.merchants import Merchant, merchant_key
from ..domain.model import Record, RecordKey
from ..domain.users import User, user_key
from ..people import read_called
from ..storage import Store
from .reading import owners_of


class Direction(StrEnum):
    """Which way money goes, seen from one account."""

    IN = "in"
    OUT = "out"


class PartyKind(StrEnum):
    """What somebody on one side of a transfer or a hold is. A name alone could be anybody's."""

    USER = "user"
    MERCHANT = "merchant"
    WALLET = "wallet"


@frozen
class Party:
    """Somebody on one side. `username` and `user_id` are None for the wallet."""

    kind: PartyKind
    name: str
    username: str | None = None
    user_id: UserId | None = None


WALLET: Final = Party(PartyKind.WALLET, "system")
"""The other side of money that enters or leaves the wallet."""


async def parties_of(store: Store, account_ids: Iterable[AccountId]) -> dict[AccountId, Party]:
    """Whose each account is, in two reads. Accounts that nobody is known of are left out. Raises Unavailable."""
    return (await parties_with(store, account_ids, lambda _: ()))[0]


async def parties_with(
    store: Store,
    account_ids: Iterable[AccountId],
    beside: Callable[[Mapping[AccountId, UserId]], Iterable[RecordKey]],
) -> tuple[dict[AccountId, Party], Snapshot | None]:
    """As `parties_of`, and the records that `beside` names for the owners of the accounts, in the same two reads.

    None if nobody owns any of the accounts. Raises Unavailable.
    """
    asked = list(account_ids)
    found = {account_id: WALLET for account_id in asked if is_system(account_id)}
    owners = await owners_of(store, asked)
    if not owners:
        return found, None
    keys = {owner: (user_key(owner), merchant_key(owner)) for owner in owners.values()}
    wanted = (*(key for both in keys.values() for key in both), *beside(owners))
    snapshot = await store.fetch(ReadSet(records=wanted))
    people = {owner: _party(snapshot.record(user), snapshot.record(shop)) for owner, (user, shop) in keys.items()}
    known = ((account_id, people[owner]) for account_id, owner in owners.items())
    return found | {account_id: party for account_id, party in known if party is not None}, snapshot


async def payee_called(store: Store, username: str) -> tuple[Party, tuple[str, ...]] | None:
    """Who can be paid under a name, and the currencies that they can be paid in, sorted; None if nobody has the name.

    Raises Unavailable; RateLimited: too many look-ups by the sender of this request.
    """
    found = await read_called(store, username, user_key, merchant_key)
    if found is None:
        return None
    owner, snapshot = found
    party = _party(snapshot.record(user_key(owner)), snapshot.record(merchant_key(owner)))
    if party is None:
        return None
    return party, tuple(sorted(account.currency for account in snapshot.wallet(owner) if not account.is_closed))


def _party(user_record: Record | None, merchant_record: Record | None) -> Party | None:
    user, merchant = User.from_record(user_record), Merchant.from_record(merchant_record)
    if user is None:
        return None
    if merchant is None:
        return Party(PartyKind.USER, user.username, user.username, user.id)
    return Party(PartyKind.MERCHANT, merchant.name, user.username, user.id)
