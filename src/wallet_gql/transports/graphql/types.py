"""The basic types: money, nodes, and whoever is on a side of a transfer."""

from __future__ import annotations

import strawberry

from ...domain import model
from ...domain.ids import AccountId
from ...domain.money import format_decimal
from ...verbs import parties
from .context import Info
from .describe import about, enum_type, interface_type, object_type
from .scalars import BigInt, CurrencyCode

enum_type(
    model.AccountStatus,
    "What an account may still do.",
    {
        "OPEN": "Pays and receives.",
        "FROZEN": "Receives, but neither pays, holds nor captures until an operator unfreezes it.",
        "CLOSED": "Closed for good; only a credit that was already decided still arrives.",
    },
    name="AccountState",
)

enum_type(
    parties.Direction,
    "Which way money goes, seen from your account.",
    {"IN": "To you.", "OUT": "From you."},
)

enum_type(
    parties.PartyKind,
    "What somebody on one side of a transfer or a hold is.",
    {
        "USER": "A user.",
        "MERCHANT": "A user who takes payments as a merchant; `name` is the merchant's.",
        "WALLET": "The wallet itself: the money entered or left it.",
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

    @strawberry.field
    def decimal(self) -> str:
        """The same as text with exactly the currency's digits, such as `12.30`: for people to read."""
        return format_decimal(self.minor_units, self.currency)

    @classmethod
    def of(cls, amount_minor: int, currency: str) -> Money:
        """From minor units."""
        return cls(minor_units=amount_minor, currency=currency)  # type: ignore[arg-type]  # a page makes hundreds


@interface_type
class Node:
    """Anything with an id that is unique in the whole wallet; `node(id:)` finds it again."""

    id: strawberry.ID = about("Opaque and permanent.")


@interface_type
class Versioned:
    """Anything that changes while its `id` stays.

    Answers may arrive in another order than that in which they were made: of two about the same object keep the one
    with the greater `version`. It is about the object's own fields, not about other objects that it leads to.
    """

    @strawberry.field
    def version(self) -> BigInt | None:
        """Grows with every change, not always by one. Null only where it could not be read."""
        raise NotImplementedError  # never called: each type that implements the interface has its own resolver


@object_type
class PublicMerchant:
    """What everybody who is logged in may know of a merchant: enough to pay the right one."""

    username: str = about("Pay the merchant under this name.")
    name: str = about("The merchant's name, to be shown.")


@object_type
class Party:
    """Somebody on one side of a transfer or a hold."""

    kind: parties.PartyKind = about("What it is. Show it beside `name`, which anybody could choose.")
    name: str = about("What to show: a merchant's name, or a username; `system` for the wallet.")
    username: str | None = about("Whom one can pay under this name; null for the wallet.")

    @classmethod
    async def of(cls, info: Info, account_id: AccountId) -> Party | None:
        """Whose an account is; None if that is not known any more."""
        party = await info.context.parties.load(account_id)
        return cls(kind=party.kind, name=party.name, username=party.username) if party else None
