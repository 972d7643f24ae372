"""Money in and out from end to end: GraphQL, REST, the command line, kill -9, and the answers without Stripe."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import stripe
from typer.testing import CliRunner, Result

from tests.integration._evidence import write_evidence
from tests.integration._server import Person, environment, new_key, run_cli, serving, settle_all
from tests.integration._stripe import (
    READ_TOP_UP,
    READ_WITHDRAWAL,
    TOP_UP,
    WITHDRAW,
    Town,
    settings_of,
    town_in,
)
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import ConfigurationError, InvalidInput
from wallet_gql.domain.ids import (
    OPERATOR,
    AccountId,
    UserId,
    make_account_id,
    make_hold_id,
    make_top_up_id,
    make_withdrawal_id,
)
from wallet_gql.domain.payments import NOTE_MAX
from wallet_gql.domain.topups import TopUp
from wallet_gql.domain.withdrawals import Withdrawal
from wallet_gql.integrations.stripe.api import StripeApi
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.cli.app import app

LIVE: Final = "sk_live_" + "abcdef0123456789"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One server for all of them."""
    with town_in(tmp_path_factory.mktemp("flows")) as made:
        yield made


def rest(  # noqa: PLR0917 - in the order of a request
    town: Town, person: Person, method: str, path: str, body: Any = None, key: str | None = None
) -> httpx.Response:
    """What REST answers."""
    headers = {"Authorization": f"Bearer {person.token}", **({"Idempotency-Key": key} if key else {})}
    return httpx.request(method, f"{town.server.url}{path}", json=body, headers=headers, timeout=patience(20))


def money(minor: int) -> dict[str, Any]:
    """An amount in EUR."""
    return {"minorUnits": str(minor), "currency": "EUR"}


def test_a_top_up_by_graphql(town: Town) -> None:
    """A top-up is requested, paid, reported and credited; its key returns it again; it is in lists and history."""
    person, key = town.person(), new_key()
    first = town.top_up(person, 1_230, key)
    assert (first["__typename"], first["replayed"], first["topUp"]["state"]) == (
        "TopUpSuccess",
        False,
        "AWAITING_PAYMENT",
    )
    assert first["clientSecret"].startswith("pi_")
    assert town.top_up(person, 1_230, key) == {**first, "replayed": True}
    assert town.top_up(person, 1_231, key)["code"] == "IDEMPOTENCY_KEY_REUSED"
    town.fake.state.pay(town.intent_of(first["topUp"]["id"]))
    assert town.tell() == 200
    found = town.ask(person, READ_TOP_UP, id=first["topUp"]["id"])
    assert (found["state"], found["clientSecret"]) == ("SUCCEEDED", None)
    links = "transfer { id kind topUp { id } withdrawal { id } }"
    history = f"{{ viewer {{ accounts {{ history(first: 9) {{ edges {{ node {{ {links} }} }} }} }} }} }}"
    (edge,) = town.ask(person, history)["accounts"][0]["history"]["edges"]
    assert edge["node"]["transfer"] == {
        **found["transfer"], "kind": "DEPOSIT", "topUp": {"id": first["topUp"]["id"]}, "withdrawal": None,
    }  # fmt: skip
    listed = town.ask(
        person, "{ viewer { topUps(first: 10) { nodes { id state } } withdrawals(first: 10) { nodes { id } } } }"
    )
    assert listed == {
        "topUps": {"nodes": [{"id": first["topUp"]["id"], "state": "SUCCEEDED"}]},
        "withdrawals": {"nodes": []},
    }


def test_a_withdrawal_by_graphql(town: Town) -> None:
    """The money is held at once, and leaves when the bank has it."""
    person, key = town.person(1_000), new_key()
    first = town.withdraw(person, 400, key)
    assert (first["withdrawal"]["state"], first["fromAccount"]["held"]["minorUnits"]) == ("IN_TRANSIT", "400")
    assert town.withdraw(person, 400, key)["replayed"] is True
    payout_id = town.payout_of(first["withdrawal"]["id"])
    town.fake.state.settle_payout(payout_id, "paid")
    assert town.tell() == 200
    found = town.ask(person, READ_WITHDRAWAL, id=first["withdrawal"]["id"])
    account = town.account(person)
    assert (found["state"], account.posted_minor, account.held_minor) == ("PAID", 600, 0)
    assert town.withdraw(person, 601)["code"] == "INSUFFICIENT_FUNDS"
    assert town.withdraw(town.person(1_000, bank=False), 100)["__typename"] == "PayoutAccountMissing"
    hold = town.ask(town.person(), "query($id: ID!) { withdrawal(id: $id) { state } }", id=first["withdrawal"]["id"])
    assert hold is None


