"""`limits`: the operator sees and sets the spending limits of one user."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ...domain.errors import InvalidInput
from ...domain.money import format_decimal, parse_decimal
from ...domain.spending import Limits
from ...runtime import Wallet
from ...verbs.spending import Standing, grant_limits, standings
from .common import AsJson, shown, tell, tell_none, with_wallet

app = typer.Typer(rich_markup_mode="rich")

DEFAULT: Final = "default"
_NAMES: Final = {"payment": "payment", "day": "day", "new_payee": "newPayee"}


@app.command(epilog="Example:  wallet-gql limits alice\n\nExample:  wallet-gql limits alice EUR --day 5000.00")
def limits(
    user: Annotated[str, typer.Argument(metavar="USER", help="A username or an e-mail address.")],
    currency: Annotated[str | None, typer.Argument(help="An ISO 4217 code, such as EUR.")] = None,
    *,
    payment: Annotated[str | None, typer.Option(help="The most of one payment; `default`: the wallet's.")] = None,
    day: Annotated[str | None, typer.Option(help="The most of one UTC day.")] = None,
    new_payee: Annotated[str | None, typer.Option(help="The most to a new payee, in sum.")] = None,
    lift_own: Annotated[bool, typer.Option(help="Lift the limits that the user has set, at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a user's spending limits, or set them in place of the wallet's, at once; as JSON one object a line."""
    code = None if currency is None else currency.upper()
    given = {"payment": payment, "day": day, "new_payee": new_payee}
    changes = {name: text for name, text in given.items() if text is not None}
    if (changes or lift_own) and code is None:
        raise InvalidInput("currency", "name the currency whose limits to set, such as EUR")

    async def work(wallet: Wallet) -> None:
        found = await wallet.identity.find(user)
        if found is None:
            raise InvalidInput("user", f"nobody has the name or address {shown(user)}; `wallet-gql users` lists all")
        if (changes or lift_own) and code is not None:
            granted = {name: _amount(text, code) for name, text in changes.items()}
            await grant_limits(wallet.ledger, found.id, code, granted, lifts_own=lift_own)
        all_of_them = await standings(wallet.ledger, found.id)
        some = [standing for standing in all_of_them if code in {None, standing.currency}]
        tell_none(len(some), "spending limits; WALLET_SPENDING_LIMITS sets those of all users", as_json=as_json)
        for standing in some:
            _tell(standing, as_json=as_json)

    with_wallet(work)


def _amount(text: str, currency: str) -> int | None:
    return None if text == DEFAULT else parse_decimal(text, currency)


def _tell(standing: Standing, *, as_json: bool) -> None:
    spending, currency = standing.spending, standing.currency
    plain: dict[str, Any] = {
        "currency": currency,
        "spent": format_decimal(spending.spent_minor, currency),
        "limits": _plain(standing.limits, currency),
        "granted": _plain(spending.granted, currency),
        "own": _plain(spending.own, currency),
        "raised": None if spending.raised is None else _plain(spending.raised, currency),
        "raisedAt": None if spending.raised_at is None else spending.raised_at.isoformat(),
    }
    parts = [f"{name} {amount or 'unlimited'}" for name, amount in plain["limits"].items()]
    tell(f"{currency}  spent today {plain['spent']}  limits: {', '.join(parts)}", plain, as_json=as_json)


def _plain(found: Limits, currency: str) -> dict[str, str | None]:
    amounts = found.values()
    return {
        shown_as: None if (minor := amounts[name]) is None else format_decimal(minor, currency)
        for name, shown_as in _NAMES.items()
    }
