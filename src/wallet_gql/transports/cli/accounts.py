"""The operator's commands on users and accounts: deposits, withdrawals, frozen accounts, sessions, lists."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Final

import typer

from ...domain.errors import AccountExists, InDoubt, InvalidInput, Unavailable
from ...domain.ids import OPERATOR, AccountId, UserId, slot_of
from ...domain.model import Account, AccountStatus, Record, Transfer
from ...domain.money import format_decimal, parse_decimal
from ...domain.users import User
from ...idempotency import key_of
from ...identity.resets import make_password
from ...identity.resets import reset_password as set_password
from ...runtime import Wallet
from ...storage import SCAN_MAX, HistoryLine
from ...verbs.history import page_of_history
from ...verbs.keyed import Posted
from ...verbs.reading import owners_of
from .common import AsJson, counted, shown, tell, tell_none, with_wallet

app = typer.Typer(rich_markup_mode="rich")

TRANSFERS_MAX: Final = 1_000
"""The most transfers that are listed at once."""

LINE_MAX: Final = 10_000
"""How much of a line is read as a password, in bytes: more than any password may have."""

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An account id, as `transfers` lists it.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="A username or an e-mail address.")]
AmountArgument = Annotated[str, typer.Argument(help="Decimal text with a point, such as 12.30.")]
CurrencyArgument = Annotated[str, typer.Argument(help="An ISO 4217 code, such as EUR.")]
KeyOption = Annotated[str | None, typer.Option(help="Idempotency key; a new one if not given.")]
ReferenceOption = Annotated[str, typer.Option(help="What the user reads in the history; up to 140 characters.")]


@app.command(epilog="Example:  wallet-gql deposit alice 12.30 EUR --key invoice-4711 --reference 'cash, desk 2'")
def deposit(
    user: UserArgument,
    amount: AmountArgument,
    currency: CurrencyArgument,
    *,
    key: KeyOption = None,
    reference: ReferenceOption = "",
    as_json: AsJson = False,
) -> None:
    """Give a user money, as the operator; opens the account if there is none in this currency."""
    code = currency.upper()
    amount_minor = parse_decimal(amount, code)
    given = _told_key("deposit", key, as_json=as_json)

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, user)
        account_id = await _account_for(wallet, found.id, code)
        used = await key_of(wallet.store, OPERATOR, given, slot=slot_of(account_id))
        money = amount_minor, code
        posted = await wallet.ledger.deposit(OPERATOR, used, account_id, *money, reference=reference)
        await _tell_posted(wallet, found, account_id, posted, "deposited", as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql withdraw alice 12.30 EUR --reference 'deposited by mistake'")
def withdraw(
    user: UserArgument,
    amount: AmountArgument,
    currency: CurrencyArgument,
    *,
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Which of the user's accounts, such as a closed one.")
    ] = None,
    key: KeyOption = None,
    reference: ReferenceOption = "",
    as_json: AsJson = False,
) -> None:
    """Take money out of a user's account, as the operator: the way back from a mistaken deposit.

    Only what is available can be taken, and nothing from a frozen account. A closed account is taken from if money has
    reached it and the user has no other one in this currency.
    """
    code = currency.upper()
    amount_minor = parse_decimal(amount, code)
    given = _told_key("withdraw", key, as_json=as_json)

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, user)
        account_id = await _source(wallet, found, code, account)
        used = await key_of(wallet.store, OPERATOR, given, slot=slot_of(account_id))
        money = amount_minor, code
        posted = await wallet.ledger.withdraw(OPERATOR, used, account_id, *money, reference=reference)
        await _tell_posted(wallet, found, account_id, posted, "withdrawn", as_json=as_json)

    with_wallet(work)


def _told_key(command: str, key: str | None, *, as_json: bool) -> str:
    """The idempotency key, printed before the money moves, in case the command must be repeated."""
    given = f"{command}-{uuid.uuid4()}" if key is None else key
    typer.echo(f"key      {given}", err=as_json)
    return given


async def _source(wallet: Wallet, user: User, currency: str, account: str | None) -> AccountId:
    """The account that is named, if it is the user's; else the one in use, or the closed one that money has reached.

    A repeated command finds a closed account that the first one has emptied, too.
    """
    own = [one for one in await wallet.ledger.accounts(user.id) if one.currency == currency]
    if account is not None:
        fits = [one for one in own if one.id == account]
    else:
        fits = [one for one in own if not one.is_closed] or [one for one in own if one.posted_minor] or own
    if len(fits) == 1:
        return fits[0].id
    which = f"{currency} account" if account is None else f"{currency} account {shown(account)}"
    problem = f"{shown(user.username)} has no {which}"
    if fits:
        problem = f"{shown(user.username)} has several closed {currency} accounts"
    raise InvalidInput("account", f"{problem}; `wallet-gql transfers` lists them, and --account names one")


async def _tell_posted(
    wallet: Wallet, user: User, account_id: AccountId, posted: Posted[Transfer], done: str, *, as_json: bool
) -> None:
    account = await wallet.ledger.account(OPERATOR, account_id)
    code = account.currency
    amount, balance = (format_decimal(minor, code) for minor in (posted.result.amount_minor, account.posted_minor))
    did = f"was {done} before, under this key" if posted.replayed else done
    text = (
        f"account  {account_id} of {user.username}\namount   {amount} {code} {did}\nbalance  {balance} {code}\n"
        f"transfer {posted.result.id}"
    )
    plain = {
        "key": posted.result.idempotency_key,
        "transfer": posted.result.id,
        "account": account_id,
        "currency": code,
        "amount": amount,
        "balance": balance,
        "replayed": posted.replayed,
    }
    tell(text, plain, as_json=as_json)


@app.command(epilog="Example:  wallet-gql freeze acc_0193a1b2c3d47f00812345678abcdef0")
def freeze(account: AccountArgument, *, as_json: AsJson = False) -> None:
    """Stop an account's payments, holds and captures. It still receives."""
    _set_status(account, AccountStatus.FROZEN, as_json=as_json)


