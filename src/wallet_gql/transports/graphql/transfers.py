"""Transfers, as one of their two parties sees them, with all that belongs to them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import strawberry

from ...domain import model
from ...domain.annotations import Annotation, Side
from ...domain.ids import AccountId, TransferId, UserId, is_id
from ...verbs import links, parties
from ...verbs.lookups import header_of, own_side
from .context import Context, Info
from .describe import about, made_at, object_type, read_at
from .later import ACCOUNT, HOLD, TOP_UP, WITHDRAWAL, found, later
from .scalars import BigInt
from .types import Money, Node, Party, PublicMerchant, Versioned


@object_type
class MetadataPair:
    """A piece of metadata."""

    name: str = about("What it is called; no other pair of yours has the same name.")
    value: str = about("What it says.")


@object_type
class Transfer(Node, Versioned):
    """One movement of money. `reversible` and what you note about it change; a reversal is a transfer of its own."""

    viewer_id: strawberry.Private[UserId]
    account_id: strawberry.Private[AccountId]
    transfer: strawberry.Private[model.Transfer]
    owned: strawberry.Private[model.Account | None] = None
    """The account, where it was read already."""
    reading: strawberry.Private[asyncio.Task[int] | None] = None
    """Of what can be sent back."""
    noting: strawberry.Private[asyncio.Task[Annotation] | None] = None
    """The reading of what its owner has noted."""

    kind: model.TransferKind = read_at("transfer.kind", "Why the money moved.")
    reference: str = read_at("transfer.reference", "What the payer wrote; empty if nothing.")
    created_at: datetime = read_at("transfer.at", "When it was decided, UTC.")
    amount: Money = made_at(
        Money,
        "What left the payer's account; always positive.",
        {"minor_units": "transfer.amount_minor", "currency": "transfer.currency"},
    )
    fee: Money = made_at(
        Money,
        "The part of `amount` that the wallet kept; the payee received the rest.",
        {"minor_units": "transfer.fee_minor", "currency": "transfer.currency"},
    )

    @strawberry.field
    def direction(self) -> parties.Direction:
        """Whether you received or paid it."""
        is_paid = self.transfer.debit_account_id == self.account_id
        return parties.Direction.OUT if is_paid else parties.Direction.IN

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
        return Money.of(await self._left_minor(info), self.transfer.currency)

    @strawberry.field
    async def category(self, info: Info) -> str | None:
        """What you filed it under; null if nothing. The other side has a category of its own and never sees yours."""
        return (await self._annotation(info)).category or None

    @strawberry.field
    async def metadata(self, info: Info) -> list[MetadataPair] | None:
        """What else you have noted about it, in the order of the names; null only where it cannot be read now.

        The other side never sees it.
        """
        return [MetadataPair(name=name, value=value) for name, value in (await self._annotation(info)).metadata]

    @strawberry.field
    async def version(self, info: Info) -> BigInt | None:
        """Grows when `reversible` shrinks and when your notes change: ask for it together with either.

        Null if it cannot be read now.
        """
        left_minor, noted = await asyncio.gather(self._left_minor(info), self._annotation(info))
        return BigInt(self.transfer.amount_minor - left_minor + noted.version)

    async def _left_minor(self, info: Info) -> int:
        """What can be sent back, read once, so that all fields of one answer agree. Raises Unavailable."""
        if self.reading is None:
            read = links.reversible_minor(info.context.ledger, self.account_id, self.transfer)
            self.reading = asyncio.ensure_future(read)
        return await self.reading

    async def _annotation(self, info: Info) -> Annotation:
        """What the owner of the account has noted, read once as well. Raises Unavailable."""
        if self.noting is None:
            read = info.context.annotations.load(Side(self.account_id, self.transfer.id))
            self.noting = asyncio.ensure_future(read)
        return await self.noting

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
