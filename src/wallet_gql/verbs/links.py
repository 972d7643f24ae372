"""What belongs to a transfer and is not in it: its merchant, its top-up or withdrawal, what can be sent back of it."""

from __future__ import annotations

from ..domain import rules
from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.errors import InDoubt, Unavailable
from ..domain.ids import AccountId, slot_of
from ..domain.merchants import refundable_minor
from ..domain.model import Transfer, TransferKind
from ..domain.payments import PROVIDER, flow_id_of
from ..storage import Store
from .attempts import Means
from .keyed import find_receipt
from .lookups import terms_of


async def merchant_account_of(store: Store, transfer: Transfer) -> AccountId | None:
    """The account of the merchant that a payment, a capture or a split is for; None for all other kinds.

    The owner of a captured account need not be a merchant. Raises Unavailable.
    """
    if transfer.kind is TransferKind.SPLIT:
        return (await terms_of(store, transfer)).merchant_account_id
    return transfer.credit_account_id if transfer.kind in (TransferKind.PAYMENT, TransferKind.CAPTURE) else None


async def flow_of(store: Store, transfer: Transfer) -> str | None:
    """The id of the top-up or withdrawal that a transfer belongs to; None if it belongs to none.

    Also None if an older version wrote the transfer. Raises Unavailable.
    """
    if transfer.actor != PROVIDER:
        return None
    return flow_id_of(await find_receipt(store, transfer.slot, (PROVIDER, transfer.idempotency_key)))


async def reversible_minor(means: Means, own: AccountId, transfer: Transfer) -> int:
    """How much the owner of the account `own` can still send back, in minor units; 0 for all but the payee.

    The payee's home knows what was sent back, so it is asked there. Raises Unavailable.
    """
    if own != transfer.credit_account_id or not rules.is_reversible(transfer):
        return 0
    limit_minor = refundable_minor(transfer, await terms_of(means.store, transfer))

    def decide(snapshot: Snapshot) -> Decision[int]:
        return Decision(Changes(), rules.reversible_minor(snapshot, transfer, limit_minor))

    scope = Scope(slot_of(own), transfers=(transfer.id,))
    try:
        return (await means.store.execute(scope, decide, timeout_seconds=means.timeout_seconds)).result
    except InDoubt as error:  # it writes nothing, so asking again is safe
        raise Unavailable(str(error)) from error