@app.command(epilog="Example:  wallet-gql unfreeze acc_0193a1b2c3d47f00812345678abcdef0")
def unfreeze(account: AccountArgument, *, as_json: AsJson = False) -> None:
    """Let a frozen account pay again."""
    _set_status(account, AccountStatus.OPEN, as_json=as_json)


@app.command(epilog="Example:  wallet-gql close acc_0193a1b2c3d47f00812345678abcdef0")
def close(account: AccountArgument, *, as_json: AsJson = False) -> None:
    """Close an empty account, for good."""
    _set_status(account, AccountStatus.CLOSED, as_json=as_json)


@app.command(epilog="Example:  wallet-gql users --first 20\n\nExample:  wallet-gql users --json | wc -l")
def users(
    *,
    first: Annotated[int | None, typer.Option(min=1, help="How many at most; all if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the users, in no particular order; as JSON one object a line."""

    async def work(wallet: Wallet) -> None:
        count = 0
        async for user in _users(wallet):
            text = f"{user.username:32}  {shown(user.email):32}  {user.created_at:%Y-%m-%d %H:%M}  {user.id}"
            plain = {"username": user.username, "email": user.email, "id": user.id}
            tell(text, {**plain, "createdAt": user.created_at.isoformat()}, as_json=as_json)
            count += 1
            if count == first:
                return
        tell_none(count, "users", as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql log-out alice\n\nExample:  wallet-gql log-out --all")
def log_out(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="A username or an e-mail address.")] = None,
    *,
    all_users: Annotated[bool, typer.Option("--all", help="Log everybody out, as after restoring a backup.")] = False,
    as_json: AsJson = False,
) -> None:
    """End all sessions of a user, or of all users. They log in again with their passwords."""
    if all_users == (user is not None):
        raise InvalidInput("user", "a username or an e-mail address, or --all instead")

    async def work(wallet: Wallet) -> None:
        users, sessions, failed = 0, 0, None
        async for found in _users(wallet, user):
            try:
                sessions += await wallet.identity.log_out_everywhere(found.id)
            except (Unavailable, InDoubt) as error:  # the others must not stay logged in
                failed = error
            else:
                users += 1
        counts = {"user": users, "session": sessions}
        tell(f"logged out  {counted(counts)}", {"users": users, "sessions": sessions}, as_json=as_json)
        if failed is not None:
            raise failed

    with_wallet(work)


@app.command(epilog="Example:  wallet-gql reset-password alice\n\nExample:  wallet-gql reset-password alice --stdin")
def reset_password(
    user: UserArgument,
    *,
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Take the new password from the standard input: its first line.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a user who has forgotten the password a new one, and end all sessions. Make sure first who asks.

    The new password is random and is printed this once. The user should change it at once.
    """
    if from_stdin:  # nobody types a password for a user who is not there, or while the store is held open
        with_wallet(lambda wallet: _find(wallet, user))
    new = _line_of_stdin() if from_stdin else make_password()

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, user)
        ended = await set_password(wallet.identity, found, new)
        text = f"the password of {found.username} was reset; ended: {counted({'session': ended})}"
        plain: dict[str, object] = {"username": found.username, "sessions": ended}
        if not from_stdin:
            text, plain = f"{text}\npassword  {new}", {**plain, "password": new}
        tell(text, plain, as_json=as_json)

    with_wallet(work)


def _line_of_stdin() -> str:
    """A password, hidden while somebody types it. Raises InvalidInput."""
    if sys.stdin.isatty():
        return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        return sys.stdin.buffer.readline(LINE_MAX).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidInput("password", "a line of text in UTF-8 on the standard input") from error


@app.command(epilog="Example:  wallet-gql transfers alice --first 50")
def transfers(
    user: UserArgument,
    *,
    first: Annotated[int, typer.Option(min=1, max=TRANSFERS_MAX, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List a user's accounts and last transfers, the newest first; as JSON one object a line."""

    async def work(wallet: Wallet) -> None:
        found = await _find(wallet, user)
        accounts = await wallet.ledger.accounts(found.id)
        lines: list[HistoryLine] = []
        for account in accounts:
            if not as_json:
                typer.echo(_account_line(account))
            lines += (await page_of_history(wallet.store, account, first)).lines
        lines.sort(key=lambda line: (line.entry.at, line.entry.sequence), reverse=True)
        tell_none(len(lines), "transfers", as_json=as_json)
        names = await _names(wallet, lines[:first])
        for line in lines[:first]:
            _tell_line(line, names, as_json=as_json)

    with_wallet(work)


def _set_status(account: str, status: AccountStatus, *, as_json: bool) -> None:
    async def work(wallet: Wallet) -> None:
        account_id = AccountId(account)
        await wallet.ledger.set_account_status(OPERATOR, account_id, status)
        now = await wallet.ledger.account(OPERATOR, account_id)
        posted = format_decimal(now.posted_minor, now.currency)
        plain = {"account": now.id, "state": now.status, "posted": posted, "currency": now.currency}
        tell(_account_line(now), plain, as_json=as_json)

    with_wallet(work)


def _account_line(account: Account) -> str:
    posted, available = (
        format_decimal(minor, account.currency) for minor in (account.posted_minor, account.available_minor)
    )
    return f"account  {account.id} is {account.status}: {posted} {account.currency} posted, {available} available"


async def _find(wallet: Wallet, login: str) -> User:
    found = await wallet.identity.find(login)
    if found is None:
        raise InvalidInput("user", f"nobody has the name or address {shown(login)}; `wallet-gql users` lists all")
    return found


async def _users(wallet: Wallet, login: str | None = None) -> AsyncIterator[User]:
    """The user of that name or address; without one, all users in no particular order."""
    if login is not None:
        yield await _find(wallet, login)
        return
    after: str | None = ""
    while after is not None:
        page = await wallet.store.scan("record", after or None, SCAN_MAX)
        records = (item for item in page.items if isinstance(item, Record) and item.kind == "user")
        for user in filter(None, map(User.from_record, records)):
            yield user
        after = page.after


async def _account_for(wallet: Wallet, user_id: UserId, currency: str) -> AccountId:
    try:
        return (await wallet.ledger.open_account(user_id, currency)).id
    except AccountExists as error:
        return AccountId(str(error.fields["account_id"]))


def _other(line: HistoryLine) -> AccountId:
    both = line.transfer.debit_account_id, line.transfer.credit_account_id
    return both[1] if both[0] == line.entry.account_id else both[0]


async def _names(wallet: Wallet, lines: list[HistoryLine]) -> dict[AccountId, str]:
    """The username of the other side of each transfer."""
    owners = await owners_of(wallet.store, map(_other, lines))
    users = await wallet.identity.users(set(owners.values()))
    return {account_id: users[owner].username for account_id, owner in owners.items() if owner in users}


def _tell_line(line: HistoryLine, names: dict[AccountId, str], *, as_json: bool) -> None:
    entry, transfer = line.entry, line.transfer
    other = names.get(_other(line), _other(line))
    amount = format_decimal(entry.amount_minor, transfer.currency)
    if as_json:
        plain = {
            "id": transfer.id,
            "createdAt": entry.at.isoformat(),
            "account": entry.account_id,
            "sequence": entry.sequence,
            "kind": transfer.kind,
            "amount": amount,
            "currency": transfer.currency,
            "balance": format_decimal(entry.balance_minor, transfer.currency),
            "counterparty": other,
            "reference": transfer.reference,
        }
        typer.echo(json.dumps(plain))
        return
    at = f"{entry.at:%Y-%m-%d %H:%M:%S}"
    amounts = f"{amount:>16} {transfer.currency}"
    typer.echo(f"{at}  {amounts}  {transfer.kind:10}  {shown(other):32}  {transfer.id}  {shown(transfer.reference)}")