def test_nobody_but_its_flow_closes_a_withdrawals_hold(town: Town) -> None:
    """Neither its owner nor time does."""
    person = town.person(1_000)
    withdrawal_id = town.withdraw(person, 400)["withdrawal"]["id"]
    hold_id = town.ask(person, "query($id: ID!) { withdrawal(id: $id) { hold { id } } }", id=withdrawal_id)["hold"][
        "id"
    ]
    for verb in ("captureHold", "voidHold"):
        query = f"mutation($input: {verb[0].upper()}{verb[1:]}Input!) {{ {verb}(input: $input) {{ __typename }} }}"
        assert (
            town.ask(person, query, input={"idempotencyKey": new_key(), "holdId": hold_id})["__typename"] == "Refusal"
        )
    hold = town.ask(person, "query($id: ID!) { hold(id: $id) { state expiresAt closable } }", id=hold_id)
    assert hold == {"state": "OPEN", "expiresAt": None, "closable": False}


def test_both_by_rest(town: Town) -> None:
    """201 and then 200 with the same answer; reading and listing; refusals with their status."""
    person, key = town.person(1_000), new_key()
    body = {"toAccountId": person.account_id, "amount": money(500)}
    made = rest(town, person, "POST", "/v1/top-up", body, key)
    again = rest(town, person, "POST", "/v1/top-up", body, key)
    assert (made.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    first, second = made.json()["topUp"], again.json()["topUp"]
    assert int(second.pop("version")) >= int(first.pop("version"))  # the provider was asked once more
    assert first == second
    where = made.headers["Location"]
    assert rest(town, person, "GET", where).json()["state"] == "AWAITING_PAYMENT"
    assert rest(town, town.person(), "GET", where).status_code == 404
    out = {"fromAccountId": person.account_id, "amount": money(300), "reference": "rent"}
    asked = rest(town, person, "POST", "/v1/withdrawal", out, new_key())
    assert (asked.status_code, asked.json()["withdrawal"]["state"]) == (201, "IN_TRANSIT")
    assert rest(town, person, "GET", asked.headers["Location"]).json()["holdId"].startswith("hld_")
    for path, name in (("/v1/top-up", "topUps"), ("/v1/withdrawal", "withdrawals")):
        page = rest(town, person, "GET", f"{path}?first=1").json()
        assert (len(page[name]), page["next"]) == (1, None)
    refused = rest(town, person, "POST", "/v1/withdrawal", {**out, "amount": money(9_999)}, new_key())
    assert (refused.status_code, refused.json()["code"]) == (409, "INSUFFICIENT_FUNDS")
    jpy = {**body, "amount": {"minorUnits": "500", "currency": "JPY"}}
    assert rest(town, person, "POST", "/v1/top-up", jpy, new_key()).json()["code"] == "CURRENCY_MISMATCH"
    isk = {**body, "amount": {"minorUnits": "500", "currency": "ISK"}}
    assert rest(town, person, "POST", "/v1/top-up", isk, new_key()).json()["code"] == "INVALID_INPUT"


def test_reconcile_and_lists_by_the_command_line(tmp_path: Path) -> None:
    """A lost webhook is settled; remaining differences are listed, with exit code 1; no output shows a secret."""
    with town_in(tmp_path) as town:
        person = town.person(1_000)
        stripe = settings_of(town.fake)

        def cli(*arguments: str) -> Result:
            return CliRunner().invoke(app, arguments, env=environment(town.server.storage, **stripe))

        top_up_id, intent_id = town.earn(person, 800)
        withdrawal_id = town.withdraw(person, 200)["withdrawal"]["id"]
        told = cli("reconcile", "--no-settle", "--json")
        assert told.exit_code == 1
        plain = json.loads(told.stdout)
        assert {one["about"]: one["inFlight"] for one in plain["differences"]} == {
            intent_id: False,
            withdrawal_id: True,
        }
        done = cli("reconcile")
        assert done.exit_code == 0, done.output
        assert "settled  1" in done.stdout
        assert town.account(person).posted_minor == 1_800
        found = json.loads(cli("payments", "list", "--json").stdout)
        assert (found["id"], found["state"], found["stripe"]) == (top_up_id, "succeeded", intent_id)
        assert withdrawal_id in cli("payments", "list", "--kind", "withdrawals").stdout
        _, strange = town.earn(person, 700)
        town.fake.state.objects[strange]["metadata"] = {"wallet_top_up": "top_0193a1b2c3d47f00812345678abcdef0"}
        town.fake.state.fund(1, "EUR")
        assert cli("reconcile").exit_code == 1
        assert strange in cli("payments", "alarms").stdout
        _settle_by_command(cli, strange)
        shown = cli("payments", "payout-account", person.username, "acct_other123")
        assert "acct_other123" in shown.stdout
        assert isinstance(cli("payments", "payout-account", person.username, "https://evil").exception, InvalidInput)
        town.fake.faults.append("lose_answer")
        silent = cli("reconcile")
        assert silent.exit_code == 2
        assert "does not answer" in silent.stderr
        for text in (done.stdout, silent.stderr, town.server.log):
            assert town.fake.key not in text
            assert "_secret_" not in text


def _settle_by_command(cli: Callable[..., Result], about: str) -> None:
    """The operator says that the only alarm was seen to: once, with a note, under the id that the list shows."""
    alarm = json.loads(cli("payments", "alarms", "--json").stdout)
    assert (alarm["about"], alarm["settlement"]) == (about, None)
    for note, named in (("", "note"), ("two\nlines", "U+000A"), ("x" * (NOTE_MAX + 1), str(NOTE_MAX))):
        refused = cli("payments", "settle", alarm["id"], "--note", note).exception
        assert isinstance(refused, InvalidInput)
        assert named in str(refused)
    assert cli("payments", "settle", alarm["id"]).exit_code == 2
    for unknown in (about, alarm["id"][:-1], f"{alarm['id'][:-1]}{'01'[alarm['id'][-1] == '0']}"):
        refused = cli("payments", "settle", unknown, "--note", "seen").exception
        assert isinstance(refused, InvalidInput)
        assert "payments alarms" in str(refused)
    assert len(cli("payments", "alarms").stdout.splitlines()) == 1
    done = json.loads(cli("payments", "settle", alarm["id"], "--note", "refunded at Stripe", "--json").stdout)
    assert (done["settledBefore"], done["settlement"]["note"], done["settlement"]["by"]) == (
        False,
        "refunded at Stripe",
        OPERATOR,
    )
    again = cli("payments", "settle", alarm["id"], "--note", "or was it?")
    assert again.exit_code == 0
    assert "refunded at Stripe" in again.stdout
    assert "or was it?" not in again.stdout
    assert cli("payments", "alarms", "--json").stdout == ""
    assert cli("payments", "alarms").stderr == "no open alarms\n"
    assert json.loads(cli("payments", "alarms", "--all", "--json").stdout) == {
        **alarm,
        "settlement": done["settlement"],
    }
    assert "refunded at Stripe" in cli("payments", "alarms", "--all").stdout


def test_without_stripe_everything_says_so(tmp_path: Path) -> None:
    """A typed error and no key used up; what was there can still be read; the webhook is not there."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    (person,) = settle_all(storage, 1_000)
    with serving(tmp_path, storage=storage) as server, FakeStripe() as fake:
        town = Town(server, fake)
        for query, name in ((TOP_UP, "toAccountId"), (WITHDRAW, "fromAccountId")):
            given = {"idempotencyKey": "k", name: person.account_id, "amount": money(100)}
            told = town.ask(person, query, input=given)
            assert (told["__typename"], told["code"]) == ("PaymentsNotConfigured", "PAYMENTS_NOT_CONFIGURED")
            path = "/v1/top-up" if query is TOP_UP else "/v1/withdrawal"
            body = {name: person.account_id, "amount": money(100)}
            assert rest(town, person, "POST", path, body, "k").json()["code"] == "PAYMENTS_NOT_CONFIGURED"
        assert town.ask(person, "{ viewer { topUps(first: 1) { nodes { id } } } }") == {"topUps": {"nodes": []}}
        assert town.post(b"{}", "t=1,v1=00").status_code == 404
    done = run_cli(tmp_path, "reconcile", storage=storage)
    assert (done.returncode, "no payment provider" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({"stripe_api_key": LIVE}, "WALLET_STRIPE_API_KEY"),
        ({"stripe_api_key": LIVE, "mode": "production", "stripe_api_base": "https://elsewhere.example"}, "API_BASE"),
        ({"stripe_api_key": "pk_test_0123456789"}, "WALLET_STRIPE_API_KEY"),
        ({"stripe_api_key": "sk_test_0123456789", "stripe_api_base": "http://elsewhere.example"}, "API_BASE"),
        ({"stripe_api_key": "sk_test_0123456789", "stripe_webhook_secrets": "whsec_a secret"}, "WEBHOOK_SECRETS"),
        ({"stripe_webhook_secrets": "whsec_a"}, "WALLET_STRIPE_WEBHOOK_SECRETS"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, str], about: str) -> None:
    """A live key outside production, or sent elsewhere, and whatever is no key or secret; no secret is repeated."""
    with pytest.raises(ConfigurationError) as refused:
        load_settings(**{"mode": "development", **settings})
    assert about in refused.value.message
    for name in ("stripe_api_key", "stripe_webhook_secrets"):
        assert settings.get(name, "\0") not in refused.value.message


def test_keys_are_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not by `config`, `demo` or `repr`, nor in the library's debug log."""
    secrets = {"stripe_api_key": "sk_test_0123456789abcdef", "stripe_webhook_secrets": "whsec_0123456789"}
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    for arguments in (("config", "show"), ("config", "show", "--json"), ("config", "check")):
        done = run_cli(tmp_path, *arguments, storage=storage, **secrets)
        assert done.returncode == 0, done.stderr
        assert not [one for one in secrets.values() if one in done.stdout + done.stderr]
    demo = run_cli(tmp_path, "demo", "--no-browser", storage=storage, stripe_api_key=LIVE)
    assert (demo.returncode, LIVE in demo.stdout + demo.stderr) == (2, False)
    assert "live key" in demo.stderr
    settings = load_settings(**secrets)
    assert settings.webhook_secrets == ("whsec_0123456789",)
    assert not [one for one in secrets.values() if one in repr(settings)]
    with caplog.at_level(logging.DEBUG):
        assert "sk_test" not in repr(StripeApi(secrets["stripe_api_key"]))


POINTS: Final = ("topup.answered", "withdrawal.requested", "withdrawal.sent", "withdrawal.paid_out")


def both(town: Town, person: Person) -> tuple[Any, Any]:
    """A top-up and a withdrawal, each under its one key."""
    return town.top_up(person, 500, "in"), town.withdraw(person, 300, "out")


def states_of(first: Any, second: Any) -> tuple[Any, Any]:
    """Theirs; None of one that was not begun."""
    return first.get("topUp", {}).get("state"), second.get("withdrawal", {}).get("state")


@pytest.mark.trial
@pytest.mark.parametrize("point", POINTS)
def test_kill_9_between_two_phases(tmp_path: Path, point: str) -> None:
    """The server is killed there; the next one goes on by itself, and each intent has happened once."""
    with FakeStripe() as fake:
        fake.state.now = int(time.time())
        fake.state.fund(1_000_000, "EUR")
        storage = f"sqlite:///{tmp_path / 'wallet.db'}"
        settings = {
            **settings_of(fake),
            "storage": storage,
            "sweep_seconds": "3600",
            "stripe_timeout_seconds": f"{patience(1):.1f}",
        }
        with serving(tmp_path, **settings, failpoints=f"{point}=kill@1") as server:
            town = Town(server, fake)
            person = town.person(1_000)
            with pytest.raises((httpx.TransportError, ConnectionError)):
                wait_until(lambda: not both(town, person), 30, "it lives on", 0.5)  # a busy machine may miss an answer
            assert server.process.wait(timeout=patience(30)) == -signal.SIGKILL
        with serving(tmp_path, **settings) as server:
            town = Town(server, fake)
            until = time.monotonic() + patience(20)
            wanted = ("AWAITING_PAYMENT", "IN_TRANSIT")
            while (found := states_of(*both(town, person))) != wanted and time.monotonic() < until:
                time.sleep(0.5)  # until the lease of the dead has ended, and calls are answered in time
            assert found == wanted
            first, second = both(town, person)
            fake.state.pay(town.intent_of(first["topUp"]["id"]))
            assert town.tell() == 200
            fake.state.settle_payout(town.payout_of(second["withdrawal"]["id"]), "paid")
            assert town.tell() == 200
            assert town.account(person).posted_minor == 1_200
            assert town.look(lambda wallet: audit(wallet.store)).clean
            assert not town.look(lambda wallet: wallet.payments.reconciler.run(settle=False)).differences
        kinds = [one["object"] for one in fake.state.objects.values()]
        assert {kind: kinds.count(kind) for kind in ("payment_intent", "transfer", "payout")} == {
            "payment_intent": 1,
            "transfer": 1,
            "payout": 1,
        }


MOCK: Final = shutil.which("stripe-mock")


@pytest.mark.soak
@pytest.mark.skipif(MOCK is None, reason="stripe-mock is not on the PATH (go install github.com/stripe/stripe-mock)")
def test_stripes_own_description_accepts_every_request() -> None:
    """`stripe-mock` checks parameters against Stripe's OpenAPI file and refuses what it does not know."""
    assert MOCK is not None
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [MOCK, "-http-port", str(port), "-strict-version-check=false"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}) as mock:
        try:
            asyncio.run(_every_request(f"http://127.0.0.1:{port}"))
        finally:
            mock.terminate()
    version = subprocess.run([MOCK, "-version"], capture_output=True, text=True, check=True).stdout.strip()
    text = (
        f"`{version}` holds Stripe's OpenAPI description and checks each request. It accepted every request\n"
        "that the wallet makes: PaymentIntents (create, retrieve, cancel), refunds and disputes (list), transfers\n"
        "(create, list, retrieve), reversals (create), payouts (create, list, retrieve), balance transactions (list);\n"
        "and it refused one with a parameter that Stripe does not know. It keeps no state: what follows from the\n"
        "requests is tested against the stand-in."
    )
    write_evidence("stripe-mock", "Requests against Stripe's own description", "make soak ARGS='-k description'", text)


