"""What every money command has in common before any rule runs: the input's shape, the attempt, the scope."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from ..domain.changes import Scope
from ..domain.errors import InvalidInput
from ..domain.ids import AccountId, is_system, slot_of
from ..domain.money import check_amount, check_currency
from ..idempotency import Attempt, check_key, fingerprint

REFERENCE_MAX: Final = 140
"""The longest reference text of a transfer or hold, in characters."""


def milliseconds(at: datetime) -> int:
    """A time as whole milliseconds since 1970, as ids carry it."""
    return int(at.timestamp() * 1000)


def check_reference(reference: str) -> None:
    """Raise InvalidInput unless it is short and printable."""
    if len(reference) > REFERENCE_MAX or not (reference.isprintable() or reference == ""):
        raise InvalidInput("reference", f"at most {REFERENCE_MAX} printable characters")


def check_money(amount_minor: int, currency: str, reference: str) -> None:
    """Raise InvalidInput or InvalidAmount unless amount, currency and reference have the right shape."""
    check_currency(currency)
    check_amount(amount_minor)
    check_reference(reference)


def new_attempt(  # noqa: PLR0917 - always in this order
    actor: str,
    key: str,
    operation: str,
    slot: int,
    amount_minor: int | None,
    currency: str | None,
    values: Mapping[str, str | None],
) -> Attempt:
    """The attempt, its input fingerprinted as sent. Raises InvalidInput, InvalidAmount."""
    check_key(key)
    if amount_minor is not None:
        check_amount(amount_minor)
    given = {**values, "amountMinor": amount_minor, "currency": currency}
    return Attempt(slot, actor, key, operation, fingerprint(operation, given))


def money_scope(attempt: Attempt, own: AccountId, other: AccountId | None, now: datetime) -> Scope:
    """The scope of a money command: an own account of another slot is left out, for it cannot be the actor's."""
    inside = slot_of(own) == attempt.slot
    credited = (other,) if other is not None and not is_system(other) and other != own else ()
    return Scope(
        home=attempt.slot,
        accounts=(own,) if inside else (),
        credits=credited,
        receipts=(attempt.name,),
        due_at=now,
    )
