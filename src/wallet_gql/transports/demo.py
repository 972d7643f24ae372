"""`wallet-gql demo`: a wallet on a fresh SQLite file with two users and some money, gone when it ends."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from ..domain.errors import ConfigurationError
from ..domain.ids import OPERATOR
from ..domain.model import Account
from ..domain.money import parse_decimal
from ..domain.users import SessionKind, User
from ..ledger import To
from ..runtime import Wallet, open_wallet
from ..settings import Settings, load_settings
from .pages import TRANSFER, curl
from .serving import listen, run, serve_wallet, url_of

HOST: Final = "127.0.0.1"
_DEPOSITS: Final = (("alice", "1000.00", "EUR"), ("bob", "50.00", "EUR"), ("alice", "20000", "JPY"))
_PAYMENTS: Final = (
    ("alice", "bob", "42.00", "the concert tickets"),
    ("bob", "alice", "7.50", "coffee and cake"),
    ("alice", "bob", "120.00", "half of the rent"),
    ("bob", "alice", "12.30", "groceries"),
)


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the demo, who can log in."""

    user: User
    password: str


def demo(port: int | None, *, browser: bool) -> None:
    """Serve until Ctrl-C; without a `port` the usual one, or a free one if that is taken. Raises ConfigurationError."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server takes over: clean up, too
    try:
        with TemporaryDirectory(prefix="wallet-demo-") as folder:
            storage = f"sqlite:///{Path(folder) / 'wallet.db'}"
            settings = load_settings(storage=storage, host=HOST, log_level="warning", workers=1)
            with _listener(settings, port) as listener:
                run(settings, lambda: _serve(settings, listener, browser=browser))
    except KeyboardInterrupt:
        pass


def _listener(settings: Settings, port: int | None) -> socket.socket:
    if port is not None:
        return listen(HOST, port)
    try:
        return listen(HOST, settings.port)
    except ConfigurationError:
        return listen(HOST, 0)


async def _serve(settings: Settings, listener: socket.socket, *, browser: bool) -> None:
    async with open_wallet(settings) as wallet:
        people = await _furnish(wallet)
        command = await _ready_command(wallet, people, url_of(listener))

        def ready(url: str) -> None:
            _show(url, people, command)
            if browser and _has_browser():
                webbrowser.open(url)

        await serve_wallet(wallet, listener, ready)


async def _furnish(wallet: Wallet) -> dict[str, Person]:
    """Two users, some money, a few payments between them."""
    people = {name: await _sign_up(wallet, name) for name in ("alice", "bob")}
    for name, text, currency in _DEPOSITS:
        account = await _account(wallet, people[name].user, currency)
        minor = parse_decimal(text, currency)
        await wallet.ledger.deposit(OPERATOR, f"demo-{name}-{currency}", account.id, minor, currency, reference="demo")
    for number, (payer, payee, text, reference) in enumerate(_PAYMENTS):
        user = people[payer].user
        await wallet.ledger.transfer(
            user.id,
            f"demo-{number}",
            source=(await _account(wallet, user, "EUR")).id,
            to=To(username=payee),
            amount_minor=parse_decimal(text, "EUR"),
            currency="EUR",
            reference=reference,
        )
    return people


async def _sign_up(wallet: Wallet, name: str) -> Person:
    password = secrets.token_urlsafe(9)
    return Person(await wallet.identity.sign_up(name, f"{name}@example.org", password), password)


async def _account(wallet: Wallet, user: User, currency: str) -> Account:
    for account in await wallet.ledger.accounts(user.id):
        if account.currency == currency:
            return account
    return await wallet.ledger.open_account(user.id, currency)


async def _ready_command(wallet: Wallet, people: dict[str, Person], url: str) -> str:
    """A `curl` that pays 5 EUR from alice to bob; pasted twice, it pays once."""
    alice = people["alice"]
    session = await wallet.identity.log_in("alice", alice.password, SessionKind.BEARER)
    payment = {
        "idempotencyKey": "try-me-1",
        "fromAccountId": (await _account(wallet, alice.user, "EUR")).id,
        "to": {"username": "bob"},
        "amount": {"minorUnits": "500", "currency": "EUR"},
        "reference": "from the shell",
    }
    return curl(f"{url}/graphql", TRANSFER, {"input": payment}, session.token)


def _show(url: str, people: dict[str, Person], command: str) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]The wallet is at {url}[/bold]  (GraphQL: {url}/graphql; Ctrl-C ends it and deletes its data)\n"
    )
    for name, person in people.items():
        console.print(f"  log-in [bold]{name}[/bold]  password [bold]{person.password}[/bold]")
    console.print("\nPay 5.00 EUR from alice to bob. Paste it twice: the same idempotency key pays once.\n")
    console.print(command, markup=False)
    console.print()
    sys.stdout.flush()


def _has_browser() -> bool:
    """Whether opening one would not take over the terminal."""
    graphical = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return bool(graphical) and sys.stdout.isatty()
