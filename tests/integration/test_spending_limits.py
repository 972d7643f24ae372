"""Spending limits by both APIs: seen, lowered at once, raised after a day, and told by a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.integration._server import new_key
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.users import FRESH
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.server.app import create_app
from wallet_gql.verbs.ledger import utc_now
from wallet_gql.verbs.spending import grant_limits

PASSWORD = "one long pass phrase"
MONEY = "{ minorUnits currency }"
LIMITS = f"{{ payment {MONEY} day {MONEY} newPayee {MONEY} }}"
STANDING = f"currency limits {LIMITS} own {LIMITS} raised {LIMITS} raisedAt spent {MONEY} remaining {MONEY} dayEndsAt"
SEEN = f"{{ viewer {{ spendingLimits {{ {STANDING} }} }} }}"
SET = f"""mutation($input: SetSpendingLimitsInput!) {{ setSpendingLimits(input: $input) {{ __typename
  ... on SetSpendingLimitsSuccess {{ spendingLimits {{ {STANDING} }} }} ... on WalletError {{ code }} }} }}"""
REFUSED = f"{{ __typename ... on SpendingLimitExceeded {{ code limit maximum {MONEY} remaining {MONEY} freeAt }} }}"
PAY = f"mutation($input: TransferInput!) {{ transfer(input: $input) {REFUSED} }}"
PREVIEW = f"query($input: PreviewInput!) {{ preview(input: $input) {{ refusal {REFUSED} }} }}"


class Ann:
    """Ann, with 100.00 EUR, over both APIs of a wallet with limits."""

    def __init__(self, wallet: Wallet, client: httpx.AsyncClient) -> None:
        self.wallet = wallet
        self.client = client
        self.account = ""

    async def join(self) -> None:
        """Sign up with Bob, log in, and get money."""
        ann, bob = [
            await self.wallet.identity.sign_up(name, f"{name}@example.org", PASSWORD) for name in ("anna", "bert")
        ]
        await self.wallet.ledger.open_account(bob.id, "EUR")
        account = await self.wallet.ledger.open_account(ann.id, "EUR")
        await self.wallet.ledger.deposit(OPERATOR, "seed", account.id, 10_000, "EUR")
        self.id, self.account = ann.id, account.id
        given = {"login": "anna", "password": PASSWORD, "session": "BEARER"}
        token = (await self.client.post("/v1/session", json=given)).json()["token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    async def graphql(self, query: str, given: Any = None) -> Any:
        """The first field of the answer."""
        answer = (await self.client.post("/graphql", json={"query": query, "variables": {"input": given}})).json()
        return next(iter(answer["data"].values()))

    async def put(self, **limits: str | None) -> httpx.Response:
        """Set the own limits by REST."""
        return await self.client.put("/v1/spending-limit", json={"currency": "EUR", **limits})

    async def pay(self, minor: int) -> httpx.Response:
        """Pay Bob by REST."""
        given = {"fromAccountId": self.account, "to": {"username": "bert"}}
        body = {**given, "amount": {"minorUnits": str(minor), "currency": "EUR"}}
        return await self.client.post("/v1/transfer", json=body, headers={"Idempotency-Key": new_key()})


@pytest.fixture
async def ann() -> AsyncIterator[Ann]:
    """Ann with the limits of the wallet: 50.00 at once, 80.00 a day; nothing is said of dollars."""
    limits = "EUR:payment=50.00,day=80.00"
    settings = load_settings(storage="memory://", rate_limits="off", mode="test", spending_limits=limits)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            made = Ann(wallet, client)
            await made.join()
            yield made


def euros(minor: int) -> dict[str, str]:
    """An amount as GraphQL shows it."""
    return {"minorUnits": str(minor), "currency": "EUR"}


async def test_both_apis_show_what_is_left_and_what_would_be_too_much(ann: Ann) -> None:
    """A refusal names the limit, what remains of it, and when it is free again."""
    assert (await ann.pay(4_500)).status_code == 201
    refused = (await ann.pay(4_000)).json()
    assert (refused["status"], refused["code"], refused["limit"]) == (409, "SPENDING_LIMIT_EXCEEDED", "DAY")
    assert (refused["maximumMinor"], refused["remainingMinor"]) == ("8000", "3500")
    (rest,) = (await ann.client.get("/v1/spending-limit")).json()["spendingLimits"]
    assert (rest["spent"]["minorUnits"], rest["remaining"]["minorUnits"]) == ("4500", "3500")
    assert refused["freeAt"] == rest["dayEndsAt"]
    given = {"fromAccountId": ann.account, "to": {"username": "bert"}, "amount": euros(5_001)}
    told = await ann.graphql(PAY, {**given, "idempotencyKey": new_key()})
    assert (await ann.graphql(PREVIEW, given))["refusal"] == told
    assert told == {
        "__typename": "SpendingLimitExceeded",
        "code": "SPENDING_LIMIT_EXCEEDED",
        "limit": "PAYMENT",
        "maximum": euros(5_000),
        "remaining": euros(5_000),
        "freeAt": None,
    }
    (seen,) = (await ann.graphql(SEEN))["spendingLimits"]
    assert (seen["spent"], seen["remaining"], seen["raised"]) == (euros(4_500), euros(3_500), None)


async def test_own_limits_fall_at_once_and_rise_later(ann: Ann) -> None:
    """The user is told by a security event, once for each change."""
    lowered = (await ann.put(day="1000")).json()
    assert (lowered["limits"]["day"]["minorUnits"], lowered["limits"]["payment"]["minorUnits"]) == ("1000", "5000")
    assert (await ann.pay(1_001)).json()["code"] == "SPENDING_LIMIT_EXCEEDED"
    raised = [await ann.graphql(SET, {"currency": "EUR", "day": "2000"}) for _ in range(2)]
    assert raised[0] == raised[1]
    found = raised[0]["spendingLimits"]
    assert (found["own"]["day"], found["raised"]["day"]) == (euros(1_000), euros(2_000))
    assert found["raisedAt"] is not None
    assert (await ann.pay(1_001)).json()["code"] == "SPENDING_LIMIT_EXCEEDED"
    events = (await ann.client.get("/v1/event")).json()["events"]
    assert [event["kind"] for event in events].count("SPENDING_LIMITS_CHANGED") == 2


async def test_an_operators_limits_replace_the_wallets_for_one_user(ann: Ann) -> None:
    """They may be higher, and hold at once; the user's own still lower them."""
    await grant_limits(ann.wallet.ledger, ann.id, "EUR", {"payment": 9_000, "day": 9_000})
    assert (await ann.pay(8_500)).status_code == 201
    await ann.put(payment="100")
    assert (await ann.pay(101)).json()["limit"] == "PAYMENT"


