"""`wallet-gql stripe-stand-in`: a live wallet takes its signed events, and its card page leads there and back."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import httpx
import pytest

from tests.integration._forking import start
from tests.integration._server import Client, Person, command, environment, new_key, run_cli, serving, settle
from tests.integration._stripe import READ_TOP_UP, READ_WITHDRAWAL, TOP_UP, WITHDRAW
from wallet_gql.books.audit import audit
from wallet_gql.domain.ids import UserId
from wallet_gql.integrations.stripe_stand_in.cards import DECLINED, PAYS
from wallet_gql.integrations.stripe_stand_in.running import FAILING
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience, wait_until

BACK: Final = {"success_url": "http://127.0.0.1:1/#/paid", "cancel_url": "http://127.0.0.1:1/#/not"}
WAIT_SECONDS: Final = 30.0


@dataclass
class Post:
    """Stands before a wallet whose address is not known yet: passes on what is posted, and says 503 until then."""

    wallet: str = ""
    statuses: list[int] = field(default_factory=list)
    """What each posting was answered."""


class _Handler(BaseHTTPRequestHandler):
    post: Post

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Content-Type", "Stripe-Signature")}
        url = self.post.wallet + self.path
        status = (
            httpx.post(url, content=raw, headers=headers, timeout=patience(30)).status_code if self.post.wallet else 503
        )
        self.post.statuses.append(status)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def posting() -> Iterator[tuple[Post, str]]:
    """A `Post`, and its address."""
    post = Post()
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"post": post}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield post, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def standing_in(folder: Path, wallet: str) -> Iterator[dict[str, str]]:
    """The command, running; the settings that it prints."""
    line = command("stripe-stand-in", "--port", "0", "--wallet", wallet, "--bank-seconds", "0")
    with start(line, stdout=PIPE, stderr=PIPE, cwd=folder, env=environment("sqlite:///none.db")) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "The bank returns" not in printed:
                told = process.stdout.readline()
                assert told, process.stderr.read() if process.stderr else ""
                printed += told
            found = re.findall(r"^  export WALLET_(\w+)=(\S+)$", printed, re.MULTILINE)
            yield {name.lower(): value for name, value in found}
            process.terminate()
            assert process.wait(timeout=patience(30)) == 0
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_live_wallet_takes_its_events(tmp_path: Path) -> None:
    """Money comes in by a card and goes out to a bank, or comes back from it; every event is taken, at last."""
    with (
        posting() as (post, address),
        standing_in(tmp_path, address) as settings,
        serving(tmp_path, sweep_seconds="3600", **settings) as server,
    ):
        ann, ben = asyncio.run(settled(server.storage))
        with Client(server.url, ann.token) as client, Client(server.url, ben.token) as other:
            amount = {"minorUnits": 2_500, "currency": "EUR"}
            given = {"idempotencyKey": new_key(), "toAccountId": ann.account_id, "amount": amount}
            top_up = client.run(TOP_UP, {"input": given})
            assert top_up["__typename"] == "TopUpSuccess", top_up
            wait_until(lambda: 503 in post.statuses, WAIT_SECONDS, "an event that is not taken yet")
            pay(settings["stripe_api_base"] + "/pay", top_up["clientSecret"])
            post.wallet = server.url
            about = {"id": top_up["topUp"]["id"]}
            wait_until(lambda: state(client, READ_TOP_UP, about) == "SUCCEEDED", WAIT_SECONDS, "the money")
            for one, person, minor, end in ((client, ann, 1_000, "PAID"), (other, ben, 500, "FAILED")):
                amount = {"minorUnits": minor, "currency": "EUR"}
                given = {"idempotencyKey": new_key(), "fromAccountId": person.account_id, "amount": amount}
                about = {"id": one.run(WITHDRAW, {"input": given})["withdrawal"]["id"]}
                wait_until(lambda o=one, a=about, e=end: state(o, READ_WITHDRAWAL, a) == e, WAIT_SECONDS, end)  # type: ignore[misc]  # of this round
        assert set(post.statuses) == {200, 503}
        asyncio.run(check(server.storage, settings))


async def settled(storage: str) -> tuple[Person, Person]:
    """Two people whose withdrawals arrive, and come back."""
    async with open_wallet(load_settings(storage=storage), sweeps=False) as wallet:
        ann, ben = await settle(wallet), await settle(wallet, 500)
        for person, connected in ((ann, "acct_ann1"), (ben, f"acct_ben{FAILING}")):
            await wallet.payments.withdrawals.set_payout_account(UserId(person.id), connected)
        return ann, ben


async def check(storage: str, settings: dict[str, str]) -> None:
    """The books are sound, and the stand-in has the same money."""
    async with open_wallet(load_settings(storage=storage, mode="test", **settings), sweeps=False) as wallet:
        assert (await audit(wallet.store)).clean
        assert (await wallet.payments.reconciler.run()).clean


def state(client: Client, query: str, about: dict[str, str]) -> str:
    """How far it has come."""
    return str(client.run(query, about)["state"])


def pay(page: str, secret: str) -> None:
    """Pay as a browser would: a wrong card, one that is declined, one that pays; then it is paid, whatever is sent."""
    with httpx.Client(timeout=patience(30)) as browser:
        form = {"client_secret": secret, **BACK}
        assert browser.post(page, data={**form, "client_secret": "other"}).status_code == 404
        assert browser.post(page, data={**form, "success_url": "javascript:alert(1)"}).status_code == 400
        assert browser.get(page).status_code == 401  # the secret is never part of an address
        shown = browser.post(page, data=form)
        assert shown.status_code == 200
        assert "25.00 EUR" in shown.text
        assert "script" not in shown.text
        for number, says in (("4000 1234 5678 9010", "no real card"), (DECLINED, "declined this card")):
            refused = browser.post(page, data={**form, "number": number})
            assert (refused.status_code, says in refused.text) == (402, True)
        for _ in range(2):
            paid = browser.post(page, data={**form, "number": PAYS})
            assert (paid.status_code, paid.headers["location"]) == (303, BACK["success_url"])
        again = browser.post(page, data=form)
        assert (again.status_code, "It is paid." in again.text) == (200, True)


@pytest.mark.parametrize("wrong", [("--wallet", "127.0.0.1:8000"), ("--port", "999999")])
def test_wrong_options_are_one_line(tmp_path: Path, wrong: tuple[str, str]) -> None:
    """Exit code 2, and what to write instead."""
    done = run_cli(tmp_path, "stripe-stand-in", *wrong, storage="memory://")
    assert done.returncode == 2
    assert wrong[0] in done.stderr
    assert "Traceback" not in done.stderr
