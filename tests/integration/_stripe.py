"""A wallet server with Stripe's stand-in behind it, and users of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from tests.integration._server import Client, Person, Server, new_key, serving, settle
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.domain.model import Account
from wallet_gql.domain.payments import Alarm
from wallet_gql.integrations.stripe.signature import sign
from wallet_gql.integrations.stripe_stand_in.state import Body
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.testing.stripe_fake import FakeStripe

T = TypeVar("T")

TOP_UP: Final = """mutation($input: TopUpInput!) { topUp(input: $input) { __typename
  ... on TopUpSuccess { replayed clientSecret topUp { id state failure amount { minorUnits } } }
  ... on WalletError { code message retryable } } }"""
WITHDRAW: Final = """mutation($input: WithdrawInput!) { withdraw(input: $input) { __typename
  ... on WithdrawSuccess { replayed withdrawal { id state failure } fromAccount { held { minorUnits } } }
  ... on WalletError { code message retryable } } }"""
READ_TOP_UP: Final = """query($id: ID!) { topUp(id: $id) {
  state clientSecret failure transfer { id } account { id } takenBack { minorUnits } } }"""
READ_WITHDRAWAL: Final = (
    "query($id: ID!) { withdrawal(id: $id) { state failure transfer { id withdrawal { id } } hold { id state } } }"
)


def settings_of(fake: FakeStripe, **more: str) -> dict[str, str]:
    """What a wallet is told of the stand-in."""
    given = {"stripe_api_key": fake.key, "stripe_api_base": fake.url, "stripe_webhook_secrets": " ".join(fake.secrets)}
    return {**given, "stripe_timeout_seconds": f"{min(patience(10), 60):.1f}", **more}  # no call may take longer


@dataclass(frozen=True, slots=True)
class Town:
    """A server, the stand-in, and how one talks to both."""

    server: Server
    fake: FakeStripe

    def person(self, balance_minor: int = 0, *, bank: bool = True) -> Person:
        """Somebody with an account, and with a connected account if there is a `bank`."""

        async def work(wallet: Wallet) -> Person:
            made = await settle(wallet, balance_minor)
            if bank:
                connected = self.fake.state.connect(f"acct_{made.username}")
                await wallet.payments.withdrawals.set_payout_account(UserId(made.id), connected)
            return made

        return self.look(work)

    def account(self, person: Person) -> Account:
        """A person's account as it is in the file."""
        return self.look(lambda wallet: wallet.ledger.account(UserId(person.id), AccountId(person.account_id)))

    def alarms(self) -> list[Alarm]:
        """What waits for an operator."""
        return [one.alarm for one in self.look(lambda wallet: wallet.payments.alarms())]

    def look(self, work: Callable[[Wallet], Coroutine[Any, Any, T]]) -> T:
        """Do something beside the server, in its file."""

        async def run() -> T:
            settings = load_settings(storage=self.server.storage, mode="test", **settings_of(self.fake))
            async with open_wallet(settings, sweeps=False) as wallet:
                return await work(wallet)

        return asyncio.run(run())

    def ask(self, person: Person, query: str, **variables: Any) -> Any:
        """What GraphQL answers."""
        with Client(self.server.url, person.token) as client:
            return client.run(query, variables)

    def top_up(self, person: Person, minor: int, key: str | None = None) -> Any:
        """Begin to bring money in."""
        amount = {"minorUnits": minor, "currency": "EUR"}
        given = {"idempotencyKey": key or new_key(), "toAccountId": person.account_id, "amount": amount}
        return self.ask(person, TOP_UP, input=given)

    def withdraw(self, person: Person, minor: int, key: str | None = None) -> Any:
        """Begin to take money out."""
        amount = {"minorUnits": minor, "currency": "EUR"}
        given = {"idempotencyKey": key or new_key(), "fromAccountId": person.account_id, "amount": amount}
        return self.ask(person, WITHDRAW, input=given)

    def intent_of(self, top_up_id: str) -> str:
        """The PaymentIntent of a top-up."""
        objects = self.fake.state.objects.values()
        return str(next(o["id"] for o in objects if o.get("metadata", {}).get("wallet_top_up") == top_up_id))

    def payout_of(self, withdrawal_id: str) -> str:
        """The payout of a withdrawal."""
        payouts = (o for o in self.fake.state.objects.values() if o["object"] == "payout")
        return str(next(o["id"] for o in payouts if o["metadata"]["wallet_withdrawal"] == withdrawal_id))

    def earn(self, person: Person, minor: int) -> tuple[str, str]:
        """Bring money in, and pay it; the ids of top-up and intent. No webhook is posted."""
        top_up_id = self.top_up(person, minor)["topUp"]["id"]
        intent_id = self.intent_of(top_up_id)
        self.fake.state.pay(intent_id)
        return top_up_id, intent_id

    def post(self, raw: bytes, header: str | None) -> httpx.Response:
        """Post bytes to the webhook."""
        headers = {"Content-Type": "application/json", **({"Stripe-Signature": header} if header is not None else {})}
        return httpx.post(f"{self.server.url}/webhooks/stripe", content=raw, headers=headers, timeout=patience(20))

    def tell(self, event: Body | None = None) -> int:
        """Post an event, the last one if none is given; answers the status."""
        raw, header = self.fake.signed(event or self.fake.state.events[-1], at=now())
        return self.post(raw, header).status_code


def now() -> int:
    """Unix time."""
    return int(time.time())


def signed(raw: bytes, secret: str, at: int | None = None) -> str:
    """The header for any bytes."""
    return sign(raw, secret, now() if at is None else at)


@contextmanager
def town_in(folder: Path, **settings: str) -> Iterator[Town]:
    """A server over SQLite whose sweeps do nothing by themselves, with money in the platform's balance."""
    with FakeStripe(("whsec_today", "whsec_tomorrow")) as fake:
        fake.state.now = now()
        fake.state.fund(1_000_000, "EUR")
        given = {"sweep_seconds": "3600", **settings_of(fake), **settings}
        with serving(folder, **given) as server:
            yield Town(server, fake)
