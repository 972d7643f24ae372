"""Checks of `SECURITY.md` that have no better place, and that every row there names existing tests."""

from __future__ import annotations

import ast
import json
import re
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration._evidence import write_evidence
from tests.integration._graphql import ask, wallet_in
from tests.integration._server import (
    LOG_IN,
    OPEN_ACCOUNT,
    PASSWORD,
    SIGN_UP,
    TRANSFER,
    VIEWER,
    Client,
    new_key,
    new_name,
    run_cli,
    serving,
    settle,
)
from tests.integration._stripe import WITHDRAW, settings_of
from wallet_gql.backends import open_store
from wallet_gql.domain.errors import ConfigurationError, FreshLogInRequired, InvalidCredentials
from wallet_gql.domain.users import FRESH, SessionKind
from wallet_gql.identity import Identity
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.catalogue.operations import NAMES
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.server.app import create_app
from wallet_gql.verbs.ledger import utc_now

ROOT: Final = Path(__file__).resolve().parents[2]
ROUNDS: Final = 500
DIFFERENCE_SECONDS_MAX: Final = 0.005


# The page


def rows() -> list[str]:
    """The rows of the page's tables that name tests, and those that must."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    tables = re.split(r"^## ", page, flags=re.MULTILINE)
    wanted = [part for part in tables if part.startswith(("Twenty checks", "OWASP API", "A scanner's"))]
    assert len(wanted) == 3
    found = [line for part in wanted for line in part.splitlines() if line.startswith("|")]
    return [line for line in found if not re.match(r"\|[ -]*(\||-)", line) and "| tests |" not in line] + [
        line for line in found if re.match(r"\| \|", line) and "tests |" not in line
    ]


def names_in(path: Path) -> Iterator[str]:
    """The tests of a file, those in classes as `Class::test`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_"):
                yield before + one.name


def test_every_row_names_tests_that_exist() -> None:
    """Twenty checks, ten risks and twelve probes, each with at least one test, and every test is there."""
    listed = [row for row in rows() if "probe" not in row.split("|")[1]]
    assert len(listed) == 20 + 10 + 12
    for row in listed:
        named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", row)
        assert named, row
        for file, name in named:
            assert name in set(names_in(ROOT / "tests" / file)), f"{file} has no {name}"


# Time


def distance(one: list[float], other: list[float]) -> float:
    """The Kolmogorov-Smirnov statistic of two samples: the largest distance of their distributions."""
    points = sorted([*one, *other])
    return max(
        abs(sum(value <= point for value in one) / len(one) - sum(value <= point for value in other) / len(other))
        for point in points
    )


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_unknown_users_take_as_long(tmp_path: Path) -> None:
    """500 wrong passwords of a known user and 500 of nobody, in turn: no difference that could be measured."""
    async with open_store(f"sqlite:///{tmp_path / 'wallet.db'}") as store:
        identity = Identity(store, clock=utc_now)
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        took: dict[str, list[float]] = {"anna": [], "nobody": []}
        for n in range(ROUNDS):
            for login in ("anna", "nobody") if n % 2 else ("nobody", "anna"):  # neither is always the first
                started = time.perf_counter()
                with pytest.raises(InvalidCredentials):
                    await identity.log_in(login, "not the one")
                took[login].append(time.perf_counter() - started)
        identity.passwords.close()
    known, unknown = took["anna"], took["nobody"]
    difference = abs(statistics.median(one - other for one, other in zip(known, unknown, strict=True)))
    found = distance(known, unknown)
    critical = 1.63 * (2 / ROUNDS) ** 0.5  # p = 0.01
    text = (
        f"{ROUNDS} wrong passwords of a known user and as many of nobody, in turn, over SQLite.\n\n"
        "| | known | nobody |\n|---|---|---|\n"
        f"| median | {statistics.median(known) * 1e3:.2f} ms | {statistics.median(unknown) * 1e3:.2f} ms |\n\n"
        f"Median of the differences in pairs {difference * 1e3:.2f} ms "
        f"(at most {DIFFERENCE_SECONDS_MAX * 1e3:.0f} ms); "
        f"Kolmogorov-Smirnov distance {found:.3f} (p > 0.01 below {critical:.3f})."
    )
    assert difference < DIFFERENCE_SECONDS_MAX, text
    assert found < critical, text
    write_evidence(
        "log-in-time",
        "Unknown users take as long",
        "python -m pytest -m soak tests/integration/test_security_checks.py -k take_as_long",
        text,
    )


