"""Paying, and sending back."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ....domain.ids import AccountId, TransferId, parse_account_id, parse_transfer_id
from ....domain.money import check_amount
from ....verbs.attempts import check_reference
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import KEY_CHECK, given
from ..operations import mutation
from ..scalars import BigInt
from ..transfers import Transfer
from .answers import FromAccount, Moved
from .inputs import KEY, MoneyInput, Recipient


@input_type
class TransferInput:
    """A payment from one of your accounts."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    from_account_id: strawberry.ID = given("Your account that pays.", parse_account_id)
    to: Recipient = about("Whom to pay.")
    amount: MoneyInput = about("How much.")
    reference: str | None = given(
        "What it is for, at most 140 characters; the payee sees it.", check_reference, default=""
    )


@input_type
class ReverseTransferInput:
    """What to send back of a transfer that you received."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    transfer_id: strawberry.ID = given("The transfer; only its payee sends it back.", parse_transfer_id)
    minor_units: BigInt | None = given(
        "How much, in the minor unit of its currency; all that is left if absent.", check_amount, default=None
    )
    reference: str | None = given(
        "What it is for, at most 140 characters; the payer sees it.", check_reference, default=""
    )


@object_type
class TransferSuccess(Moved, FromAccount):
    """The money moved, now or when this key was first sent."""


@object_type
class ReverseTransferSuccess(Moved, FromAccount):
    """The money went back, now or when this key was first sent."""

    transfer: Transfer | None = about("The new transfer, which sends the money back; it names the old one.")
    credited: bool = about("Whether the first payer has it already; if not, it is certain and on its way.")


@object_type
class TransferMutations:
    """What moves money at once."""

    @mutation
    async def transfer(
        self, info: Info, given: Annotated[TransferInput, argument("The payment.", name="input")]
    ) -> TransferSuccess:
        """Pay somebody. Safe to repeat with the same idempotency key. At most five money mutations in a document."""
        user_id = await info.context.user_id()
        posted = await info.context.ledger.transfer(
            user_id,
            await info.context.key(given.idempotency_key),
            source=AccountId(given.from_account_id),
            to=given.to.as_to(),
            amount_minor=given.amount.minor_units,
            currency=given.amount.currency,
            reference=given.reference or "",
        )
        return TransferSuccess.of(posted, posted.result.debit_account_id, user_id)

    @mutation
    async def reverse_transfer(
        self, info: Info, given: Annotated[ReverseTransferInput, argument("What to send back.", name="input")]
    ) -> ReverseTransferSuccess:
        """Send what you received back, all of it or a part. A fee is not returned; a split goes back to the merchant.

        Refused with `NOT_PERMITTED` to its payer and `NOT_REVERSIBLE` for deposits, withdrawals and reversals.
        """
        user_id = await info.context.user_id()
        posted = await info.context.ledger.reverse_transfer(
            user_id,
            await info.context.key(given.idempotency_key),
            TransferId(given.transfer_id),
            amount_minor=given.minor_units,
            reference=given.reference or "",
        )
        return ReverseTransferSuccess.of(posted, posted.result.debit_account_id, user_id)
