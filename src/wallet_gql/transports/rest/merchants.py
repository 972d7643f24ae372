"""REST for merchants: `/v1/merchant` and `/v1/payment`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from ...domain import merchants as domain
from ...domain.errors import NotAMerchant, TransferNotFound, WalletError
from ...domain.ids import AccountId, TransferId, UserId, is_id
from ...verbs.merchants import Paid, Split
from .merchant_models import (
    DeadLetter,
    DeadLetters,
    Delivery,
    HoldForMerchant,
    LettersQuery,
    Merchant,
    MerchantQuery,
    MerchantSecret,
    PaymentAnswer,
    PayMerchant,
    Position,
    PublicMerchant,
    RegisterMerchant,
    ReplayEvents,
    UpdateMerchant,
)
from .models import (
    HoldAnswer,
    Posted,
    Reverse,
    Transfer,
)
from .routing import Call, Operation, Reply, keyed_reply
from .views import View, held_view, posted_view

log = logging.getLogger(__name__)

CREATED: Final = HTTPStatus.CREATED
OK: Final = HTTPStatus.OK


async def register_merchant(call: Call, given: RegisterMerchant) -> Reply:
    """Become a merchant, once. If the answer is lost make a new secret."""
    made = await call.wallet.merchants.register(await call.user_id(), given.name, given.webhook_url)
    body = MerchantSecret(merchant=await _view(call, made.merchant), webhook_secret=made.secret)
    return Reply(body, CREATED, {"Location": "/v1/merchant"})


async def read_merchant(call: Call, _: None) -> Reply:
    """You as merchant, and how far your webhook has been told."""
    return Reply(await _view(call, await _own(call)))


async def find_merchant(call: Call, given: MerchantQuery) -> Reply:
    """What everybody may know of a merchant."""
    found = await call.wallet.merchants.find(given.username)
    if found is None:
        raise NotAMerchant(given.username[:40])
    return Reply(PublicMerchant(username=given.username.lower(), name=found.name))


async def update_merchant(call: Call, given: UpdateMerchant) -> Reply:
    """Change your name or webhook. Events that waited meanwhile are told now."""
    changes = {"name": given.name, "webhook_url": given.webhook_url}
    changed = await call.wallet.merchants.update(await call.user_id(), **changes, webhook=given.webhook)
    return Reply(await _view(call, changed))


async def rotate_webhook_secret(call: Call, _: None) -> Reply:
    """Make a new webhook secret. For 24 hours events are signed by both."""
    made = await call.wallet.merchants.rotate_secret(await call.user_id())
    return Reply(MerchantSecret(merchant=await _view(call, made.merchant), webhook_secret=made.secret))


async def replay_events(call: Call, given: ReplayEvents) -> Reply:
    """Tell the events of an account again, from an entry on. They have the same ids as before."""
    user_id, account_id = await call.user_id(), AccountId(given.account_id)
    told = await call.wallet.webhooks.replay(user_id, account_id, given.from_sequence)
    return Reply(_delivery(told))


async def list_dead_letters(call: Call, given: LettersQuery) -> Reply:
    """Events that were given up, account by account, newest first."""
    merchant_id = (await _own(call)).id
    page = await call.wallet.webhooks.dead_letters(
        merchant_id, after=given.after or "", limit=given.first, backward=given.backward
    )
    listed = given.turned(page.items)
    letters = [
        DeadLetter(
            account_id=one.account_id,
            sequence=str(one.sequence),
            id=one.event_id,
            transfer_id=one.transfer_id,
            error=one.error,
            created_at=one.at,
        )
        for one in listed
    ]
    return Reply(DeadLetters(dead_letters=letters, next=listed[-1].id if page.has_more else None))


async def pay_merchant(call: Call, given: PayMerchant) -> Reply:
    """Pay a merchant; with splits all payees are paid in one commit, or none."""
    user_id = await call.user_id()
    paid = await call.wallet.merchants.pay(
        user_id,
        await call.key(),
        source=AccountId(given.from_account_id),
        merchant=given.merchant,
        amount_minor=given.amount.minor_units,
        currency=given.amount.currency,
        splits=[Split(one.to.to(), one.basis_points) for one in given.splits],
        reference=given.reference,
        annotation=given.annotation(),
    )
    made = await posted_view(call.wallet, user_id, paid.payment, paid=True)
    splits = await _splits(call, user_id, paid)
    body = PaymentAnswer(payment=made.transfer, splits=splits, credited=made.credited, replayed=made.replayed)
    return keyed_reply(body, CREATED, {"Location": f"/v1/transfer/{made.transfer.id}"}, replayed=made.replayed)


async def hold_for_merchant(call: Call, given: HoldForMerchant) -> Reply:
    """Reserve money for a merchant, who captures all or a part of it, with the fee that is in force now."""
    user_id = await call.user_id()
    placed = await call.wallet.merchants.hold(
        user_id,
        await call.key(),
        source=AccountId(given.from_account_id),
        merchant=given.merchant,
        amount_minor=given.amount.minor_units,
        currency=given.amount.currency,
        expires_in_seconds=given.expires_in_seconds,
        reference=given.reference,
    )
    body = await held_view(call.wallet, user_id, placed)
    return keyed_reply(body, CREATED, {"Location": f"/v1/hold/{placed.result.id}"}, replayed=placed.replayed)


async def refund_payment(call: Call, given: Reverse) -> Reply:
    """Refund a payment that you received, all that is left of it or a part; refunds add up to at most its total."""
    payment_id, user_id = call.path("transfer_id"), await call.user_id()
    if not is_id("trf", payment_id):
        raise TransferNotFound(payment_id)
    posted = await call.wallet.merchants.refund(
        user_id, await call.key(), TransferId(payment_id), amount_minor=given.minor_units, reference=given.reference
    )
    body = await posted_view(call.wallet, user_id, posted, paid=True)
    return keyed_reply(body, CREATED, {"Location": f"/v1/transfer/{body.transfer.id}"}, replayed=body.replayed)


async def _splits(call: Call, user_id: UserId, paid: Paid) -> list[Transfer] | None:
    """The splits as their payer sees them; None if they cannot be read now. They are in the books nevertheless."""
    if not paid.splits:
        return None if paid.splits is None else []
    try:
        view = await View.of(call.wallet, user_id, paid.splits)
    except WalletError as error:
        log.warning("the parties could not be read after a payment: %s", error)
        return None
    return [view.transfer(one, paid=True) for one in paid.splits]


async def _own(call: Call) -> domain.Merchant:
    user_id = await call.user_id()
    found = await call.wallet.merchants.merchant(user_id)
    if found is None:
        raise NotAMerchant(user_id)
    return found


async def _view(call: Call, merchant: domain.Merchant) -> Merchant:
    try:
        delivery = await call.wallet.webhooks.delivery(merchant.id)
    except WalletError as error:
        log.warning("the delivery of %s could not be read: %s", merchant.id, error)
        delivery = None
    return Merchant(
        name=merchant.name,
        fee_basis_points=merchant.fee_basis_points,
        webhook_url=merchant.webhook_url,
        created_at=merchant.created_at,
        delivery=None if delivery is None else _delivery(delivery),
    )


def _delivery(delivery: domain.Delivery) -> Delivery:
    positions = [
        Position(account_id=name, sequence=str(sequence)) for name, sequence in sorted(delivery.positions.items())
    ]
    return Delivery(
        positions=positions,
        failures=delivery.attempts,
        last_error=delivery.last_error or None,
        next_attempt_at=delivery.due_at,
        dead_letter_count=delivery.dead,
    )


_PAID: Final = {CREATED: PaymentAnswer, OK: PaymentAnswer}

OPERATIONS: Final = (
    Operation("POST", "/v1/merchant", register_merchant, {CREATED: MerchantSecret}, RegisterMerchant),
    Operation("GET", "/v1/merchant", read_merchant, {OK: Merchant}),
    Operation("PATCH", "/v1/merchant", update_merchant, {OK: Merchant}, UpdateMerchant),
    Operation("POST", "/v1/merchant/secret", rotate_webhook_secret, {OK: MerchantSecret}),
    Operation("POST", "/v1/merchant/replay", replay_events, {OK: Delivery}, ReplayEvents),
    Operation("GET", "/v1/merchant/dead-letter", list_dead_letters, {OK: DeadLetters}, query=LettersQuery),
    Operation("GET", "/v1/merchant/public", find_merchant, {OK: PublicMerchant}, query=MerchantQuery),
    Operation("POST", "/v1/payment", pay_merchant, _PAID, PayMerchant),
    Operation("POST", "/v1/payment/hold", hold_for_merchant, {CREATED: HoldAnswer, OK: HoldAnswer}, HoldForMerchant),
    Operation("POST", "/v1/payment/{transfer_id}/refund", refund_payment, {CREATED: Posted, OK: Posted}, Reverse),
)