# Withdrawals


async def test_withdrawals_need_a_fresh_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """15 minutes after the password was given it is due again, whether the token was renewed or not, in both APIs."""
    with FakeStripe() as fake:
        async with wallet_in(tmp_path, rate_limits="off", **settings_of(fake)) as wallet:
            person = await settle(wallet, 1_000)
            session = await wallet.identity.authenticate(person.token)
            now = utc_now() + FRESH - timedelta(seconds=30)
            monkeypatch.setattr(wallet.identity, "_clock", lambda: now)
            wallet.identity.check_fresh(session)
            renewed = await wallet.identity.renew(session)
            now += timedelta(minutes=1)
            with pytest.raises(FreshLogInRequired):
                wallet.identity.check_fresh(renewed.session)
            amount = {"minorUnits": "10", "currency": "EUR"}
            given = {"idempotencyKey": new_key(), "fromAccountId": person.account_id, "amount": amount}
            refused = await ask(wallet, renewed.token, WITHDRAW, {"input": given})
            assert (refused["__typename"], refused["code"]) == ("Refusal", "FRESH_LOG_IN_REQUIRED")
            app = create_app(wallet)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://wallet.test") as http,
            ):
                headers = {"Authorization": f"Bearer {renewed.token}", "Idempotency-Key": new_key()}
                body = {"fromAccountId": person.account_id, "amount": amount}
                answer = await http.post("/v1/withdrawal", json=body, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "FRESH_LOG_IN_REQUIRED")
            again = await wallet.identity.log_in(person.username, PASSWORD, SessionKind.BEARER)
            missing = await ask(wallet, again.token, WITHDRAW, {"input": given})
            assert (
                missing["code"] == "PAYOUT_ACCOUNT_MISSING"
            )  # the key was not used up, and nothing else is in the way


# What is said, and to whom


@pytest.mark.parametrize("level", ["info", "debug"])
def test_logs_tell_who_and_no_secrets(tmp_path: Path, level: str) -> None:
    """Log-ins and refusals with their address, and at no level a password, a token, a cookie, a key or an e-mail."""
    name, key, wrong = new_name(), new_key(), "a wrong horse"
    email = f"{name}@example.org"
    with serving(tmp_path, log_level=level) as server, Client(server.url) as client:
        client.run(SIGN_UP, {"input": {"username": name, "email": email, "password": PASSWORD}})
        client.run(LOG_IN, {"input": {"login": name, "password": wrong}})
        token = client.run(LOG_IN, {"input": {"login": name, "password": PASSWORD, "session": "BEARER"}})["token"]
        made = client.http.post("/v1/session", json={"login": email, "password": PASSWORD})
        cookie = made.headers.get_list("set-cookie")[0].partition(";")[0].partition("=")[2]
        own = {"Cookie": f"__Host-wallet={cookie}", "Sec-Fetch-Site": "same-origin"}
        assert client.http.get("/v1/user", headers=own).status_code == 200
        client.http.headers["Authorization"] = f"Bearer {token}"
        account = client.run(OPEN_ACCOUNT, {"input": {"currency": "EUR"}})["account"]["id"]
        amount = {"minorUnits": 1, "currency": "EUR"}
        pay = {"idempotencyKey": key, "fromAccountId": account, "to": {"username": "nobody"}, "amount": amount}
        client.run(TRANSFER, {"input": pay})
        client.http.get("/graphql", params={"query": VIEWER, "variables": json.dumps({"secret": wrong})})
        client.http.get("/v1/user", headers={**own, "Sec-Fetch-Site": "cross-site"})
        log = server.log
    for secret in (PASSWORD, wrong, token, token[7:], cookie, cookie[7:], key, email, "argon2id"):
        assert secret not in log, secret
    for told in ("signed_up of usr_", "log_in_failed of usr_", "logged_in of usr_", "from 127.0.0.1"):
        assert told in log, told


