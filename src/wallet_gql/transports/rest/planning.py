"""REST for what comes before a payment, `/v1/currency`, `/v1/payee` and `/v1/preview`, and for several at once."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from ...domain.errors import (
    Category,
    InDoubt,
    InvalidAmount,
    InvalidInput,
    PayeeNotFound,
    Rejected,
    WalletError,
    reasons,
)
from ...domain.ids import AccountId, UserId
from ...domain.model import Transfer
from ...domain.money import EXPONENTS
from ...idempotency import key_of
from ...verbs import preview as verbs
from ...verbs.attempts import check_reference
from ...verbs.batches import BATCH_MAX, BatchItem, BatchMode, Outcome
from ...verbs.batches import transfer_batch as pay_all
from ...verbs.ledger import Posted, To
from ...verbs.parties import payee_called
from ..http.logs import log_answer
from ..http.record import current
from . import models as told
from .models import PartyKindName, Payment
from .routing import Call, Operation, Reply
from .values import BY_NAME, AccountIdText, Given, GivenMoney, KeyText, Money, Text, Told, one_of
from .views import View, refusal_view

log = logging.getLogger(__name__)

# What comes in


class PayeeQuery(Given):
    """Whose name it is."""

    username: Text = Field(description="The username, in any case; no e-mail address.")


class PreviewRecipient(Given):
    """Whom a previewed payment is to: exactly one of these."""

    model_config = ConfigDict(json_schema_extra=one_of)

    account_id: AccountIdText = Field("", description="An account by its id, as in a transfer.")
    username: Text = Field("", description="A user, as in a transfer.")
    merchant: Text = Field("", description="A merchant by username, as in a payment.")


class PreviewPayment(Given):
    """A payment that is not made yet."""

    from_account_id: AccountIdText = Field(description="Your account that would pay.")
    to: PreviewRecipient = Field(description="Whom it would pay.")
    amount: GivenMoney = Field(description="How much.")


class BatchPayment(Payment):
    """One payment of a batch."""

    idempotency_key: KeyText = Field(description="A key of its own. Send it again with every retry.")


class TransferBatch(Given):
    """Several payments, each under an idempotency key of its own."""

    mode: Annotated[BatchMode, BY_NAME] = Field(
        description="`ATOMIC`: all or none. `INDEPENDENT`: each for itself, some may be refused while others move."
    )
    items: Annotated[list[BatchPayment], Field(min_length=1, max_length=BATCH_MAX)] = Field(description="The payments.")

    def sizes(self) -> dict[str, int]:
        """See `Given.sizes`."""
        return {"results": len(self.items)}

    def payments(self) -> int:
        """See `Given.payments`."""
        return len(self.items)


# What goes out


class Currency(Told):
    """A currency that an account may hold."""

    code: str = Field(description="Its ISO 4217 code.")
    exponent: int = Field(description="How many decimal digits its minor unit has: EUR 2, JPY 0, KWD 3.")


class Currencies(Told):
    """All currencies, by code."""

    currencies: list[Currency]


class Payee(Told):
    """Whom a name stands for, to be shown before paying."""

    kind: PartyKindName = Field(description="What it is. Show it beside `name`.")
    name: str = Field(description="What to show: a merchant's name, or the username.")
    username: str = Field(description="Pay under this name.")
    currencies: list[str] = Field(description="The currencies that can be paid to it now, sorted.")


class Preview(Told):
    """What a payment would do if it were sent now. Nothing is reserved: the payment itself may come out otherwise."""

    refusal: told.Refusal | None = Field(
        description="Why it would be refused, and the amounts are null; null if it would go through."
    )
    amount: Money | None = Field(description="What would leave your account.")
    fee: Money | None = Field(description="The part of `amount` that the wallet would keep.")
    received: Money | None = Field(description="What the payee would get.")
    remaining: Money | None = Field(description="What you could still spend.")


class BatchResult(Told):
    """What became of one payment of a batch: it has a transfer or a refusal."""

    transfer: told.Transfer | None
    credited: bool = Field(description="Whether the payee has it already; if not, but moved, it is on its way.")
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")
    refusal: told.Refusal | None = Field(
        description="Why it did not move; for `IN_DOUBT` unknown: send the same again with the same keys."
    )


class BatchAnswer(Told):
    """The batch was decided: look at each result. It is no success of every payment."""

    complete: bool = Field(description="Whether every payment moved, now or when its key was first sent.")
    results: list[BatchResult] = Field(description="What became of the payments, in their order.")


async def currencies(call: Call, _: None) -> Reply:
    """All currencies that an account may hold, by code. Needs no session."""
    del call
    return Reply(Currencies(currencies=[Currency(code=code, exponent=EXPONENTS[code]) for code in sorted(EXPONENTS)]))


async def payee(call: Call, given: PayeeQuery) -> Reply:
    """Whom a payment to this name would pay, and in which currencies."""
    called = await payee_called(call.wallet.store, given.username)
    if called is None:
        raise PayeeNotFound(given.username[:40])
    party, codes = called
    return Reply(Payee(kind=party.kind, name=party.name, username=party.username or "", currencies=list(codes)))


async def preview(call: Call, given: PreviewPayment) -> Reply:
    """What a payment would do if it were sent now: the fee, what remains, or why it would be refused."""
    found = await _preview(call, await call.user_id(), given)
    if isinstance(found, InvalidInput | InvalidAmount):
        raise found
    if isinstance(found, Rejected):
        return Reply(Preview(refusal=refusal_view(found), amount=None, fee=None, received=None, remaining=None))
    amounts = found.amount_minor, found.fee_minor, found.amount_minor - found.fee_minor, found.remaining_minor
    amount, fee, received, remaining = (Money.of(minor, found.currency) for minor in amounts)
    return Reply(Preview(refusal=None, amount=amount, fee=fee, received=received, remaining=remaining))


async def _preview(call: Call, user_id: UserId, given: PreviewPayment) -> verbs.Preview | Rejected:
    source, to = AccountId(given.from_account_id), given.to
    minor, currency = given.amount.minor_units, given.amount.currency
    if to.model_fields_set == {"merchant"}:
        return await call.wallet.merchants.preview(
            user_id, source=source, merchant=to.merchant, amount_minor=minor, currency=currency
        )
    if len(to.model_fields_set) != 1:
        raise InvalidInput("to", reasons.ONE_RECIPIENT())
    whom = To(AccountId(to.account_id)) if "account_id" in to.model_fields_set else To(username=to.username)
    return await call.ledger.preview_transfer(user_id, source=source, to=whom, amount_minor=minor, currency=currency)


async def transfer_batch(call: Call, given: TransferBatch) -> Reply:
    """Pay several people. Safe to repeat with the same keys, which are in the body: the header is not used.

    A payment whose key was used before counts as what it was. To the rate limits each one is a payment.
    """
    user_id = await call.user_id()
    items = [await _item(call, user_id, place, one) for place, one in enumerate(given.items)]
    outcomes = await pay_all(call.ledger, user_id, items, given.mode)
    moved = [one for one in outcomes if isinstance(one, Posted)]
    view = await View.after(call.wallet, user_id, [one.result for one in moved])
    results = [_result(one, view) for one in outcomes]
    return Reply(BatchAnswer(complete=len(moved) == len(results), results=results))


async def _item(call: Call, user_id: UserId, place: int, given: BatchPayment) -> BatchItem:
    try:
        key = await key_of(call.wallet.store, user_id, given.idempotency_key)
        to = given.to.to()
        check_reference(given.reference)
        noted = given.annotation().checked()
    except InvalidInput as error:
        raise InvalidInput.of([one.at(("items", str(place), *one.path)) for one in error.problems]) from error
    amount = given.amount
    money = amount.minor_units, amount.currency
    return BatchItem(key, AccountId(given.from_account_id), to, *money, given.reference, noted)


def _result(outcome: Outcome, view: View) -> BatchResult:
    """An outcome as it is told. An error of ours becomes an unknown outcome: other payments have their answers."""
    if not isinstance(outcome, WalletError):
        posted: Posted[Transfer] = outcome
        transfer = view.transfer(posted.result, paid=True)
        return BatchResult(transfer=transfer, credited=posted.credited, replayed=posted.replayed, refusal=None)
    if outcome.category is Category.INTERNAL:
        log.error("unexpected failure of a payment of a batch", exc_info=outcome)
        outcome = InDoubt()
    current().fail(outcome.code, verb="transferBatch")
    log_answer("transferBatch", outcome)
    return BatchResult(transfer=None, credited=False, replayed=False, refusal=refusal_view(outcome))


_OK: Final = HTTPStatus.OK

OPERATIONS: Final = (
    Operation("GET", "/v1/currency", currencies, {_OK: Currencies}),
    Operation("GET", "/v1/payee", payee, {_OK: Payee}, query=PayeeQuery),
    Operation("POST", "/v1/preview", preview, {_OK: Preview}, PreviewPayment),
    Operation("POST", "/v1/transfer/batch", transfer_batch, {_OK: BatchAnswer}, TransferBatch, has_keys_in_body=True),
)
