"""What every money verb does before any rule runs: check the input's shape, make the attempt, ids and the scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

from ..domain.changes import Scope
from ..domain.ids import AccountId, TransferId, actor_slot, is_system, make_transfer_id, slot_of
from ..domain.money import check_amount, check_currency
from ..domain.spending import Limits
from ..domain.text import check_text
from ..idempotency import Attempt, check_key, fingerprint
from ..storage import Store

REFERENCE_MAX: Final = 140
"""The longest reference text of a transfer or hold, in characters."""


class Means(Protocol):
    """The store, the clock, the random source and the limits that every verb uses. `timeout_seconds` bounds a write."""

    @property
    def store(self) -> Store:
        """Where the books are."""
        ...

    @property
    def clock(self) -> Callable[[], datetime]:
        """The server's time."""
        ...

    @property
    def entropy(self) -> Callable[[], int]:
        """62 random bits."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """How long a write may take."""
        ...

    @property
    def spending_limits(self) -> Mapping[str, Limits]:
        """What users may spend, by currency. A currency that is not named has no limits."""
        ...


def milliseconds(at: datetime) -> int:
    """A time as whole milliseconds since 1970, as ids contain it."""
    return int(at.timestamp() * 1000)


def new_transfer_id(means: Means, slot: int, now: datetime) -> TransferId:
    """A new transfer id in the leading slot."""
    return make_transfer_id(slot, milliseconds(now), means.entropy())


def check_reference(reference: str) -> None:
    """Raise InvalidInput unless it is readable text of at most `REFERENCE_MAX` characters."""
    check_text(reference, "reference", length_max=REFERENCE_MAX)


def new_attempt(  # noqa: PLR0917 - always in this order
    actor: str,
    key: str,
    operation: str,
    values: Mapping[str, str | None],
    amount_minor: int | None = None,
    currency: str | None = None,
) -> Attempt:
    """The attempt at the actor's home, with the fingerprint of the input as sent. Checks key, money and reference.

    Raises:
        InvalidInput, InvalidAmount: something has the wrong shape.
    """
    if currency is not None:
        check_currency(currency)
    if amount_minor is not None:
        check_amount(amount_minor)
    check_reference(values.get("reference") or "")
    given = {**values, "amountMinor": amount_minor, "currency": currency}
    return Attempt(actor_slot(actor), actor, check_key(key), operation, fingerprint(operation, given))


def money_scope(
    attempt: Attempt, own: AccountId, other: AccountId | None, now: datetime, *, home: int | None = None
) -> Scope:
    """The scope of a money verb, led by `home` (the actor's if None).

    An account of another slot is left out of `own`: it cannot belong to the actor.
    """
    leader = attempt.slot if home is None else home
    credited = (other,) if other is not None and not is_system(other) and other != own else ()
    return Scope(
        home=leader,
        accounts=(own,) if slot_of(own) == leader else (),
        credits=credited,
        receipts=(attempt.name,),
        due_at=now,
    )
