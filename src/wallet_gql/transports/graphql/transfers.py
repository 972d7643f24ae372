"""Transfers, as one of their two parties sees them, with all that belongs to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from ...domain import model
from ...domain.ids import AccountId, TransferId, UserId, is_id
from ...verbs import links, parties
from ...verbs.lookups import header_of, own_side
from .context import Context, Info
from .describe import object_type
from .later import ACCOUNT, HOLD, TOP_UP, WITHDRAWAL, found, later
from .types import Money, Node, Party, PublicMerchant


@object_type
class Transfer(Node):
    """One movement of money. It never changes; a reversal is a transfer of its own."""

    viewer_id: strawberry.Private[UserId]
    account_id: strawberry.Private[AccountId]
    transfer: strawberry.Private[model.Transfer]
    owned: strawberry.Private[model.Account | None] = None
    """The account, where it was read already."""

    @strawberry.field
    def kind(self) -> model.TransferKind:
        """Why the money moved."""
        return self.transfer.kind

    @strawberry.field
    def direction(self) -> parties.Direction:
        """Whether you received or paid it."""
        is_paid = self.transfer.debit_account_id == self.account_id
        return parties.Direction.OUT if is_paid else parties.Direction.IN

    @strawberry.field
    def reference(self) -> str:
        """What the payer wrote; empty if nothing."""
        return self.transfer.reference

    @strawberry.field
    def at(self) -> datetime:
        """When it was decided, UTC."""
        return self.transfer.at

    @strawberry.field
    def amount(self) -> Money:
        """What left the payer's account; always positive."""
        return Money.of(self.transfer.amount_minor, self.transfer.currency)

    @strawberry.field
    def fee(self) -> Money:
        """The part of `amount` that the wallet kept; the payee received the rest."""
        return Money.of(self.transfer.fee_minor, self.transfer.currency)

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """Your account."""
        if self.owned is not None:
            return found(ACCOUNT).of(self.owned)
        return await found(ACCOUNT).find(info.context, self.viewer_id, self.account_id)

    @strawberry.field
    async def counterparty(self, info: Info) -> Party | None:
        """The other side; null if it is not known any more."""
        transfer = self.transfer
        is_paid = transfer.debit_account_id == self.account_id
        return await Party.of(info, transfer.credit_account_id if is_paid else transfer.debit_account_id)

    @strawberry.field
    async def reverses(self, info: Info) -> Transfer | None:
        """The transfer that this one sends back, if it is a reversal of one that you paid or received."""
        if self.transfer.reverses is None:
            return None
        original = await header_of(info.context.wallet.store, self.transfer.reverses)
        # a split comes back to the merchant, who was no party to it
        return None if original is None else await Transfer.seen(info.context, self.viewer_id, original)

    @strawberry.field
    async def reversible(self, info: Info) -> Money | None:
        """How much of it you can still send back; zero if you paid it, or if its kind is never sent back."""
        left_minor = await links.reversible_minor(info.context.ledger, self.account_id, self.transfer)
        return Money.of(left_minor, self.transfer.currency)

    @later(HOLD)
    async def hold(self, info: Info) -> Any:
        """The hold that this capture or withdrawal took its money from."""
        hold_id = self.transfer.hold_id
        return await found(HOLD).find(info.context, self.viewer_id, hold_id) if hold_id else None

    @later(TOP_UP)
    async def top_up(self, info: Info) -> Any:
        """The top-up that brought this money, or that it was taken back from."""
        flow_id = await links.flow_of(info.context.wallet.store, self.transfer)
        return await found(TOP_UP).find(info.context, self.viewer_id, flow_id) if flow_id else None

    @later(WITHDRAWAL)
    async def withdrawal(self, info: Info) -> Any:
        """The withdrawal by which this money left, or came back."""
        flow_id = await links.flow_of(info.context.wallet.store, self.transfer)
        return await found(WITHDRAWAL).find(info.context, self.viewer_id, flow_id) if flow_id else None

    @strawberry.field
    async def merchant(self, info: Info) -> PublicMerchant | None:
        """The merchant, if this is a payment to one, or a split of such a payment; of a refund ask `reverses`."""
        account_id = await links.merchant_account_of(info.context.wallet.store, self.transfer)
        party = await info.context.parties.load(account_id) if account_id else None
        if party is None or party.kind is not parties.PartyKind.MERCHANT:
            return None
        return PublicMerchant(username=party.username or "", name=party.name)

    @classmethod
    def of(
        cls, transfer: model.Transfer, viewer_id: UserId, account_id: AccountId, owned: model.Account | None = None
    ) -> Transfer:
        """A transfer as the user sees it who owns the account, which it debits or credits."""
        own = strawberry.ID(transfer.id)
        return cls(id=own, viewer_id=viewer_id, account_id=account_id, transfer=transfer, owned=owned)

    @classmethod
    async def find(cls, context: Context, user_id: UserId, transfer_id: str) -> Transfer | None:
        """A transfer that the user paid or received. Raises Unavailable."""
        if not is_id("trf", transfer_id):
            return None
        header = await header_of(context.wallet.store, TransferId(transfer_id))
        return None if header is None else await cls.seen(context, user_id, header)

    @classmethod
    async def seen(cls, context: Context, user_id: UserId, transfer: model.Transfer) -> Transfer | None:
        """The transfer, if the user paid or received it. Raises Unavailable."""
        account_id = await own_side(context.wallet.store, user_id, transfer)
        return None if account_id is None else cls.of(transfer, user_id, account_id)
