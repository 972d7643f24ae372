"""Pay a merchant, at once or by a hold, and split the payment.

A payment to a merchant is a transfer of kind `payment`; the fee is deducted from the merchant's part. A *split* payment
also pays others in the same commit, by transfers of kind `split`; the merchant of record gets the rest. The merchant
refunds up to the total, from the merchant's own account; the payee of a split returns it to the merchant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from ..changes import Changes, Snapshot, Trial
from ..commands import CaptureHold, HoldForMerchant, MoveMoney, Payee, PayMerchant, ReverseTransfer, SplitPart
from ..errors import InvalidInput, NotAMerchant, reasons
from ..merchants import (
    WHOLE_BASIS_POINTS,
    Terms,
    hold_terms,
    terms_key,
    terms_record,
)
from ..model import Record, TransferKind
from . import holds, transfers
from .checks import fee_minor as fee_of

_PAID: Final = (TransferKind.PAYMENT, TransferKind.CAPTURE)
"""The kinds of transfers that a merchant refunds."""


def share_out(amount_minor: int, splits: Sequence[int]) -> tuple[int, ...]:
    """The parts of a split payment in minor units: the merchant's first, then one for each split.

    Each share is rounded down. The units that are left over go one each to the largest shares that lost something by
    the rounding; among equal shares, to the first. So the parts sum to the amount, no part is off by a whole unit, and
    the same input gives the same parts.
    """
    shares = [WHOLE_BASIS_POINTS - sum(splits), *splits]
    parts = [amount_minor * share // WHOLE_BASIS_POINTS for share in shares]
    left_over = amount_minor - sum(parts)
    rounded = [place for place, share in enumerate(shares) if amount_minor * share % WHOLE_BASIS_POINTS]
    for place in sorted(rounded, key=lambda place: -shares[place])[:left_over]:
        parts[place] += 1
    return tuple(parts)


def pay_merchant(snapshot: Snapshot, command: PayMerchant, now: datetime) -> Changes:
    """Pay a merchant and the payees of the splits in one commit: first the merchant's transfer, then the splits.

    Raises:
        NotAMerchant: the payee is not a merchant.
        InvalidInput: a part would be zero, the fee would take the merchant's part, or the merchant is in the splits.
        Rejected: as by `rules.transfer`, for the whole amount and for each payee.
    """
    _check_merchant(command.payee, is_merchant=command.is_merchant)
    parts = share_out(command.amount_minor, [split.basis_points for split in command.splits])
    fee_minor = fee_of(command.amount_minor, command.fee_basis_points)
    transfers.transfer(snapshot, _whole(command), now)
    if fee_minor >= parts[0] or not all(parts):
        raise InvalidInput("splits", reasons.SPLITS_PARTS())
    if any(split.payee.account_id == command.payee.account_id for split in command.splits):
        raise InvalidInput("splits", reasons.SPLITS_MERCHANT())
    first = transfers.transfer(snapshot, replace(_whole(command), amount_minor=parts[0], fee_minor=fee_minor), now)
    changes = _as(first, TransferKind.PAYMENT)
    if not command.splits:
        return changes
    trial = Trial(snapshot)
    trial.post(changes)
    for split, part_minor in zip(command.splits, parts[1:], strict=True):
        changed = _as(transfers.transfer(trial.snapshot, _split(command, split, part_minor), now), TransferKind.SPLIT)
        trial.post(changed)
        changes += changed
    return changes + Changes(records=_terms(command))


def place_hold(snapshot: Snapshot, command: HoldForMerchant, now: datetime) -> Changes:
    """Reserve money for a merchant, and agree on the fee of the capture.

    Raises:
        NotAMerchant: the payee is not a merchant.
        Rejected: as by `rules.place_hold`.
    """
    _check_merchant(command.hold.payee, is_merchant=command.is_merchant)
    agreed = hold_terms(command.hold.hold_id, command.fee_basis_points)
    return holds.place_hold(snapshot, command.hold, now) + Changes(records=(agreed,))


def refund(snapshot: Snapshot, command: ReverseTransfer, now: datetime) -> Changes:
    """Refund a payment. Raises as `rules.reverse_transfer`, and NotReversible for other kinds of transfers."""
    return transfers.reverse_transfer(snapshot, command, now, kinds=_PAID)


def capture_hold(snapshot: Snapshot, command: CaptureHold, now: datetime) -> Changes:
    """Capture a hold with the fee agreed when it was placed. Raises as `rules.capture_hold`."""
    agreed = Terms.from_record(snapshot.record(terms_key(command.hold_id))).fee_basis_points
    return holds.capture_hold(snapshot, command if agreed is None else replace(command, fee_basis_points=agreed), now)


def _check_merchant(payee: Payee, *, is_merchant: bool) -> None:
    if payee.known and not is_merchant:
        raise NotAMerchant(payee.name)


def _whole(command: PayMerchant) -> MoveMoney:
    return MoveMoney(
        command.transfer_id,
        command.actor,
        command.key,
        command.source,
        command.payee,
        command.amount_minor,
        command.currency,
        reference=command.reference,
    )


def _split(command: PayMerchant, split: SplitPart, part_minor: int) -> MoveMoney:
    whole = _whole(command)
    return replace(whole, transfer_id=split.transfer_id, key=split.key, payee=split.payee, amount_minor=part_minor)


def _as(changes: Changes, kind: TransferKind) -> Changes:
    return replace(changes, transfers=tuple(replace(moved, kind=kind) for moved in changes.transfers))


def _terms(command: PayMerchant) -> tuple[Record, ...]:
    assert command.payee.account_id is not None
    account = command.payee.account_id
    split_ids = " ".join(split.transfer_id for split in command.splits)
    total = terms_record(terms_key(command.transfer_id), {"total_minor": command.amount_minor, "split_ids": split_ids})
    linked = {"payment_id": command.transfer_id, "merchant_account_id": account}
    return (total, *(terms_record(terms_key(split.transfer_id), linked) for split in command.splits))