def test_settings_show_no_secrets(tmp_path: Path) -> None:
    """Neither `config show` nor any fault shows the password in a URL, or a provider's key."""
    secrets = {"storage": "postgres://user:hunter2@db.example/wallet", "rate_limit_storage": "redis://:hunter2@cache"}
    for command in (("config", "show"), ("config", "check"), ("config", "show", "--json")):
        done = run_cli(tmp_path, *command, **secrets)
        assert "hunter2" not in done.stdout + done.stderr
    for url in ("user:hunter2@db", "//user:hunter2@db/x"):
        with pytest.raises(ConfigurationError) as caught:
            open_store(url)
        assert "hunter2" not in caught.value.message


async def test_others_see_a_name_and_no_more(tmp_path: Path) -> None:
    """Of another user everybody sees id, name and time of joining: no address, balance, account or session."""
    async with wallet_in(tmp_path) as wallet:
        one, other = await settle(wallet, 1_000), await settle(wallet, 0)
        kind = '{ __type(name: "PublicUser") { fields { name } } }'
        told = {field["name"] for field in (await ask(wallet, other.token, kind))["fields"]}
        assert told == {"id", "username", "createdAt"}
        query = f'{{ user(username: "{one.username}") {{ id username createdAt }} }}'
        assert set(await ask(wallet, other.token, query)) == told


def test_the_api_has_no_operators_functions() -> None:
    """Nothing in either API deposits, freezes, exports, audits or settles; users have their own statements as CSV."""
    forbidden = re.compile(r"deposit|freeze|export|import|audit|recover|migrate|admin|operator|payout", re.IGNORECASE)
    assert [verb for verb in NAMES if forbidden.search(verb)] == ["exportStatement"]
    assert [operation.path for operation in OPERATIONS if forbidden.search(operation.path)] == []


NASTY: Final = (
    "' OR '1'='1",
    "'; DROP TABLE accounts; --",
    '{"$ne": null}',
    "$where: 1",
    "%00",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "wgs_000\r\nSet-Cookie: a=b",
)


def test_text_that_means_something_elsewhere(tmp_path: Path) -> None:
    """Names, references and keys that mean something to a database, a shell or a browser are text here."""
    with serving(tmp_path) as server, Client(server.url) as client:
        name = new_name()
        client.run(SIGN_UP, {"input": {"username": name, "email": f"{name}@example.org", "password": PASSWORD}})
        token = client.run(LOG_IN, {"input": {"login": name, "password": PASSWORD, "session": "BEARER"}})["token"]
        client.http.headers["Authorization"] = f"Bearer {token}"
        account = client.run(OPEN_ACCOUNT, {"input": {"currency": "EUR"}})["account"]["id"]
        for text in NASTY:
            assert client.run(LOG_IN, {"input": {"login": text, "password": text}})["code"] == "INVALID_CREDENTIALS"
            given: dict[str, Any] = {"idempotencyKey": text, "fromAccountId": account, "to": {"username": text}}
            moved = client.run(TRANSFER, {"input": {**given, "amount": {"minorUnits": 1, "currency": "EUR"}}})
            assert moved["code"] in {"PAYEE_NOT_FOUND", "INVALID_INPUT"}
            answer = client.http.get("/v1/transfer", params={"idempotencyKey": text})
            assert answer.status_code in (200, 400, 404)
            assert "set-cookie" not in answer.headers
            assert answer.headers["content-type"].startswith(("application/json", "application/problem+json"))
        assert client.run(VIEWER)["username"] == name


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_moments_that_no_calendar_has(tmp_path: Path, moment: str) -> None:
    """A moment before the first or after the last year of UTC is the client's mistake, in both APIs."""
    async with wallet_in(tmp_path, rate_limits="off") as wallet:
        person = await settle(wallet, 1_000)
        app = create_app(wallet)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://wallet.test") as http,
        ):
            http.headers["Authorization"] = f"Bearer {person.token}"
            query = "query($at: DateTime!) { viewer { accounts { balanceAt(at: $at) { minorUnits } } } }"
            told = (await http.post("/graphql", json={"query": query, "variables": {"at": moment}})).json()
            assert [error["extensions"]["code"] for error in told["errors"]] == ["BAD_REQUEST"]
            answer = await http.get(f"/v1/account/{person.account_id}/entry", params={"since": moment})
            assert answer.status_code in (200, 400), answer.text