async def _every_request(url: str) -> None:
    api = StripeApi("sk_test_0123456789", base_url=url)
    at_ms, at = 1_790_000_000_000, datetime(2026, 11, 22, tzinfo=UTC)
    owner, account = UserId("usr_x"), AccountId(make_account_id(7, at_ms, 1))
    top_up = TopUp(make_top_up_id(7, at_ms, 2), owner, account, 1_000, "EUR", at, intent_id="pi_123")
    hold, name = make_hold_id(7, at_ms, 3), make_withdrawal_id(7, at_ms, 4)
    withdrawal = Withdrawal(name, owner, account, hold, 1_000, "EUR", "acct_123", at, sent_id="tr_123")
    for _ in range(100):
        try:
            await api.intent("pi_123")
            break
        except Exception:  # noqa: BLE001 - it is still starting
            await asyncio.sleep(0.1)
    made = await api.create_intent(top_up)
    assert re.fullmatch(r"pi_\w+", made.seen.id)
    await api.cancel_intent(top_up)
    assert await api.clawbacks("pi_123")
    assert (await api.send(withdrawal)).startswith("tr_")
    await api.find_sent(withdrawal)
    assert (await api.pay_out(withdrawal)).id.startswith("po_")
    await api.find_payout(withdrawal)
    assert (await api.payout("po_123", "acct_123")).destination == "acct_123"
    await api.take_back(withdrawal)
    await api.is_taken_back(withdrawal)
    assert [moved async for moved in api.movements()]
    with pytest.raises(stripe.InvalidRequestError):  # so it does refuse what Stripe does not know
        await api._client.v1.transfers.create_async({"amount": 1, "to": "x"})  # type: ignore[typeddict-unknown-key, typeddict-item]  # on purpose
    await api.close()
