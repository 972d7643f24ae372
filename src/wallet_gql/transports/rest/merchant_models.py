"""The JSON of REST for merchants and payments to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, WithJsonSchema

from ...domain import merchants as domain
from ...storage import PAGE_MAX
from ...verbs.ledger import HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX
from .models import Noted, Transfer
from .values import (
    AccountIdText,
    Count,
    Given,
    GivenMoney,
    LetterIdText,
    Ordered,
    Place,
    Recipient,
    Reference,
    Sequence,
    Text,
    Told,
)

Name = Annotated[Text, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": domain.NAME_MAX})]
Url = Annotated[Text, WithJsonSchema({"type": "string", "format": "uri", "maxLength": domain.URL_MAX})]


# What comes in


class RegisterMerchant(Given):
    """What a merchant begins with."""

    name: Name = Field(description="The name that payers see.")
    webhook_url: Url | None = Field(None, description="An https URL of a public server: gets an event for each entry.")


class UpdateMerchant(Given):
    """What to change; what is left out stays."""

    name: Name | None = Field(None, description="The name that payers see.")
    webhook_url: Url | None = Field(None, description="Where events go from now on; turns the webhook on again.")
    webhook: bool | None = Field(None, description="`false` turns the webhook off; a URL turns it on.")


class ReplayEvents(Given):
    """From where to tell events again."""

    account_id: AccountIdText = Field(description="Your account.")
    from_sequence: Place = Field(description="The first entry to tell again.")


class GivenSplit(Given):
    """Somebody who shares in a payment."""

    to: Recipient = Field(description="Who.")
    basis_points: Annotated[int, Field(ge=1, lt=domain.WHOLE_BASIS_POINTS)] = Field(description="1/10,000 of it.")


class PayMerchant(Noted):
    """A payment to a merchant from one of your accounts."""

    from_account_id: AccountIdText = Field(description="Your account that pays.")
    merchant: Text = Field(description="The merchant's username.")
    amount: GivenMoney = Field(description="How much in all.")
    splits: Annotated[list[GivenSplit], Field(max_length=domain.SPLITS_MAX)] = Field(
        [], description="Who shares in it; the merchant has the rest, and pays the fee."
    )
    reference: Reference = ""


class HoldForMerchant(Given):
    """Money to reserve for a merchant, who captures it."""

    from_account_id: AccountIdText = Field(description="Your account that pays.")
    merchant: Text = Field(description="The merchant's username.")
    amount: GivenMoney = Field(description="How much.")
    reference: Reference = ""
    expires_in_seconds: Annotated[
        int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": HOLD_SECONDS_MAX})
    ] = Field(HOLD_SECONDS_DEFAULT, description="How long it lasts, counted from its acceptance.")


class LettersQuery(Ordered):
    """Which page of dead letters."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many at most.")
    after: LetterIdText | None = Field(None, description="Only those behind this one: `next` of the page before.")


class MerchantQuery(Given):
    """Which merchant."""

    username: Text = Field(description="The merchant's username, in any case.")


# What goes out


class PublicMerchant(Told):
    """What everybody who is logged in may know of a merchant."""

    username: str
    name: str = Field(description="To be shown.")


class Position(Told):
    """How far you have been told of an account."""

    account_id: str
    sequence: Sequence = Field(description="The last entry that was told; zero if none was.")


class Delivery(Told):
    """How your webhook fares."""

    positions: list[Position]
    failures: int = Field(description="How often the next event has failed in a row.")
    last_error: str | None = Field(description="What went wrong the last time; null if it arrived since.")
    next_attempt_at: datetime | None = Field(description="When the webhook is looked at next; null while it is off.")
    dead_letter_count: int = Field(description="How many events were given up and not replayed.")


class Merchant(Told):
    """You as merchant."""

    name: str
    fee_basis_points: int = Field(description="What the wallet keeps of a payment, in 1/10,000; rounded down.")
    webhook_url: str | None
    created_at: datetime
    delivery: Delivery | None


class MerchantSecret(Told):
    """You as merchant, and the new secret that signs the events (Standard Webhooks)."""

    merchant: Merchant
    webhook_secret: str = Field(description="Told only now.")


class DeadLetter(Told):
    """An event that was given up; a replay from its sequence tells it again."""

    account_id: str
    sequence: Sequence
    id: str = Field(description="The event's `webhook-id`.")
    transfer_id: str
    error: str
    created_at: datetime


class DeadLetters(Told):
    """Events that were given up, account by account."""

    dead_letters: list[DeadLetter]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


class PaymentAnswer(Told):
    """The money moved, now or when this key was first sent."""

    payment: Transfer = Field(description="The merchant's transfer.")
    splits: list[Transfer] | None = Field(description="Those who share in it; null if they could not be read.")
    credited: bool = Field(description="Whether all payees have it already; if not, it is certain and on its way.")
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")
