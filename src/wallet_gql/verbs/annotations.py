"""What the sides of a transfer note about it, each for itself: with the payment, or later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..domain.annotations import Annotation, Side, check_category, check_pairs
from ..domain.changes import Changes, ReadSet, Snapshot
from ..domain.errors import TransferNotFound
from ..domain.ids import AccountId, TransferId, UserId, is_id, slot_of
from ..domain.model import Record, Transfer
from ..records import change
from ..storage import Store
from .attempts import Means
from .keyed import Plan
from .lookups import header_of, own_side


def annotating(plan: Plan, annotation: Annotation, actor: str, source: AccountId, *moved: TransferId) -> Plan:
    """The plan of a payment by these transfers, which also writes what its payer notes about each.

    Without anything to note it is the same plan. An account of another slot cannot be the payer's: the rule refuses it.
    """
    if not annotation or slot_of(source) != plan.scope.home:
        return plan
    sides = [Side(source, transfer_id) for transfer_id in moved]
    noted = Changes(records=tuple(annotation.to_record(side, actor) for side in sides))

    def rule(snapshot: Snapshot) -> Changes:
        return plan.rule(snapshot) + noted

    return replace(
        plan, scope=replace(plan.scope, records=(*plan.scope.records, *(side.key for side in sides))), rule=rule
    )


async def annotate(
    means: Means,
    actor: UserId,
    transfer_id: TransferId,
    category: str | None,
    metadata: Iterable[tuple[str, str]] | None,
) -> tuple[Transfer, Side]:
    """Note something about a transfer that the actor paid or received. What is None stays as it is; empty removes it.

    The same again changes nothing.

    Raises:
        InvalidInput: a text is too long, or there are too many pairs. TransferNotFound.
        Unavailable, InDoubt: send it again.
    """
    if category is not None:
        check_category(category)
    pairs = None if metadata is None else check_pairs(metadata)
    header = await header_of(means.store, transfer_id) if is_id("trf", transfer_id) else None
    own = None if header is None else await own_side(means.store, actor, header)
    if header is None or own is None:
        raise TransferNotFound(transfer_id)
    side = Side(own, header.id)

    def make(record: Record | None) -> Record | None:
        before = Annotation.from_record(record)
        after = replace(
            before,
            category=before.category if category is None else category,
            metadata=before.metadata if pairs is None else pairs,
        )
        return None if after == before else after.to_record(side, actor)

    await change(means.store, side.key, make, timeout_seconds=means.timeout_seconds)
    return header, side


async def annotations_of(store: Store, sides: Iterable[Side]) -> dict[Side, Annotation]:
    """What the sides have noted, in one read. Raises Unavailable."""
    keys = {side: side.key for side in sides}
    if not keys:
        return {}
    found = await store.fetch(ReadSet(records=tuple(keys.values())))
    return {side: Annotation.from_record(found.record(key)) for side, key in keys.items()}
