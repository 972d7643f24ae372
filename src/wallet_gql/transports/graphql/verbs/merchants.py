"""Becoming a merchant, paying one, refunding."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Final

import strawberry

from ....domain.errors import InvalidInput as DomainInvalidInput
from ....domain.errors import WalletError as DomainError
from ....domain.errors import reasons
from ....domain.ids import AccountId, TransferId, UserId, parse_account_id, parse_transfer_id
from ....domain.merchants import SPLITS_MAX, check_name, check_share
from ....domain.model import Hold as DomainHold
from ....domain.model import Transfer as DomainTransfer
from ....domain.money import check_amount
from ....verbs.attempts import check_reference
from ....verbs.holds import check_hold_seconds
from ....verbs.ledger import HOLD_SECONDS_MAX, Posted
from ....verbs.merchants import Paid, Split
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import KEY_CHECK, ByContext, given
from ..holds import Hold
from ..merchants import Merchant
from ..operations import mutation
from ..scalars import BigInt
from ..transfers import Transfer
from .answers import MadeEntries
from .inputs import KEY, MetadataPairInput, MoneyInput, Recipient, annotation_of, category_given, metadata_given

log = logging.getLogger(__name__)


URL_CHECK: Final = ByContext(lambda context, url: context.wallet.merchants.check_url(url))


def _check_sequence(sequence: int) -> None:
    if type(sequence) is not int:
        raise DomainInvalidInput("fromSequence", reasons.NUMBER())
    if sequence < 1:
        raise DomainInvalidInput("fromSequence", reasons.AT_LEAST(least=1))


@input_type
class RegisterMerchantInput:
    """What a merchant begins with."""

    name: str = given("The name that payers see, at most 80 characters.", check_name)
    webhook_url: str | None = given(
        "An https URL of a public server, which gets an event for each entry from now on.", URL_CHECK, default=None
    )


@input_type
class UpdateMerchantInput:
    """What to change; what is absent stays."""

    name: str | None = given("The name that payers see.", check_name, default=None)
    webhook_url: str | None = given(
        "Where events go from now on; also turns the webhook on again after it failed.", URL_CHECK, default=None
    )
    webhook: bool | None = strawberry.field(
        description="`false` turns the webhook off; a URL turns it on.", default=None
    )


@input_type
class ReplayEventsInput:
    """From where to tell events again."""

    account_id: strawberry.ID = given("Your account.", parse_account_id)
    from_sequence: BigInt = given("The first entry to tell again; 1 is the oldest.", _check_sequence)


@input_type
class SplitInput:
    """Somebody who shares in a payment."""

    to: Recipient = about("Who.")
    basis_points: int = given("Which part of the amount, in 1/10,000.", check_share)


@input_type
class HoldInput:
    """How long the merchant may wait before taking the money."""

    expires_in_seconds: int = given(f"1 to {HOLD_SECONDS_MAX}.", check_hold_seconds)


@input_type
class PayMerchantInput:
    """A payment to a merchant from one of your accounts."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    from_account_id: strawberry.ID = given("Your account that pays.", parse_account_id)
    merchant: str = about("The merchant's username.")
    amount: MoneyInput = about("How much in all.")
    splits: list[SplitInput] | None = strawberry.field(
        description=f"Who shares in it, {SPLITS_MAX} at most; the merchant has the rest, and pays the fee.",
        default=None,
    )
    hold: HoldInput | None = strawberry.field(
        description="If given the money is only reserved: the merchant takes it with `captureHold`. Not with `splits`.",
        default=None,
    )
    reference: str | None = given(
        "What it is for, at most 140 characters; the merchant sees it.", check_reference, default=""
    )
    category: str | None = category_given()
    metadata: list[MetadataPairInput] | None = metadata_given()


