"""Merchants over GraphQL, REST and the command line, on a real server with a real webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Client, Person, Server, new_key, settle, settle_all
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.transports.cli.app import app

ERROR: Final = "... on WalletError { code message retryable }"
REGISTER: Final = f"""mutation($input: RegisterMerchantInput!) {{ registerMerchant(input: $input) {{ __typename
  ... on RegisterMerchantSuccess {{ webhookSecret merchant {{ name feeBasisPoints webhookUrl
    delivery {{ positions {{ account {{ id }} sequence }} failures nextAttemptAt }} }} }} {ERROR} }} }}"""
UPDATE: Final = f"""mutation($input: UpdateMerchantInput!) {{ updateMerchant(input: $input) {{ __typename
  ... on UpdateMerchantSuccess {{ merchant {{ name webhookUrl }} }} {ERROR} }} }}"""
ROTATE: Final = f"""mutation {{ rotateWebhookSecret {{ __typename
  ... on RotateWebhookSecretSuccess {{ webhookSecret merchant {{ name }} }} {ERROR} }} }}"""
REPLAY: Final = f"""mutation($input: ReplayEventsInput!) {{ replayEvents(input: $input) {{ __typename
  ... on ReplayEventsSuccess {{ merchant {{ name }} }} {ERROR} }} }}"""
PAY: Final = f"""mutation($input: PayMerchantInput!) {{ payMerchant(input: $input) {{ __typename
  ... on PayMerchantSuccess {{ replayed credited payment {{ id kind amount {{ minorUnits }} fee {{ minorUnits }} }}
    splits {{ transfers {{ id kind amount {{ minorUnits }} }} }} hold {{ id state }}
    fromAccount {{ posted {{ minorUnits }} }} }} {ERROR} }} }}"""
REFUND: Final = f"""mutation($input: RefundPaymentInput!) {{ refundPayment(input: $input) {{ __typename
  ... on RefundPaymentSuccess {{ replayed refund {{ kind reverses {{ id }} amount {{ minorUnits }} }}
    fromAccount {{ posted {{ minorUnits }} }} }} {ERROR} }} }}"""
CAPTURE: Final = f"""mutation($input: CaptureHoldInput!) {{ captureHold(input: $input) {{ __typename
  ... on CaptureHoldSuccess {{ transfer {{ id fee {{ minorUnits }} }} }} {ERROR} }} }}"""
MERCHANT: Final = "query($name: String!) { merchant(username: $name) { username name } }"
VIEWER: Final = """{ viewer { merchant { name feeBasisPoints webhookUrl createdAt delivery { failures lastError
  nextAttemptAt deadLetterCount positions { account { id } sequence }
  deadLetters(first: 10) { nodes { sequence error } } } } } }"""


@dataclass
class Shop:
    """A merchant's server: what it got, and what it answers."""

    url: str = ""
    events: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The events, once there are so many."""
        wait_until(lambda: len(self.events) >= count, 20, f"no {count} events")
        return [json.loads(body) for _, body in self.events]


@pytest.fixture
def shop() -> Iterator[Shop]:
    """Listens on loopback."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            shop.events.append((dict(self.headers.items()), body))
            self.send_response(shop.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}/events"
    yield shop
    server.shutdown()
    thread.join()
    server.server_close()


SETTINGS: Final = {
    "webhook_private_targets": "true",
    "webhook_retry_seconds": "0.05",
    "sweep_seconds": "0.05",
    "merchant_fee_basis_points": "250",
}

pytestmark = pytest.mark.serving(proved=True, **SETTINGS)


@dataclass
class Town:
    """A server, a payer, a merchant and somebody who shares."""

    server: Server
    payer: Person
    seller: Person
    ann: Person


@pytest.fixture
def town(server: Server) -> Town:
    """New people."""
    return Town(server, *settle_all(server.storage, 10_000, 0, 0))


def bill(town: Town, minor: int, **more: Any) -> dict[str, Any]:
    """The input of a payment to the seller."""
    amount = {"minorUnits": str(minor), "currency": "EUR"}
    given = {"idempotencyKey": new_key(), "fromAccountId": town.payer.account_id, "merchant": town.seller.username}
    return {**given, "amount": amount, **more}


