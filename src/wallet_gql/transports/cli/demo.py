"""`wallet-gql demo`: a wallet on a temporary SQLite file with two users, a merchant and some money."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from ...domain.errors import ConfigurationError, InsufficientFunds
from ...domain.ids import OPERATOR, HoldId
from ...domain.model import Account
from ...domain.money import parse_decimal
from ...domain.users import SessionKind, User
from ...integrations.stripe_stand_in.running import running
from ...runtime import Wallet, open_wallet
from ...settings import Settings, load_settings
from ...verbs.ledger import To
from ..graphql.cursors import cursor_of
from ..http.webhooks import PATH as WEBHOOK
from ..server.serving import listen, run, serve_wallet, url_of
from ..web.graphiql import PATH, Tab, demo_tabs
from ..web.pages import TRANSFER, curl
from ..web.wallet import Person as Offered

HOST: Final = "127.0.0.1"
OTHER_HOST: Final = "localhost"
"""The same server under a name with cookies of its own, so that two people fit into two tabs of one browser."""

_DEPOSITS: Final = (("alice", "1000.00", "EUR"), ("bob", "50.00", "EUR"), ("alice", "20000", "JPY"))
_REFERENCES: Final = ("coffee and cake", "groceries", "the concert tickets", "a taxi", "lunch", "half of the rent")
_PAYMENTS: Final = 300
_HELD_MINOR: Final = 250
_CAFE: Final = "cafe"
_CAFE_ITEMS: Final = ((480, "two espressos"), (1_150, "cake for everybody"), (320, "a cappuccino"))
_FEE_BASIS_POINTS: Final = 120
_PAGE: Final = 5


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the demo, with the password."""

    user: User
    password: str


def demo(port: int | None, *, browser: bool) -> None:
    """Serve until Ctrl-C, on `port`; by default 8000, or a free port if that is taken. Raises ConfigurationError."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a signal must clean up, too
    try:
        with TemporaryDirectory(prefix="wallet-demo-") as folder:
            storage = f"sqlite:///{Path(folder) / 'wallet.db'}"
            usual = load_settings(storage=storage).port  # what the environment says must be right, also of Stripe
            with _listener(port, usual) as listener, _stripe(url_of(listener)) as stripe:
                settings = load_settings(
                    storage=storage,
                    host=HOST,
                    log_level="warning",
                    workers=1,
                    merchant_fee_basis_points=_FEE_BASIS_POINTS,
                    **stripe,
                )
                run(settings, lambda: _serve(settings, listener, browser=browser))
    except KeyboardInterrupt:
        pass


@contextmanager
def _stripe(wallet: str) -> Iterator[dict[str, str]]:
    """Run the stand-in for Stripe beside the wallet; the settings that lead to it, none without Stripe's library."""
    if find_spec("stripe") is None:
        yield {"stripe_api_key": "", "stripe_webhook_secrets": ""}
        return
    secret = f"whsec_{secrets.token_urlsafe(24)}"
    with running(wallet + WEBHOOK, (secret,)) as stand_in:
        yield {
            "stripe_api_key": stand_in.key,
            "stripe_api_base": stand_in.url,
            "stripe_webhook_secrets": secret,
        }


def _listener(port: int | None, usual: int) -> socket.socket:
    if port is not None:
        return listen(HOST, port)
    try:
        return listen(HOST, usual)
    except ConfigurationError:
        return listen(HOST, 0)


async def _serve(settings: Settings, listener: socket.socket, *, browser: bool) -> None:
    async with open_wallet(settings) as wallet:
        people = await _furnish(wallet)
        command = await _ready_command(wallet, people, url_of(listener))
        tabs = await _tabs(wallet, people["alice"], await _hold_for(wallet, people["bob"], "alice"))

        def ready(url: str) -> None:
            _show(url, people, command)
            if browser and _has_browser():
                webbrowser.open(url)

        offered = [Offered(name, person.password) for name, person in people.items()]
        await serve_wallet(wallet, listener, ready, tabs, offered)


