"""`merchants`: the operator's commands on merchants: their fees, their webhooks, and the events that were given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from ...domain.errors import ConfigurationError, InvalidInput
from ...domain.ids import AccountId, UserId
from ...domain.merchants import FEE_BASIS_POINTS_MAX, Delivery, Merchant
from ...domain.model import Record
from ...integrations.webhooks.events import NotSent
from ...integrations.webhooks.sealing import sealer_of
from ...runtime import Wallet
from ...storage import SCAN_MAX
from .common import AsJson, shown, tell, tell_none, with_wallet

app = typer.Typer(rich_markup_mode="rich", no_args_is_help=True, help="Merchants, their fees and their webhooks.")

LETTERS_MAX: Final = 1_000
"""The most dead letters that are listed at once."""

MerchantArgument = Annotated[str, typer.Argument(metavar="MERCHANT", help="The merchant's username.")]


@app.command(epilog="Example:  wallet-gql merchants status shop --json")
def status(merchant: MerchantArgument, *, as_json: AsJson = False) -> None:
    """Show a merchant: the fee, and how far the webhook has been told."""

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, merchant)
        delivery = await wallet.webhooks.delivery(found.id)
        plain = _plain(found, delivery)
        lines = [f"{name:14} {shown(str(value))}" for name, value in plain.items() if name != "positions"]
        lines += [f"told           {account} up to {told}" for account, told in plain["positions"].items()]
        tell("\n".join(lines), plain, as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql merchants fee shop 250")
def fee(
    merchant: MerchantArgument,
    basis_points: Annotated[int, typer.Argument(min=0, max=FEE_BASIS_POINTS_MAX, help="In 1/10,000 of a payment.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Set the fee on payments from now on; holds keep the fee under which they were placed."""

    async def work(wallet: Wallet) -> None:
        changed = await wallet.merchants.set_fee((await _find(wallet, merchant)).id, basis_points)
        text = f"{merchant} pays {changed.fee_basis_points} basis points from now on"
        tell(text, {"merchant": merchant, "feeBasisPoints": changed.fee_basis_points}, as_json=as_json)

    with_wallet(work)


@app.command(name="dead-letters", epilog="Example:  wallet-gql merchants dead-letters --json")
def dead_letters(
    *,
    first: Annotated[int, typer.Option(min=1, max=LETTERS_MAX, help="How many at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the events of all merchants that were given up, oldest first; as JSON one object a line."""

    async def work(wallet: Wallet) -> None:
        letters = await wallet.webhooks.all_dead_letters(first)
        tell_none(len(letters), "dead letters", as_json=as_json)
        for letter in letters:
            plain = asdict(letter)
            at = plain.pop("at").isoformat(timespec="seconds")
            text = f"{at}  {letter.merchant_id}  {letter.account_id}  {letter.sequence:>8}  {shown(letter.error)}"
            tell(text, {**plain, "created_at": at}, as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql merchants replay shop acc_0193a1b2c3d47f00812345678abcdef0 17")
def replay(
    merchant: MerchantArgument,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="One of the merchant's accounts.")],
    sequence: Annotated[int, typer.Argument(min=1, help="The first entry to tell again.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell a merchant's events again, from an entry on. A server has to run: it sends them."""

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, merchant)
        await wallet.webhooks.replay(found.id, AccountId(account), sequence)
        text = f"{merchant} will be told of {account} again, from entry {sequence} on"
        tell(text, {"merchant": merchant, "account": account, "fromSequence": sequence}, as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql merchants reseal")
def reseal(*, as_json: AsJson = False) -> None:
    """Encrypt all webhook secrets with the first of WALLET_SECRET_KEYS; safe to repeat."""

    async def work(wallet: Wallet) -> None:
        sealer, changed, seen = sealer_of(wallet.settings), 0, 0
        async for found in _all(wallet):
            try:
                changed += await wallet.merchants.reseal(found.id, sealer.reseal)
            except NotSent as error:
                raise ConfigurationError(f"merchant {found.id}: {error}") from error
            seen += 1
        tell(f"{changed} of {seen} merchants changed", {"changed": changed, "merchants": seen}, as_json=as_json)

    with_wallet(work)


async def _all(wallet: Wallet) -> AsyncIterator[Merchant]:
    """All merchants, in no particular order."""
    after: str | None = None
    while True:
        page = await wallet.store.scan("record", after, SCAN_MAX)
        for item in page.items:
            if isinstance(item, Record) and item.kind == "merchant":
                found = Merchant.from_record(item)
                assert found is not None
                yield found
        after = page.after
        if after is None:
            return


async def _find(wallet: Wallet, username: str) -> Merchant:
    found = await wallet.merchants.find(username)
    if found is None:
        raise InvalidInput("merchant", f"there is no merchant {shown(username)}")
    return found


def _plain(merchant: Merchant, delivery: Delivery | None) -> dict[str, Any]:
    told = delivery or Delivery(UserId(merchant.id), {})
    return {
        "id": merchant.id,
        "name": merchant.name,
        "feeBasisPoints": merchant.fee_basis_points,
        "webhookUrl": merchant.webhook_url,
        "failures": told.attempts,
        "lastError": told.last_error or None,
        "nextAttemptAt": told.due_at.isoformat() if told.due_at else None,
        "deadLetters": told.dead,
        "positions": dict(told.positions),
    }