@pytest.mark.slow
@pytest.mark.backend("sqlite")
def test_a_merchant_over_graphql(town: Town, shop: Shop) -> None:
    """Register, be paid with a split and by a hold, refund, get all events in order, rotate, replay."""
    payer, seller = Client(town.server.url, town.payer.token), Client(town.server.url, town.seller.token)
    with payer, seller:
        assert seller.run(VIEWER)["merchant"] is None
        assert payer.run(PAY, {"input": bill(town, 10)})["code"] == "NOT_A_MERCHANT"
        made = seller.run(REGISTER, {"input": {"name": "The Shop", "webhookUrl": f"{shop.url}?token=hush"}})
        assert made["merchant"]["feeBasisPoints"] == 250
        assert made["merchant"]["delivery"]["positions"] == [
            {"account": {"id": town.seller.account_id}, "sequence": "0"}
        ]
        assert seller.run(REGISTER, {"input": {"name": "Again"}})["code"] == "MERCHANT_EXISTS"
        found = payer.run(MERCHANT, {"name": town.seller.username.upper()})
        assert found == {"username": town.seller.username, "name": "The Shop"}
        assert payer.run(MERCHANT, {"name": town.ann.username}) is None

        given = bill(town, 1_000, splits=[{"to": {"username": town.ann.username}, "basisPoints": 2_000}])
        paid = payer.run(PAY, {"input": given})
        assert (paid["payment"]["kind"], paid["payment"]["amount"], paid["payment"]["fee"]) == (
            "PAYMENT", {"minorUnits": "800"}, {"minorUnits": "25"},
        )  # fmt: skip
        assert [one["amount"] for one in paid["splits"]["transfers"]] == [{"minorUnits": "200"}]
        assert paid["fromAccount"]["posted"] == {"minorUnits": "9000"}
        again = payer.run(PAY, {"input": given})
        assert (again["replayed"], again["payment"], again["splits"]) == (True, paid["payment"], paid["splits"])

        held = payer.run(PAY, {"input": bill(town, 400, hold={"expiresInSeconds": 60})})
        assert (held["payment"], held["hold"]["state"]) == (None, "OPEN")
        taken = seller.run(CAPTURE, {"input": {"idempotencyKey": new_key(), "holdId": held["hold"]["id"]}})
        assert taken["transfer"]["fee"] == {"minorUnits": "10"}
        both = bill(town, 400, hold={"expiresInSeconds": 60}, splits=given["splits"])
        assert payer.run(PAY, {"input": both})["code"] == "INVALID_INPUT"

        refund = {"idempotencyKey": new_key(), "paymentId": paid["payment"]["id"], "minorUnits": "1000"}
        back = seller.run(REFUND, {"input": refund})
        assert back["refund"]["reverses"]["id"] == paid["payment"]["id"]
        assert seller.run(REFUND, {"input": refund})["replayed"] is True
        more = {**refund, "idempotencyKey": new_key(), "minorUnits": "1"}
        assert seller.run(REFUND, {"input": more})["code"] == "REVERSAL_EXCEEDS_ORIGINAL"
        assert payer.run(REFUND, {"input": {**more, "idempotencyKey": new_key()}})["code"] == "NOT_PERMITTED"

        told = shop.wait_for(3)
        assert [one["type"] for one in told] == ["payment.received", "payment.received", "reversal.sent"]
        assert [one["data"]["sequence"] for one in told] == [1, 2, 3]
        headers, body = shop.events[0]
        assert Webhook(made["webhookSecret"]).verify(body, headers) == told[0]
        rotated = seller.run(ROTATE)
        replay = {"accountId": town.seller.account_id, "fromSequence": "3"}
        assert seller.run(REPLAY, {"input": replay})["merchant"] == {"name": "The Shop"}
        shop.wait_for(4)
        headers, body = shop.events[3]
        for secret in (made["webhookSecret"], rotated["webhookSecret"]):
            Webhook(secret).verify(body, headers)
        assert {name: value for name, value in headers.items() if name.lower() == "webhook-id"} == {
            name: value for name, value in shop.events[2][0].items() if name.lower() == "webhook-id"
        }
        for secret in (made["webhookSecret"], rotated["webhookSecret"], "hush"):
            assert secret not in town.server.log