async def _furnish(wallet: Wallet) -> dict[str, Person]:
    """Create the people, some money, and a few hundred payments between them: the same in every run."""
    people = {name: await _sign_up(wallet, name) for name in ("alice", "bob", _CAFE)}
    for name, text, currency in _DEPOSITS:
        account = await _account(wallet, people[name].user, currency)
        minor = parse_decimal(text, currency)
        await wallet.ledger.deposit(OPERATOR, f"demo-{name}-{currency}", account.id, minor, currency, reference="demo")
    accounts = {name: await _account(wallet, person.user, "EUR") for name, person in people.items()}
    drawn = random.Random(1)  # noqa: S311 - example amounts
    for number in range(_PAYMENTS):
        payer, payee = drawn.sample(["alice", "bob"], 2)
        try:
            await wallet.ledger.transfer(
                people[payer].user.id,
                f"demo-{number}",
                source=accounts[payer].id,
                to=To(accounts[payee].id),
                amount_minor=drawn.randint(100, 4_999),
                currency="EUR",
                reference=drawn.choice(_REFERENCES),
            )
        except InsufficientFunds:
            continue  # bob has spent everything; he gets some back soon
    await _buy(wallet, people["alice"], people[_CAFE])
    for name, person in people.items():
        await wallet.payments.withdrawals.set_payout_account(person.user.id, f"acct_{name}Bank")
    return people


async def _buy(wallet: Wallet, buyer: Person, cafe: Person) -> None:
    """Make the café a merchant, where somebody has bought something."""
    await wallet.merchants.register(cafe.user.id, "Café Carol")
    await _account(wallet, cafe.user, "EUR")
    source = await _account(wallet, buyer.user, "EUR")
    for minor, what in _CAFE_ITEMS:
        await wallet.merchants.pay(
            buyer.user.id,
            f"demo-{what}",
            source=source.id,
            merchant=_CAFE,
            amount_minor=minor,
            currency="EUR",
            reference=what,
        )


async def _hold_for(wallet: Wallet, payer: Person, payee: str) -> HoldId:
    """A hold that the payee may capture."""
    source = await _account(wallet, payer.user, "EUR")
    posted = await wallet.ledger.place_hold(
        payer.user.id,
        "demo-hold",
        source=source.id,
        to=To(username=payee),
        amount_minor=_HELD_MINOR,
        currency="EUR",
        reference="deposit for the bicycle",
    )
    return posted.result.id


async def _tabs(wallet: Wallet, alice: Person, hold_id: HoldId) -> Sequence[Tab]:
    """GraphiQL's examples for the users and accounts that were created."""
    euros = await _account(wallet, alice.user, "EUR")
    after = cursor_of(euros.sequence - _PAGE + 1)
    return demo_tabs(
        username=alice.user.username,
        password=alice.password,
        account_id=euros.id,
        payee="bob",
        hold_id=hold_id,
        after=after,
    )


async def _sign_up(wallet: Wallet, name: str) -> Person:
    password = secrets.token_urlsafe(9)
    return Person(await wallet.identity.sign_up(name, f"{name}@example.org", password), password)


async def _account(wallet: Wallet, user: User, currency: str) -> Account:
    for account in await wallet.ledger.accounts(user.id):
        if account.currency == currency and not account.is_closed:
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
        f"[bold]The wallet is at {url}[/bold]  (Ctrl-C ends it and deletes its data)\n"
        f"  open it there as alice, and at [bold]{url.replace(HOST, OTHER_HOST)}[/bold] in another tab as bob\n"
        f"  GraphiQL is at {url}{PATH}, GraphQL at {url}/graphql\n"
    )
    for name, person in people.items():
        console.print(f"  log-in [bold]{name}[/bold]  password [bold]{person.password}[/bold]")
    console.print("\nPay 5.00 EUR from alice to bob. Paste it twice: the same idempotency key pays once.\n")
    console.print(command, markup=False)
    console.print()
    sys.stdout.flush()


def _has_browser() -> bool:
    """Whether there is a browser that opens outside the terminal."""
    graphical = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return bool(graphical) and sys.stdout.isatty()
