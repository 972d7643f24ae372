"""Paying, and sending back."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ....domain.annotations import CATEGORY_MAX, PAIRS_MAX, check_category
from ....domain.ids import AccountId, TransferId, parse_account_id, parse_transfer_id
from ....domain.money import check_amount
from ....verbs.annotations import annotate
from ....verbs.attempts import check_reference
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import KEY_CHECK, given
from ..operations import mutation
from ..scalars import BigInt
from ..transfers import Transfer
from .answers import FromAccount, Moved
from .inputs import (
    KEY,
    MetadataPairInput,
    MoneyInput,
    Recipient,
    annotation_of,
    category_given,
    metadata_given,
    pairs_of,
)


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
    category: str | None = category_given()
    metadata: list[MetadataPairInput] | None = metadata_given()


@input_type
class AnnotateTransferInput:
    """What to note about a transfer. What is null or absent stays as it is."""

    transfer_id: strawberry.ID = given("The transfer, which you paid or received.", parse_transfer_id)
    category: str | None = given(
        f"What you file it under, at most {CATEGORY_MAX} characters; empty for nothing.", check_category, default=None
    )
    metadata: list[MetadataPairInput] | None = strawberry.field(
        description=f"All that you note besides, at most {PAIRS_MAX} pairs; an empty list for nothing.", default=None
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
class AnnotateTransferSuccess:
    """It is noted."""

    transfer: Transfer | None = about("The transfer with what you have noted.")


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
            annotation=annotation_of(given.category, given.metadata),
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

    @mutation
    async def annotate_transfer(
        self, info: Info, given: Annotated[AnnotateTransferInput, argument("What to note.", name="input")]
    ) -> AnnotateTransferSuccess:
        """Note something about a transfer that you paid or received. Only you see it; the other side has its own notes.

        Of two that come at once the second one counts, field by field. The same again changes nothing, so send it again
        if the answer is lost.
        """
        user_id, ledger = await info.context.user_id(), info.context.ledger
        pairs = pairs_of(given.metadata)
        found, side = await annotate(ledger, user_id, TransferId(given.transfer_id), given.category, pairs)
        return AnnotateTransferSuccess(transfer=Transfer.of(found, user_id, side.account_id))
