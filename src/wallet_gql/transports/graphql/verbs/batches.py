"""Several payments at once."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Final

import strawberry

from ....domain import errors as domain
from ....domain.ids import AccountId, UserId
from ....verbs.batches import BATCH_MAX, BatchItem, BatchMode, Outcome, transfer_batch
from ...catalogue.errors import INTERNAL, PROBLEMS_MAX
from ...catalogue.operations import BATCH_ITEM
from ...http.logs import log_answer
from ...http.record import current
from ..context import Context, Info
from ..describe import about, argument, enum_type, input_type, object_type
from ..errors import (
    InDoubt,
    Refusal,
    as_data,
)
from ..given import as_placed, check_given, own
from ..operations import error_types, list_of, mutation, union
from .inputs import annotation_of
from .transfers import TransferInput, TransferSuccess

log = logging.getLogger(__name__)

enum_type(
    BatchMode,
    "What one refused item means for the others.",
    {
        "ATOMIC": "All or none: the refused item gets its error, the others `BatchAborted`, and nothing moves. All "
        "items pay from your accounts, in one commit.",
        "INDEPENDENT": "Each item for itself: some may be refused while others move. The order is not fixed.",
    },
)


@input_type
class TransferBatchInput:
    """Several payments, each under an idempotency key of its own."""

    mode: BatchMode = about("What one refused item means for the others.")
    items: list[TransferInput] = own(f"The payments, 1 to {BATCH_MAX}.")


_FAILURES: Final = error_types(BATCH_ITEM)
TransferBatchItemResult: Final = union(
    "TransferBatchItemResult", (TransferSuccess, *_FAILURES), "What became of one item of a batch."
)


@object_type
class TransferBatchSuccess:
    """The batch was decided: look at each result. It is no success of every item."""

    complete: bool = about("Whether every item moved, now or when its key was first sent.")
    results: list[Any] = strawberry.field(
        description="What became of the items, in their order.", graphql_type=list_of(TransferBatchItemResult)
    )


@object_type
class BatchMutations:
    """What moves money to several payees at once."""

    @mutation
    async def transfer_batch(
        self, info: Info, given: Annotated[TransferBatchInput, argument("The payments.", name="input")]
    ) -> TransferBatchSuccess:
        """Pay several people. Safe to repeat with the same keys.

        An item whose key was used before counts as what it was. Malformed items refuse an ATOMIC batch as a whole, as
        `InvalidInput` with paths such as `["items", "2", "reference"]`; no key is used up. One money mutation of a
        document; to the rate limits each item is a payment.
        """
        user_id = await info.context.user_id()
        if len(given.items) > BATCH_MAX:
            raise domain.InvalidInput("items", domain.reasons.BATCH_SIZE(least=1, most=BATCH_MAX))
        items = [await _item(info.context, place, item) for place, item in enumerate(given.items)]
        problems = [one for item in items if isinstance(item, domain.InvalidInput) for one in item.problems]
        if problems and given.mode is BatchMode.ATOMIC:
            raise domain.InvalidInput.of(problems[:PROBLEMS_MAX])
        sound = [item for item in items if isinstance(item, BatchItem)]
        paid = iter(await transfer_batch(info.context.ledger, user_id, sound, given.mode) if sound or not items else ())
        outcomes = [next(paid) if isinstance(item, BatchItem) else item for item in items]
        results = [_result(_placed(outcome, given, place), user_id) for place, outcome in enumerate(outcomes)]
        complete = all(isinstance(result, TransferSuccess) for result in results)
        return TransferBatchSuccess(complete=complete, results=results)


async def _item(context: Context, place: int, given: TransferInput) -> BatchItem | domain.InvalidInput:
    """The item, or all that is wrong with it."""
    try:
        await check_given(context, given, ("items", str(place)))
    except domain.InvalidInput as error:
        return error
    return BatchItem(
        key=await context.key(given.idempotency_key),
        source=AccountId(given.from_account_id),
        to=given.to.as_to(),
        amount_minor=given.amount.minor_units,
        currency=given.amount.currency,
        reference=given.reference or "",
        annotation=annotation_of(given.category, given.metadata),
    )


def _placed(outcome: Outcome, given: TransferBatchInput, place: int) -> Outcome:
    """The outcome of an item; what is wrong with the item has its path in the batch."""
    if isinstance(outcome, domain.InvalidInput | domain.InvalidAmount):
        return as_placed(outcome, given.items[place], ("items", str(place)))
    return outcome


def _result(outcome: Outcome, viewer_id: UserId) -> Any:
    """An item's outcome as data. An error of ours becomes an unknown outcome: other items have their answers."""
    if not isinstance(outcome, domain.WalletError):
        return TransferSuccess.of(outcome, outcome.result.debit_account_id, viewer_id)
    if isinstance(outcome, domain.Rejected | domain.Unavailable | domain.InDoubt):
        current().fail(outcome.code, verb="transferBatch")
        log_answer("transferBatch", outcome)
        made = as_data(outcome)
        return made if isinstance(made, _FAILURES) else Refusal.of(outcome)
    current().fail(INTERNAL.name, verb="transferBatch")
    log.error("unexpected failure of an item of a batch", exc_info=outcome)
    return InDoubt.of(domain.InDoubt())
