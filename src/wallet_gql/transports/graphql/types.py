"""The basic types: money, nodes, counterparties, transfers."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import strawberry

from ...domain import model
from ...domain.ids import AccountId, UserId, is_system
from ...domain.money import format_decimal
from .context import Info
from .describe import about, enum_type, interface_type, object_type
from .scalars import BigInt, CurrencyCode

SYSTEM: Final = "system"
"""The name of a counterparty that is not a user."""

enum_type(
    model.AccountStatus,
    "What an account may still do.",
    {
        "OPEN": "Pays and receives.",
        "FROZEN": "Receives, but neither pays, holds nor captures until an operator unfreezes it.",
        "CLOSED": "Closed for good; only a credit that was already decided still arrives.",
    },
)

enum_type(
    model.TransferKind,
    "Why money moved.",
    {
        "TRANSFER": "One user paid another.",
        "DEPOSIT": "Money came in from outside the wallet.",
        "WITHDRAWAL": "Money left the wallet.",
        "CAPTURE": "A payee took money that was held for them.",
        "REVERSAL": "A payee sent a transfer back, all of it or a part.",
        "PAYMENT": "A user paid a merchant; of a split payment the merchant's part.",
        "SPLIT": "Somebody shared in a payment to a merchant.",
    },
)

enum_type(
    model.HoldState,
    "What became of a hold. It closes once, for good.",
    {
        "OPEN": "The money is reserved; the payee may capture or void.",
        "CAPTURED": "The payee took the money, or a part of it; the rest was released.",
        "VOIDED": "The payee released the money.",
        "EXPIRED": "Its time was over before the payee took the money.",
    },
)


@object_type
class Money:
    """An exact amount of one currency. Calculate with `minorUnits`; show `decimal`, or use `Intl.NumberFormat`."""

    minor_units: BigInt = about("The amount in the currency's minor unit: 1230 is 12.30 EUR, 1230 JPY or 1.230 KWD.")
    currency: CurrencyCode = about("The currency.")
    decimal: str = about("The same as text with exactly the currency's digits, such as `12.30`: for people to read.")

    @classmethod
    def of(cls, amount_minor: int, currency: str) -> Money:
        """From minor units."""
        decimal = format_decimal(amount_minor, currency)
        return cls(minor_units=BigInt(amount_minor), currency=CurrencyCode(currency), decimal=decimal)


@interface_type
class Node:
    """Anything with an id that is unique in the whole wallet; `node(id:)` finds it again."""

    id: strawberry.ID = about("Opaque and permanent.")


@object_type
class Counterparty:
    """The other side of a transfer."""

    label: str = about("What to show: the username, or `system` where the money entered or left the wallet.")
    username: str | None = about("Whom one can pay under this name; null where the other side is no user.")


async def counterparty_of(info: Info, viewer_id: UserId, *sides: AccountId) -> Counterparty | None:
    """The counterparty of the viewer; None if it is not known any more."""
    if any(is_system(account_id) for account_id in sides):
        return Counterparty(label=SYSTEM, username=None)
    asked = [info.context.holders.load(side) for side in sides]  # together, so that one read answers
    for holder in [await each for each in asked]:
        if holder is not None and holder.user_id != viewer_id:
            return Counterparty(label=holder.username, username=holder.username)
    return None


@object_type
class Transfer(Node):
    """One movement of money. It never changes; a reversal is a transfer of its own."""

    kind: model.TransferKind = about("Why the money moved.")
    amount: Money = about("What left the payer's account; always positive.")
    fee: Money = about("The part of `amount` that the wallet kept; the payee received the rest.")
    reference: str = about("What the payer wrote; empty if nothing.")
    at: datetime = about("When it was decided, UTC.")
    reverses_id: strawberry.ID | None = about("The transfer that this one sends back, if it is a reversal.")
    hold_id: strawberry.ID | None = about("The hold whose money this is, if it is a capture.")
    viewer_id: strawberry.Private[UserId]
    transfer: strawberry.Private[model.Transfer]

    @strawberry.field
    async def counterparty(self, info: Info) -> Counterparty | None:
        """The other side, seen from the user who asks; null if it is not known any more."""
        sides = (self.transfer.credit_account_id, self.transfer.debit_account_id)
        return await counterparty_of(info, self.viewer_id, *sides)

    @classmethod
    def of(cls, transfer: model.Transfer, viewer_id: UserId) -> Transfer:
        """A transfer as one of its two parties sees it."""
        reversed_id = transfer.reverses
        return cls(
            id=strawberry.ID(transfer.id),
            kind=transfer.kind,
            amount=Money.of(transfer.amount_minor, transfer.currency),
            fee=Money.of(transfer.fee_minor, transfer.currency),
            reference=transfer.reference,
            at=transfer.at,
            reverses_id=strawberry.ID(reversed_id) if reversed_id else None,
            hold_id=strawberry.ID(transfer.hold_id) if transfer.hold_id else None,
            viewer_id=viewer_id,
            transfer=transfer,
        )