@pytest.mark.slow
@pytest.mark.backend("sqlite")
def test_a_webhook_that_fails_and_the_command_line(
    town: Town, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing webhook shows in `viewer`, in `merchants status`; its dead letters are listed and replayed."""
    with Client(town.server.url, town.payer.token) as payer, Client(town.server.url, town.seller.token) as seller:
        seller.run(REGISTER, {"input": {"name": "The Shop", "webhookUrl": shop.url}})
        shop.status = 410
        payer.run(PAY, {"input": bill(town, 100)})
        shop.wait_for(1)
        delivery = failed(seller)
        assert (delivery["lastError"], delivery["nextAttemptAt"]) == ("status 410", None)
        shop.status = 204
        off = seller.run(UPDATE, {"input": {"webhook": False, "name": "The Other Shop"}})
        assert off["merchant"] == {"name": "The Other Shop", "webhookUrl": None}
        assert seller.run(UPDATE, {"input": {"webhook": True}})["code"] == "INVALID_INPUT"
        seller.run(UPDATE, {"input": {"webhookUrl": shop.url}})
        assert [one["data"]["sequence"] for one in shop.wait_for(2)] == [1, 1]

        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("WALLET_STORAGE", town.server.storage)

        def cli(*arguments: str) -> Any:
            done = CliRunner().invoke(app, ["merchants", *arguments, "--json"])
            assert done.exit_code == 0, done.output
            return [json.loads(line) for line in done.output.splitlines()]

        assert cli("fee", town.seller.username, "100") == [{"merchant": town.seller.username, "feeBasisPoints": 100}]
        paid = payer.run(PAY, {"input": bill(town, 100)})
        assert paid["payment"]["fee"] == {"minorUnits": "1"}
        shop.wait_for(3)
        (status,) = cli("status", town.seller.username)
        assert (status["name"], status["feeBasisPoints"], status["deadLetters"]) == ("The Other Shop", 100, 0)
        assert "secret" not in json.dumps(status).lower()
        assert cli("dead-letters") == []
        cli("replay", town.seller.username, town.seller.account_id, "1")
        assert [one["data"]["sequence"] for one in shop.wait_for(5)[3:]] == [1, 2]
        for wrong in (("status", "nobody"), ("replay", town.seller.username, town.payer.account_id, "1")):
            assert isinstance(CliRunner().invoke(app, ["merchants", *wrong]).exception, WalletError)


def failed(seller: Client) -> dict[str, Any]:
    """The merchant's delivery, once something went wrong with it."""
    seen: list[dict[str, Any]] = []

    def has_failed() -> bool:
        seen.append(seller.run(VIEWER)["merchant"]["delivery"])
        return bool(seen[-1]["lastError"])

    wait_until(has_failed, 20, "nothing failed")
    return seen[-1]


@pytest.mark.slow
@pytest.mark.backend("sqlite")
def test_a_merchant_over_rest(town: Town, shop: Shop) -> None:
    """The same by REST: each operation, its refusals, and its replay."""

    def http(person: Person) -> httpx.Client:
        return httpx.Client(
            base_url=town.server.url, headers={"Authorization": f"Bearer {person.token}"}, timeout=patience(20)
        )

    with http(town.payer) as payer, http(town.seller) as seller:
        assert seller.get("/v1/merchant").status_code == 404
        made = seller.post("/v1/merchant", json={"name": "The Shop", "webhookUrl": shop.url})
        assert (made.status_code, made.json()["merchant"]["feeBasisPoints"]) == (201, 250)
        assert seller.post("/v1/merchant", json={"name": "The Shop"}).status_code == 409
        assert seller.patch("/v1/merchant", json={"webhookUrl": "ftp://x"}).status_code == 400
        assert seller.patch("/v1/merchant", json={"name": "New"}).json()["name"] == "New"
        public = payer.get("/v1/merchant/public", params={"username": town.seller.username})
        assert public.json() == {"username": town.seller.username, "name": "New"}
        assert payer.get("/v1/merchant/public", params={"username": "nobody"}).status_code == 404
        assert seller.post("/v1/merchant/secret").json()["webhookSecret"].startswith("whsec_")

        given = {name: value for name, value in bill(town, 1_000).items() if name != "idempotencyKey"}
        split = {**given, "splits": [{"to": {"username": town.ann.username}, "basisPoints": 5_000}]}
        key = {"Idempotency-Key": new_key()}
        paid, again = (payer.post("/v1/payment", json=split, headers=key) for _ in range(2))
        assert (paid.status_code, again.status_code) == (201, 200)
        assert again.headers["idempotent-replayed"] == "true"
        assert [one["amount"]["minorUnits"] for one in paid.json()["splits"]] == ["500"]
        assert paid.json()["payment"]["fee"]["minorUnits"] == "25"
        refund = seller.post(
            f"/v1/payment/{paid.json()['payment']['id']}/refund", json={"minorUnits": "400"}, headers={**key}
        )
        assert (refund.status_code, refund.json()["transfer"]["amount"]["minorUnits"]) == (201, "400")
        held = payer.post("/v1/payment/hold", json=given, headers={"Idempotency-Key": new_key()})
        assert (held.status_code, held.json()["hold"]["state"]) == (201, "OPEN")
        assert payer.post("/v1/payment/trf_x/refund", json={}, headers={"Idempotency-Key": "x"}).status_code == 404
        shop.wait_for(2)
        replayed = seller.post("/v1/merchant/replay", json={"accountId": town.seller.account_id, "fromSequence": 1})
        assert replayed.json()["positions"] == [{"accountId": town.seller.account_id, "sequence": "0"}]
        assert len(shop.wait_for(4)) == 4
        assert seller.get("/v1/merchant/dead-letter").json() == {"deadLetters": [], "next": None}
        wrong = {"accountId": town.payer.account_id, "fromSequence": 1}
        assert seller.post("/v1/merchant/replay", json=wrong).status_code == 404
        assert "not documented" not in town.server.log


@pytest.mark.backend("sqlite")
async def test_private_targets_need_the_setting(tmp_path: Path) -> None:
    """Without it, loopback and plain http are refused, and nothing is stored."""
    async with wallet_in(tmp_path) as wallet:
        seller = await settle(wallet)
        for url in ("http://shop.example/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest"):
            made = await ask(wallet, seller.token, REGISTER, {"input": {"name": "The Shop", "webhookUrl": url}})
            assert made["code"] == "INVALID_INPUT"
        assert (await ask(wallet, seller.token, VIEWER))["merchant"] is None
