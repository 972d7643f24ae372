"""Inputs that several mutations share: money, a payee, ids, notes."""

from __future__ import annotations

from typing import Any, Final

import strawberry

from ....domain.annotations import (
    CATEGORY_MAX,
    PAIR_NAME_MAX,
    PAIR_VALUE_MAX,
    PAIRS_MAX,
    Annotation,
    check_category,
    check_pair_name,
    check_pair_value,
)
from ....domain.ids import AccountId, parse_account_id
from ....domain.money import check_amount, check_currency
from ....verbs.ledger import To
from ..describe import about, input_type
from ..given import given
from ..scalars import BigInt, CurrencyCode

KEY: Final = (
    "1 to 255 printable ASCII characters, such as a UUID. Make one for each intent and send it with every retry: "
    'however often the request arrives, it is done once. `k` and `"k"` are the same key.'
)


@input_type
class MoneyInput:
    """An exact amount of one currency."""

    minor_units: BigInt = given(
        "The amount in the currency's minor unit: 1230 is 12.30 EUR. Greater than zero.", check_amount
    )
    currency: CurrencyCode = given("The currency; it must be the account's.", check_currency)


@strawberry.input(one_of=True, description="Whom to pay: exactly one of these.")
class Recipient:
    """Whom to pay: exactly one of these."""

    account_id: strawberry.Maybe[strawberry.ID] = given("An account by its id.", parse_account_id)
    username: strawberry.Maybe[str] = about("A user, into the account that holds the currency.")

    def as_to(self) -> To:
        """The payee as the ledger takes it."""
        if self.account_id is not None:
            return To(account_id=AccountId(self.account_id.value))
        return To(username=self.username.value if self.username is not None else None)


@input_type
class MetadataPairInput:
    """A piece of metadata."""

    name: str = given(f"What it is called: 1 to {PAIR_NAME_MAX} characters.", check_pair_name)
    value: str = given(f"What it says: at most {PAIR_VALUE_MAX} characters.", check_pair_value)


def category_given() -> Any:
    """The field of a payment's category."""
    about_it = f"What you file it under, at most {CATEGORY_MAX} characters, such as `groceries`; only you see it."
    return given(about_it, check_category, default="")


def metadata_given() -> Any:
    """The field of a payment's metadata. The verb checks how many pairs there are."""
    about_it = (
        f"What else you note about it: at most {PAIRS_MAX} pairs, each with a name of its own; only you see them."
    )
    return strawberry.field(description=about_it, default=None)


def pairs_of(metadata: list[MetadataPairInput] | None) -> tuple[tuple[str, str], ...] | None:
    """Metadata as the verbs take it."""
    return None if metadata is None else tuple((pair.name, pair.value) for pair in metadata)


def annotation_of(category: str | None, metadata: list[MetadataPairInput] | None) -> Annotation:
    """What the payer notes about a payment."""
    return Annotation(category or "", pairs_of(metadata) or ())
