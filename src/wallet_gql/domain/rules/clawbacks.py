"""Clawbacks: refunds and disputes, by which the provider takes a top-up's money back, and may return it.

A clawback takes from the *lots* of its top-up, which are credits not yet taken back. So each movement is a reversal
linked to what it reverses, and reversals never exceed that. The part that the customer no longer has is booked on the
receivable account: a customer's balance is never negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ..changes import Changes, Snapshot
from ..ids import AccountId, TransferId, system_account
from ..model import Transfer, TransferKind
from ..payments import PROVIDER, RECEIVABLE, Alarm, Step, effect_receipt, stripe_account
from ..topups import Clawback, ClawbackSeen, Lot, Piece, TopUp, TopUpState
from .checks import free_minor


def pieces_max(top_up: TopUp) -> int:
    """The most transfers that one clawback can need: one per lot, one of them split, and a rest that no lot covers."""
    known = max((len(clawback.pieces) for clawback in top_up.clawbacks), default=0)
    return max(len(top_up.lots) + 3, known)


def clawback_keys(top_up: TopUp, clawback_id: str) -> tuple[str, ...]:
    """Every (object, effect) that folding this clawback may use."""
    return tuple(f"{clawback_id}/{effect}/{i}" for effect in ("taken", "returned") for i in range(pieces_max(top_up)))


def linked(top_up: TopUp) -> tuple[TransferId, ...]:
    """The transfers that folding a clawback may reverse."""
    pieces = (piece.transfer_id for clawback in top_up.clawbacks for piece in clawback.pieces)
    return tuple(dict.fromkeys((*(lot.transfer_id for lot in top_up.lots), *pieces)))


def fold_clawback(
    snapshot: Snapshot, top_up: TopUp, seen: ClawbackSeen, now: datetime, transfer_ids: Sequence[TransferId]
) -> Step[TopUp]:
    """Fold a refund or dispute as the provider shows it: take the money once, or give it back once.

    The part that the customer no longer has goes to the receivable account. A frozen account is debited, too, because
    the money has already left. `seen` must have been read after the last write of `top_up`. The scope names the account
    with its due holds, `linked`, and the receipts of `clawback_keys`; `transfer_ids` are `pieces_max` new ones.
    """
    if top_up.state is not TopUpState.SUCCEEDED or seen.taken is None:
        return Step(top_up)
    if seen.currency != top_up.currency:
        return Step(top_up, alarm=Alarm(seen.id, f"it is in {seen.currency}, not {top_up.currency}", top_up.id))
    known = next((clawback for clawback in top_up.clawbacks if clawback.id == seen.id), None)
    if known is None and seen.taken:
        return _take(snapshot, top_up, seen, now, transfer_ids)
    if known is None:  # stored, so that a slow process that saw it before that does not take the money
        return Step(replace(top_up, clawbacks=(*top_up.clawbacks, Clawback(seen.id, (), returned=True))))
    if not known.returned and not seen.taken:
        return _give_back(snapshot, top_up, known, now, transfer_ids)
    wrong = _disagreement(known, seen)
    return Step(top_up, alarm=Alarm(seen.id, wrong, top_up.id) if wrong else None)


def _disagreement(known: Clawback, seen: ClawbackSeen) -> str | None:
    """Why a clawback cannot be folded: money was given back in part, or taken again; None if it can."""
    if not seen.taken:
        return None
    if known.returned:
        return f"it was given up before, and now {seen.gone_minor} minor units are gone again"
    if known.taken_minor != seen.gone_minor:
        return f"{known.taken_minor} minor units were taken for it, and {seen.gone_minor} are gone now"
    return None


def _take(
    snapshot: Snapshot, top_up: TopUp, seen: ClawbackSeen, now: datetime, transfer_ids: Sequence[TransferId]
) -> Step[TopUp]:
    if snapshot.receipt(PROVIDER, f"{seen.id}/taken/0") is not None:
        return Step(top_up)
    account = snapshot.account(top_up.account_id)
    assert account is not None, "a top-up that was credited has an account"
    available_minor, expired = free_minor(snapshot, account, now)
    shares = _shares(top_up.lots, seen.gone_minor, min(available_minor, seen.gone_minor))
    moved: list[Transfer] = []
    for i, (lot, amount_minor, receivable) in enumerate(shares):
        debit = system_account(RECEIVABLE, top_up.currency) if receivable else account.id
        key = f"{seen.id}/taken/{i}"
        moved.append(
            _moved(transfer_ids[i], lot, debit, stripe_account(top_up.currency), amount_minor, top_up, key, now)
        )
    pieces = tuple(Piece(one.id, share[1], share[2]) for one, share in zip(moved, shares, strict=True))
    used: dict[TransferId, int] = {}
    for lot, amount_minor, _ in shares:
        if lot is not None:
            used[lot] = used.get(lot, 0) + amount_minor
    lots = (Lot(lot.transfer_id, lot.left_minor - used.get(lot.transfer_id, 0)) for lot in top_up.lots)
    kept = tuple(lot for lot in lots if lot.left_minor)
    after = replace(top_up, lots=kept, clawbacks=(*top_up.clawbacks, Clawback(seen.id, pieces)))
    unlinked_minor = sum(amount_minor for lot, amount_minor, _ in shares if lot is None)
    reason = f"{unlinked_minor} minor units more were taken back than the top-up brought"
    alarm = Alarm(seen.id, reason, top_up.id) if unlinked_minor else None
    receipts = tuple(effect_receipt(one, "takeBack", top_up.id) for one in moved)
    return Step(after, Changes(transfers=tuple(moved), closed=expired, receipts=receipts), alarm)


def _shares(lots: Sequence[Lot], amount_minor: int, own_minor: int) -> list[tuple[TransferId | None, int, bool]]:
    """What a clawback takes from each lot, as (lot, amount, receivable): first what the customer has, then the rest."""
    shares: list[tuple[TransferId | None, int, bool]] = []
    owed_minor = amount_minor - own_minor
    for lot in lots:
        own = min(lot.left_minor, own_minor)
        owed = min(lot.left_minor - own, owed_minor)
        shares += [(lot.transfer_id, own, False)] if own else []
        shares += [(lot.transfer_id, owed, True)] if owed else []
        own_minor, owed_minor = own_minor - own, owed_minor - owed
    shares += [(None, own_minor, False)] if own_minor else []
    shares += [(None, owed_minor, True)] if owed_minor else []
    return shares


def _give_back(
    snapshot: Snapshot, top_up: TopUp, clawback: Clawback, now: datetime, transfer_ids: Sequence[TransferId]
) -> Step[TopUp]:
    if snapshot.receipt(PROVIDER, f"{clawback.id}/returned/0") is not None:
        return Step(top_up)
    moved: list[Transfer] = []
    for i, piece in enumerate(clawback.pieces):
        credit = system_account(RECEIVABLE, top_up.currency) if piece.receivable else top_up.account_id
        debit = stripe_account(top_up.currency)
        key = f"{clawback.id}/returned/{i}"
        moved.append(_moved(transfer_ids[i], piece.transfer_id, debit, credit, piece.amount_minor, top_up, key, now))
    lots = (*top_up.lots, *(Lot(one.id, one.amount_minor) for one in moved))
    clawbacks = tuple(replace(one, returned=True) if one.id == clawback.id else one for one in top_up.clawbacks)
    receipts = tuple(effect_receipt(one, "giveBack", top_up.id) for one in moved)
    return Step(replace(top_up, lots=lots, clawbacks=clawbacks), Changes(transfers=tuple(moved), receipts=receipts))


def _moved(  # noqa: PLR0917 - two callers, right above
    transfer_id: TransferId,
    reverses: TransferId | None,
    debit: AccountId,
    credit: AccountId,
    amount_minor: int,
    top_up: TopUp,
    key: str,
    now: datetime,
) -> Transfer:
    return Transfer(
        id=transfer_id,
        kind=TransferKind.WITHDRAWAL if reverses is None else TransferKind.REVERSAL,
        debit_account_id=debit,
        credit_account_id=credit,
        amount_minor=amount_minor,
        currency=top_up.currency,
        at=now,
        actor=PROVIDER,
        idempotency_key=key,
        reverses=reverses,
    )
