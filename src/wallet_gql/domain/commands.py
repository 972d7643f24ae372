"""The input of each rule: one frozen command per verb, with everything that a rule needs besides the snapshot.

`actor` is a user id, or the name of an operator or job; `key` is the caller's idempotency key. Amounts are minor units.
The caller makes new ids, fresh for each attempt.
"""

from __future__ import annotations

from datetime import datetime

from .frozen import frozen
from .ids import AccountId, HoldId, TransferId, UserId
from .model import AccountStatus


@frozen
class OpenAccount:
    """Open the owner's account in a currency."""

    account_id: AccountId
    owner: UserId
    currency: str


@frozen
class Payee:
    """The payee: `name` as the caller wrote it, and the result of the look-up.

    `account_id` is None if there is no account to pay; `known` then says whether there is such a user.
    """

    name: str
    account_id: AccountId | None
    known: bool = True


@frozen
class MoveMoney:
    """Pay `amount_minor` from one's own account."""

    transfer_id: TransferId
    actor: str
    key: str
    source: AccountId
    payee: Payee
    amount_minor: int
    currency: str
    fee_minor: int = 0
    reference: str = ""


@frozen
class SplitPart:
    """One split of a payment: `basis_points` (1/10,000) of it, paid by a transfer of its own under a key of its own."""

    transfer_id: TransferId
    key: str
    payee: Payee
    basis_points: int


@frozen
class PayMerchant:
    """Pay a merchant from one's own account; `splits` pay others from the same amount, in the same commit."""

    transfer_id: TransferId
    actor: str
    key: str
    source: AccountId
    payee: Payee
    is_merchant: bool
    fee_basis_points: int
    amount_minor: int
    currency: str
    splits: tuple[SplitPart, ...] = ()
    reference: str = ""


@frozen
class MoveExternal:
    """Bring money in from outside (deposit) or send it out (withdraw), against the system account `counterpart`."""

    transfer_id: TransferId
    actor: str
    key: str
    account_id: AccountId
    counterpart: AccountId
    amount_minor: int
    currency: str
    reference: str = ""


@frozen
class PlaceHold:
    """Reserve money of one's own account for a payee until `expires_at`.

    `closer` is set for a hold that only its own flow closes, such as a withdrawal's; otherwise the payee's owner closes
    it.
    """

    hold_id: HoldId
    actor: str
    key: str
    source: AccountId
    payee: Payee
    amount_minor: int
    currency: str
    expires_at: datetime | None
    closer: str | None = None
    reference: str = ""


@frozen
class HoldForMerchant:
    """Reserve money for a merchant, and agree now on the fee of the capture."""

    hold: PlaceHold
    is_merchant: bool
    fee_basis_points: int


@frozen
class CaptureHold:
    """Capture a hold, all of it or `amount_minor`; the rest is released."""

    transfer_id: TransferId
    actor: str
    key: str
    hold_id: HoldId
    account_id: AccountId
    payee_account_id: AccountId
    amount_minor: int | None = None
    fee_basis_points: int = 0


@frozen
class VoidHold:
    """Release a hold's money to its payer."""

    actor: str
    key: str
    hold_id: HoldId
    account_id: AccountId


@frozen
class ExpireHolds:
    """Close the account's expired holds (the sweep's command)."""

    account_id: AccountId


@frozen
class ReverseTransfer:
    """Send a received transfer back to `target`: `amount_minor`, or all that has not been sent back yet.

    `limit_minor` is how much may be sent back in all, if that is not the transfer's own amount.
    """

    transfer_id: TransferId
    actor: str
    key: str
    original_id: TransferId
    source: AccountId
    target: AccountId
    amount_minor: int | None = None
    reference: str = ""
    limit_minor: int | None = None


@frozen
class SetAccountStatus:
    """Freeze, unfreeze or close an account."""

    actor: str
    account_id: AccountId
    status: AccountStatus
