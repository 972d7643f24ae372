"""Inputs that several mutations share: money, a payee, ids."""

from __future__ import annotations

from typing import Final

import strawberry

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