@input_type
class RefundPaymentInput:
    """What to refund of a payment that you received as merchant."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    payment_id: strawberry.ID = given("The payment: the transfer that you received.", parse_transfer_id)
    minor_units: BigInt | None = given(
        "How much, in the minor unit of its currency; all that is left if absent.", check_amount, default=None
    )
    reference: str | None = given(
        "What it is for, at most 140 characters; the payer sees it.", check_reference, default=""
    )


@object_type
class RegisterMerchantSuccess:
    """You are a merchant."""

    merchant: Merchant | None = about("You as merchant.")
    webhook_secret: str = about("What signs the events (Standard Webhooks). Told only now: keep it safe.")


@object_type
class UpdateMerchantSuccess:
    """It is changed."""

    merchant: Merchant | None = about("You as merchant.")


@object_type
class RotateWebhookSecretSuccess:
    """There is a new secret; for 24 hours the one before signs beside it."""

    merchant: Merchant | None = about("You as merchant.")
    webhook_secret: str = about("The new secret. Told only now: keep it safe.")


@object_type
class ReplayEventsSuccess:
    """The events will be told again, in order."""

    merchant: Merchant | None = about("You as merchant. Null if it could not be read: the replay has begun.")


@object_type
class PaymentSplits:
    """Those who share in a payment."""

    transfers: list[Transfer] = about("What each of them got, in the order of the input.")

    @classmethod
    def of(cls, splits: Sequence[DomainTransfer], viewer_id: UserId) -> PaymentSplits:
        """As the payer sees them."""
        return cls(transfers=[Transfer.of(split, viewer_id, split.debit_account_id) for split in splits])


@object_type
class PayMerchantSuccess(MadeEntries):
    """The money moved or is reserved, now or when this key was first sent."""

    payment: Transfer | None = about("The merchant's transfer; null if the money is only reserved.")
    splits: PaymentSplits | None = about("Who shares in it; null if nobody does, or if it could not be read.")
    hold: Hold | None = about("The hold, if the money is only reserved.")
    replayed: bool = about("Whether the key was used before: then nothing was done now.")
    credited: bool = about("Whether all payees have it already; if not, it is certain and on its way.")

    @strawberry.field
    async def from_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: the payment stands all the same."""
        return await own_account(info, self.viewer_id, self.account_id)

    @classmethod
    def of_payment(cls, paid: Paid, viewer_id: UserId) -> PayMerchantSuccess:
        """A payment at once."""
        posted = paid.payment
        return cls(
            payment=Transfer.of(posted.result, viewer_id, posted.result.debit_account_id),
            splits=PaymentSplits.of(paid.splits, viewer_id) if paid.splits else None,
            hold=None,
            replayed=posted.replayed,
            credited=posted.credited,
            account_id=posted.result.debit_account_id,
            viewer_id=viewer_id,
            moved=None if paid.splits is None else (posted.result, *paid.splits),
        )

    @classmethod
    def of_hold(cls, info: Info, placed: Posted[DomainHold], viewer_id: UserId) -> PayMerchantSuccess:
        """A payment that the merchant has still to take."""
        return cls(
            payment=None,
            splits=None,
            hold=Hold.of(placed.result, viewer_id, info.context.ledger.clock()),
            replayed=placed.replayed,
            credited=placed.credited,
            account_id=placed.result.account_id,
            viewer_id=viewer_id,
            moved=(),
        )


