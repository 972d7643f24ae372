"""Merchants' verbs over any store: register, be paid at once or by a hold, split a payment, refund.

A payment is led by the payer's home. The merchant's record is read from the merchant's home before, so the fee is the
one in force when the server accepted the command. A refund is led by the merchant's home, which knows the sum of
refunds so far. The total of a split payment never changes, so it may be read from the payer's home before.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar

from ..domain import merchants as domain
from ..domain.annotations import UNANNOTATED, Annotation
from ..domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from ..domain.errors import (
    InvalidInput,
    MerchantExists,
    NotAMerchant,
    Rejected,
    Unauthenticated,
    WalletError,
    reasons,
)
from ..domain.frozen import frozen
from ..domain.ids import AccountId, TransferId, UserId
from ..domain.merchants import Merchant, merchant_key
from ..domain.model import Hold, Record, Transfer
from ..domain.users import User, user_key
from ..people import user_called
from ..records import read
from .holds import HOLD_SECONDS_DEFAULT
from .keyed import Posted, run
from .ledger import Ledger
from .lookups import To, terms_of
from .merchant_payments import PayMerchantByHoldVerb, PayMerchantVerb, Split
from .preview import KEY as PREVIEW
from .preview import Preview, preview
from .transfers import RefundVerb

__all__ = ["ROTATION", "Merchants", "Paid", "Registered", "Split"]

R = TypeVar("R")

log = logging.getLogger("wallet_gql.verbs.merchants")

ROTATION: Final = timedelta(hours=24)
"""For how long the old webhook secret is still used beside the new one."""

_SECRET_BYTES: Final = 32


@frozen
class Paid:
    """A payment that is in the books: the merchant's transfer, and the transfers of the splits, in their order.

    `splits` is None if they could not be read; they are in the books nevertheless.
    """

    payment: Posted[Transfer]
    splits: tuple[Transfer, ...] | None


@frozen
class Registered:
    """A merchant, and the new webhook secret, which is shown only once."""

    merchant: Merchant
    secret: str


class Merchants:
    """Merchants over a ledger."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        fee_basis_points: int = 0,
        check_url: Callable[[str], str] = lambda url: url,
        on_paid: Callable[[UserId], None] = lambda _: None,
        entropy: Callable[[], bytes] = lambda: secrets.token_bytes(_SECRET_BYTES),
        seal: Callable[[str], str] = lambda secret: secret,
    ) -> None:
        """`fee_basis_points` is the fee of new merchants; `check_url` refuses webhook targets by InvalidInput.

        `on_paid` is called after the commit with the owner of an account that has a new entry: a hint that there is an
        event. `seal` makes the text that is stored from a webhook's secret.
        """
        self.ledger = ledger
        self.store = ledger.store
        self.fee_basis_points = fee_basis_points
        self.check_url = check_url
        self.on_paid = on_paid
        self.seal = seal
        self.entropy = entropy

    # Who is a merchant

    async def register(self, user_id: UserId, name: str, webhook_url: str | None = None) -> Registered:
        """Make a user a merchant. Events begin now; earlier ones can be replayed.

        Raises:
            InvalidInput: the name or the URL has the wrong shape. MerchantExists: the user is one already.
                Unauthenticated.
        """
        shown = domain.check_name(name)
        url = None if webhook_url is None else self.check_url(webhook_url)
        now, secret = self.ledger.clock(), domain.make_secret(self.entropy())
        made = Merchant(user_id, shown, self.fee_basis_points, now, url).with_secret(self.seal(secret), now)
        key, user = merchant_key(user_id), user_key(user_id)
        scope = Scope(key.slot, records=(key, user, domain.delivery_key(user_id)), wallets=(user_id,))

        def decide(snapshot: Snapshot) -> Decision[None]:
            if User.from_record(snapshot.record(user)) is None:
                raise Unauthenticated
            if snapshot.record(key) is not None:
                raise MerchantExists(user_id)
            positions = {account.id: account.sequence for account in snapshot.wallet(user_id)}
            delivery = domain.Delivery(user_id, positions, due_at=now if url else None)
            return Decision(Changes(records=(made.to_record(), delivery.to_record())), None)

        await self._write(scope, decide)
        return Registered(made, secret)

    async def update(
        self, user_id: UserId, *, name: str | None = None, webhook_url: str | None = None, webhook: bool | None = None
    ) -> Merchant:
        """Change the name or the webhook's URL; `webhook=False` turns the webhook off, a URL turns it on.

        Raises:
            InvalidInput: as for `register`. NotAMerchant: the user is not a merchant.
        """
        shown = None if name is None else domain.check_name(name)
        url = None if webhook_url is None else self.check_url(webhook_url)
        if webhook is True and url is None:
            raise InvalidInput("webhookUrl", reasons.WEBHOOK_ON())

        def change(merchant: Merchant) -> Merchant:
            target = None if webhook is False else url or merchant.webhook_url
            return replace(merchant, name=shown or merchant.name, webhook_url=target)

        return await self._change(user_id, change, wake=url is not None or webhook is False)

    async def set_fee(self, user_id: UserId, basis_points: int) -> Merchant:
        """Set the fee on payments from now on. For operators. Raises InvalidInput, NotAMerchant."""
        domain.check_fee(basis_points)
        return await self._change(user_id, lambda merchant: replace(merchant, fee_basis_points=basis_points))

    async def rotate_secret(self, user_id: UserId) -> Registered:
        """Make a new webhook secret. The old one also signs for `ROTATION`. Raises NotAMerchant."""
        text, until = domain.make_secret(self.entropy()), self.ledger.clock() + ROTATION
        sealed = self.seal(text)
        return Registered(await self._change(user_id, lambda merchant: merchant.with_secret(sealed, until)), text)

    async def reseal(self, user_id: UserId, reseal: Callable[[str], str]) -> bool:
        """Store the webhook's secrets as `reseal` makes them of what is stored; returns whether any has changed.

        Raises:
            NotAMerchant; and what `reseal` raises.
        """

        def resealed(merchant: Merchant) -> Merchant:
            return replace(merchant, secrets=tuple(replace(one, text=reseal(one.text)) for one in merchant.secrets))

        found = await self.merchant(user_id)
        if found is None:
            raise NotAMerchant(user_id)
        if resealed(found) == found:
            return False
        await self._change(user_id, resealed)
        return True

    async def merchant(self, user_id: UserId) -> Merchant | None:
        """A user's merchant; None if the user is none."""
        key = merchant_key(user_id)
        return Merchant.from_record(await read(self.store, key))

    async def find(self, username: str) -> Merchant | None:
        """A merchant by the username; None if there is none."""
        user_id = await user_called(self.store, username)
        return None if user_id is None else await self.merchant(user_id)

    # Money

    async def pay(
        self,
        actor: UserId,
        key: str,
        *,
        source: AccountId,
        merchant: str,
        amount_minor: int,
        currency: str,
        splits: Sequence[Split] = (),
        reference: str = "",
        annotation: Annotation = UNANNOTATED,
    ) -> Paid:
        """Pay a merchant, by username, from one's own account; the payees of `splits` are paid in the same commit.

        `annotation` is what the payer notes about each of these transfers, in that commit, too.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: by `rules.merchants.pay_merchant`; remembered under the key.
            Unavailable, InDoubt: retry with the same key.
        """
        verb = PayMerchantVerb(actor, key, source, merchant, amount_minor, currency, splits, reference, annotation)
        payment = await run(self.ledger, verb)
        if verb.merchant_id is not None:
            self.on_paid(verb.merchant_id)
        return await self._paid(payment)

    async def preview(
        self, actor: UserId, *, source: AccountId, merchant: str, amount_minor: int, currency: str
    ) -> Preview | Rejected:
        """What `pay` without splits would do now, or how it would be refused. Raises RateLimited, Unavailable."""
        verb = PayMerchantVerb(actor, PREVIEW, source, merchant, amount_minor, currency, (), "")
        return await preview(self.ledger, verb, source)

    async def preview_hold(
        self,
        actor: UserId,
        *,
        source: AccountId,
        merchant: str,
        amount_minor: int,
        currency: str,
        expires_in_seconds: int,
    ) -> Preview | Rejected:
        """What `hold` would do now, or how it would be refused. Raises RateLimited, Unavailable."""
        to, money = To(username=merchant), (amount_minor, currency)
        verb = PayMerchantByHoldVerb(actor, PREVIEW, source, to, *money, expires_in_seconds, "")
        return await preview(self.ledger, verb, source)

    async def hold(
        self,
        actor: UserId,
        key: str,
        *,
        source: AccountId,
        merchant: str,
        amount_minor: int,
        currency: str,
        expires_in_seconds: int = HOLD_SECONDS_DEFAULT,
        reference: str = "",
    ) -> Posted[Hold]:
        """Reserve money for a merchant, who captures it, all or less, with the fee that is in force now.

        Raises:
            InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
            Rejected: NotAMerchant, or by `rules.place_hold`. Unavailable, InDoubt: retry with the same key.
        """
        money = amount_minor, currency
        to = To(username=merchant)
        return await run(
            self.ledger, PayMerchantByHoldVerb(actor, key, source, to, *money, expires_in_seconds, reference)
        )

    async def refund(
        self, actor: UserId, key: str, payment_id: TransferId, *, amount_minor: int | None = None, reference: str = ""
    ) -> Posted[Transfer]:
        """Refund a payment that the actor received as merchant, all that is left or a part; the fee is not returned.

        Refunds and reversals of a payment add up to at most its total, splits included.

        Raises:
            TransferNotFound, NotReversible: it is no payment that the actor received.
            Rejected: by `rules.reverse_transfer`. Unavailable, InDoubt: retry with the same key.
        """
        posted = await run(self.ledger, RefundVerb(actor, key, payment_id, amount_minor, reference))
        self.on_paid(actor)
        return posted

    # Inside

    async def _write(self, scope: Scope, decide: Callable[[Snapshot], Decision[R]]) -> R:
        return (await self.store.execute(scope, decide, timeout_seconds=self.ledger.timeout_seconds)).result

    async def _change(self, user_id: UserId, change: Callable[[Merchant], Merchant], *, wake: bool = False) -> Merchant:
        """Write a changed merchant. With `wake`, its events are due now, with no failures. Raises NotAMerchant."""
        key, delivery_key = merchant_key(user_id), domain.delivery_key(user_id)
        now = self.ledger.clock()

        def decide(snapshot: Snapshot) -> Decision[Merchant]:
            before = snapshot.record(key)
            merchant = Merchant.from_record(before)
            if before is None or merchant is None:
                raise NotAMerchant(user_id)
            changed = change(merchant)
            records: tuple[Record, ...] = (changed.to_record().after(before),)
            delivery = snapshot.record(delivery_key)
            if wake and delivery is not None:
                due_at = now if changed.webhook_url else None
                woken = replace(domain.Delivery.from_record(delivery), attempts=0, lease="", due_at=due_at)
                records += (woken.to_record().after(delivery),)
            return Decision(Changes(records=records), changed)

        return await self._write(Scope(key.slot, records=(key, delivery_key)), decide)

    async def _paid(self, payment: Posted[Transfer]) -> Paid:
        try:
            return Paid(payment, await self.splits(payment.result))
        except WalletError as error:
            log.warning("the splits of %s could not be read: %s", payment.result.id, error)
            return Paid(payment, None)

    async def splits(self, payment: Transfer) -> tuple[Transfer, ...]:
        """The splits of a payment, in their order."""
        ids = (await terms_of(self.store, payment)).split_ids
        if not ids:
            return ()
        snapshot = await self.store.fetch(ReadSet(transfers=ids))
        found = (snapshot.transfer(transfer_id) for transfer_id in ids)
        return tuple(one for one in found if one is not None)