async def test_what_cannot_be_set_is_refused(ann: Ann) -> None:
    """A currency without limits, and what is no amount."""
    unknown = await ann.client.put("/v1/spending-limit", json={"currency": "USD", "day": "1"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "INVALID_INPUT")
    (problem,) = (await ann.put(day="0")).json()["problems"]
    assert (problem["path"], problem["code"], problem["reason"]) == (["day"], "INVALID_AMOUNT", "AMOUNT_POSITIVE")
    told = await ann.graphql(SET, {"currency": "EUR", "newPayee": "-1"})
    assert (told["__typename"], told["code"]) == ("InvalidInput", "INVALID_INPUT")


async def test_a_stolen_session_sets_no_limits(ann: Ann, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long after the log-in the password is due, by both APIs. What a thief has set, the operator lifts at once."""
    await ann.put(day="1")
    later = utc_now() + FRESH + timedelta(minutes=1)
    monkeypatch.setattr(ann.wallet.identity, "_clock", lambda: later)
    told = await ann.put(day="5000")
    assert (told.status_code, told.json()["code"]) == (403, "FRESH_LOG_IN_REQUIRED")
    assert (await ann.graphql(SET, {"currency": "EUR", "day": "5000"}))["code"] == "FRESH_LOG_IN_REQUIRED"
    assert (await ann.pay(2)).json()["limit"] == "DAY"
    await grant_limits(ann.wallet.ledger, ann.id, "EUR", {}, lifts_own=True)
    assert (await ann.pay(2)).status_code == 201