@object_type
class RefundPaymentSuccess(MadeEntries):
    """The money went back, now or when this key was first sent."""

    refund: Transfer | None = about("The new transfer, which sends the money back; it names the payment.")
    replayed: bool = about("Whether the key was used before: then nothing was done now.")
    credited: bool = about("Whether the payer has it already; if not, it is certain and on its way.")

    @strawberry.field
    async def from_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: the refund stands all the same."""
        return await own_account(info, self.viewer_id, self.account_id)

    @classmethod
    def of(cls, posted: Posted[DomainTransfer], viewer_id: UserId) -> RefundPaymentSuccess:
        """A refund as the merchant sees it."""
        return cls(
            refund=Transfer.of(posted.result, viewer_id, posted.result.debit_account_id),
            replayed=posted.replayed,
            credited=posted.credited,
            account_id=posted.result.debit_account_id,
            viewer_id=viewer_id,
            moved=(posted.result,),
        )


@object_type
class MerchantMutations:
    """What merchants and their customers do."""

    @mutation
    async def register_merchant(
        self, info: Info, given: Annotated[RegisterMerchantInput, argument("The merchant.", name="input")]
    ) -> RegisterMerchantSuccess:
        """Become a merchant, once. If the answer is lost `rotateWebhookSecret` makes a new secret."""
        user_id = await info.context.user_id()
        made = await info.context.wallet.merchants.register(user_id, given.name, given.webhook_url)
        return RegisterMerchantSuccess(merchant=Merchant.of(made.merchant), webhook_secret=made.secret)

    @mutation
    async def update_merchant(
        self, info: Info, given: Annotated[UpdateMerchantInput, argument("What to change.", name="input")]
    ) -> UpdateMerchantSuccess:
        """Change your name or webhook. Events that waited meanwhile are told now."""
        user_id = await info.context.user_id()
        merchants = info.context.wallet.merchants
        changed = await merchants.update(user_id, name=given.name, webhook_url=given.webhook_url, webhook=given.webhook)
        return UpdateMerchantSuccess(merchant=Merchant.of(changed))

    @mutation
    async def rotate_webhook_secret(self, info: Info) -> RotateWebhookSecretSuccess:
        """Make a new webhook secret. For 24 hours events are signed by both, so that none is lost while you change."""
        made = await info.context.wallet.merchants.rotate_secret(await info.context.user_id())
        return RotateWebhookSecretSuccess(merchant=Merchant.of(made.merchant), webhook_secret=made.secret)

    @mutation
    async def replay_events(
        self, info: Info, given: Annotated[ReplayEventsInput, argument("From where.", name="input")]
    ) -> ReplayEventsSuccess:
        """Tell the events of an account again, from an entry on. They have the same ids as before."""
        user_id = await info.context.user_id()
        account_id = parse_account_id(given.account_id)
        await info.context.wallet.webhooks.replay(user_id, account_id, given.from_sequence)
        try:
            found = await info.context.wallet.merchants.merchant(user_id)
        except DomainError as error:
            log.warning("a merchant could not be read after a replay: %s", error)
            found = None
        return ReplayEventsSuccess(merchant=Merchant.of(found) if found else None)

    @mutation
    async def pay_merchant(
        self, info: Info, given: Annotated[PayMerchantInput, argument("The payment.", name="input")]
    ) -> PayMerchantSuccess:
        """Pay a merchant, at once or by a hold; with splits all payees are paid in one commit, or none.

        Safe to repeat with the same idempotency key.
        """
        user_id = await info.context.user_id()
        merchants = info.context.wallet.merchants
        source = AccountId(given.from_account_id)
        amount_minor, currency = given.amount.minor_units, given.amount.currency
        if given.hold is None:
            paid = await merchants.pay(
                user_id,
                await info.context.key(given.idempotency_key),
                source=source,
                merchant=given.merchant,
                amount_minor=amount_minor,
                currency=currency,
                splits=[Split(one.to.as_to(), one.basis_points) for one in given.splits or ()],
                reference=given.reference or "",
                annotation=annotation_of(given.category, given.metadata),
            )
            return PayMerchantSuccess.of_payment(paid, user_id)
        if given.splits:
            raise DomainInvalidInput("splits", reasons.SPLITS_HOLD())
        if given.category or given.metadata:
            raise DomainInvalidInput("category" if given.category else "metadata", reasons.NOTES_HOLD())
        placed = await merchants.hold(
            user_id,
            await info.context.key(given.idempotency_key),
            source=source,
            merchant=given.merchant,
            amount_minor=amount_minor,
            currency=currency,
            expires_in_seconds=given.hold.expires_in_seconds,
            reference=given.reference or "",
        )
        return PayMerchantSuccess.of_hold(info, placed, user_id)

    @mutation
    async def refund_payment(
        self, info: Info, given: Annotated[RefundPaymentInput, argument("What to refund.", name="input")]
    ) -> RefundPaymentSuccess:
        """Refund a payment that you received, all of it or a part; refunds add up to at most its total, with splits.

        The fee is not returned. Who got a split sends it to you with `reverseTransfer`.
        """
        user_id = await info.context.user_id()
        posted = await info.context.wallet.merchants.refund(
            user_id,
            await info.context.key(given.idempotency_key),
            TransferId(given.payment_id),
            amount_minor=given.minor_units,
            reference=given.reference or "",
        )
        return RefundPaymentSuccess.of(posted, user_id)
