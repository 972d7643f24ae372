"""Rate limits: what is counted, who is counted together, the refusals, and the behaviour without Redis."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection

from tests.integration._server import (
    JSON,
    LOG_IN,
    PASSWORD,
    SIGN_UP,
    TRANSFER,
    VIEWER,
    Client,
    Person,
    new_key,
    new_name,
    serving,
    settle,
)
from wallet_gql.domain.errors import ConfigurationError, RateLimited
from wallet_gql.domain.ids import UserId
from wallet_gql.domain.security_events import Visitor
from wallet_gql.runtime import open_wallet
from wallet_gql.setting_values import Rate, rates_of
from wallet_gql.settings import RATE_LIMITS, load_settings
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.redis import RedisServer
from wallet_gql.transports.catalogue.operations import NAMES
from wallet_gql.transports.http.rate_limits import GROUPS, Limits, check_names
from wallet_gql.transports.http.windows import Limit, Windows
from wallet_gql.transports.server.app import create_app

SOMEBODY: Final = UserId("usr_019b0000000070008000000000000001")
HOUR: Final = 3_600


@asynccontextmanager
async def serving_here(limits: str, client: str = "192.0.2.1") -> AsyncIterator[tuple[httpx.AsyncClient, list[Person]]]:
    """A client at that address of an application with those limits, and two people with money."""
    settings = load_settings(storage="memory://", mode="test", rate_limits=limits)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, client=(client, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as http:
                yield http, [await settle(wallet, 1_000) for _ in range(2)]


def by(person: Person) -> dict[str, str]:
    """The person's authorization."""
    return {"Authorization": f"Bearer {person.token}"}


async def ask(http: httpx.AsyncClient, person: Person | None, query: str, given: Any = None) -> httpx.Response:
    """A GraphQL request."""
    body = {"query": query, "variables": {"input": given} if given is not None else None}
    return await http.post("/graphql", json=body, headers=by(person) if person else {})


def check_refused(answer: httpx.Response) -> None:
    """The answer says that and for how long to wait, in the header and in the body, to programs and people."""
    assert answer.status_code == 429, answer.text
    wait = int(answer.headers["retry-after"])
    assert 1 <= wait <= 2 * HOUR
    body = answer.json()
    if "errors" in body:
        assert "data" not in body
        (error,) = body["errors"]
        extensions, message = error["extensions"], error["message"]
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        extensions, message = body, body["detail"]
    assert (extensions["code"], extensions["retryable"]) == ("RATE_LIMITED", True)
    assert extensions["retryAfterSeconds"] == wait
    assert f"wait {wait} seconds" in message
    assert extensions["requestId"] == answer.headers["x-request-id"]


async def test_by_address() -> None:
    """Every request to the API counts, also those without a session; health checks do not."""
    async with serving_here("address=3/hour") as (http, (ann, _)):
        for _ in range(3):
            assert (await ask(http, None, VIEWER)).status_code == 200
        check_refused(await ask(http, ann, VIEWER))
        check_refused(await http.get("/v1/user", headers=by(ann)))
        for path in ("/healthz", "/readyz", "/", "/openapi.json"):
            assert (await http.get(path)).status_code == 200


async def test_by_user() -> None:
    """All of a user's requests count together over both APIs and all sessions; other users' do not."""
    async with serving_here("user=3/hour") as (http, (ann, bob)):
        for _ in range(2):
            assert (await ask(http, ann, VIEWER)).json()["data"]["viewer"]
        assert (await http.get("/v1/user", headers=by(ann))).status_code == 200
        check_refused(await ask(http, ann, VIEWER))
        check_refused(await ask(http, ann, TRANSFER, ann.pay(bob.username, 1)))
        check_refused(await http.get("/v1/user", headers=by(ann)))
        assert (await ask(http, bob, VIEWER)).json()["data"]["viewer"]
        assert (await ask(http, None, "{ currencies { code } }")).status_code == 200


async def test_each_money_mutation_of_a_document_counts() -> None:
    """Five aliases are five payments for the limit; a document over it moves nothing at all."""
    async with serving_here("money=7/hour") as (http, (ann, bob)):

        def many(times: int) -> tuple[str, dict[str, Any]]:
            names = [f"a{n}" for n in range(times)]
            query = "mutation({}) {{ {} }}".format(
                ", ".join(f"${name}: TransferInput!" for name in names),
                " ".join(f"{name}: transfer(input: ${name}) {{ __typename }}" for name in names),
            )
            return query, {name: ann.pay(bob.username, 1) for name in names}

        async def send(times: int) -> httpx.Response:
            query, variables = many(times)
            return await http.post("/graphql", json={"query": query, "variables": variables}, headers=by(ann))

        assert set((await send(5)).json()["data"]) == {f"a{n}" for n in range(5)}
        check_refused(await send(3))
        assert (await ask(http, ann, VIEWER)).json()["data"]["viewer"]["accounts"][0]["posted"]["minorUnits"] == "995"
        assert (await send(2)).status_code == 200
        check_refused(await send(1))
        payment = {key: value for key, value in ann.pay(bob.username, 1).items() if key != "idempotencyKey"}
        headers = {**by(ann), "Idempotency-Key": new_key()}
        check_refused(await http.post("/v1/transfer", json=payment, headers=headers))
        assert (await http.get("/v1/account", headers=by(ann))).json()["accounts"][0]["posted"]["minorUnits"] == "993"


@pytest.mark.parametrize("way", ["variables", "default", "document"])
async def test_each_item_of_a_batch_counts(way: str) -> None:
    """A hundred payments are a hundred for the limit, however their input is written; over it, none of them runs."""
    async with serving_here("money=7/hour") as (http, (ann, bob)):

        async def send(times: int) -> httpx.Response:
            given = {"mode": "INDEPENDENT", "items": [ann.pay(bob.username, 1) for _ in range(times)]}
            literal = re.sub(r'"(\w+)":', r"\1:", json.dumps(given)).replace('"INDEPENDENT"', "INDEPENDENT")
            head, argument = {
                "variables": ("mutation($input: TransferBatchInput!)", "$input"),
                "default": (f"mutation($input: TransferBatchInput! = {literal})", "$input"),
                "document": ("mutation", literal),
            }[way]
            query = f"{head} {{ transferBatch(input: {argument}) {{ __typename }} }}"
            variables = {"input": given} if way == "variables" else {}
            return await http.post("/graphql", json={"query": query, "variables": variables}, headers=by(ann))

        assert (await send(4)).json()["data"]["transferBatch"]["__typename"] == "TransferBatchSuccess"
        check_refused(await send(4))
        assert (await ask(http, ann, VIEWER)).json()["data"]["viewer"]["accounts"][0]["posted"]["minorUnits"] == "996"
        assert (await send(3)).status_code == 200
        check_refused(await ask(http, ann, TRANSFER, ann.pay(bob.username, 1)))


async def test_merchants_are_looked_up_in_both_apis() -> None:
    """Asking for a merchant by name counts with asking for users, over REST as over GraphQL."""
    async with serving_here("lookup=3/hour") as (http, (ann, bob)):
        for _ in range(2):
            answer = await http.get("/v1/merchant/public", params={"username": bob.username}, headers=by(ann))
            assert answer.status_code == 404
        assert (await ask(http, ann, '{ merchant(username: "nobody") { name } }')).json()["data"]["merchant"] is None
        assert (await ask(http, ann, '{ merchant(username: "nobody2") { name } }')).json()["data"]["merchant"] is None
        check_refused(await http.get("/v1/merchant/public", params={"username": "nobody3"}, headers=by(ann)))
        (error,) = (await ask(http, ann, '{ user(username: "nobody4") { id } }')).json()["errors"]
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert error["extensions"]["retryAfterSeconds"] > 1
        assert (await ask(http, ann, '{ user(username: "nobody") { id } }')).json()["data"]["user"] is None


async def test_a_refused_payment_keeps_its_key() -> None:
    """The same request with the same key pays once when the time has come."""
    async with serving_here("money=1/second") as (http, (ann, bob)):
        await ask(http, ann, TRANSFER, ann.pay(bob.username, 1))
        payment = ann.pay(bob.username, 1)
        answer = await ask(http, ann, TRANSFER, payment)
        while answer.status_code == 429:
            await asyncio.sleep(int(answer.headers["retry-after"]))
            answer = await ask(http, ann, TRANSFER, payment)
        assert answer.json()["data"]["transfer"]["replayed"] is False


async def test_by_verb_and_by_lookup() -> None:
    """A verb is limited in both APIs under one name; asking who exists is limited; aliases count."""
    async with serving_here("openAccount=2/hour; lookup=3/hour") as (http, (ann, bob)):
        opening = "mutation($input: OpenAccountInput!) { openAccount(input: $input) { __typename } }"
        assert (await ask(http, ann, opening, {"currency": "USD"})).status_code == 200
        made = await http.post("/v1/account", json={"currency": "JPY"}, headers=by(ann))
        assert made.status_code == 201
        check_refused(await ask(http, ann, opening, {"currency": "GBP"}))
        check_refused(await http.post("/v1/account", json={"currency": "GBP"}, headers=by(ann)))
        aliases = " ".join(f'a{n}: user(username: "nobody{n}") {{ id }}' for n in range(5))
        for person in (ann, bob):
            errors = (await ask(http, person, f"{{ {aliases} }}")).json()["errors"]
            assert [error["extensions"]["code"] for error in errors] == ["RATE_LIMITED"] * 2


async def test_a_hundred_log_ins_are_counted_by_address() -> None:
    """With or without a session: log-ins of one name and address count together, and sign-ups of an address."""
    async with serving_here("logIn=4/hour; signUp=1/hour") as (http, (ann, bob)):
        given = {"login": "nobody", "password": PASSWORD}
        for person in (None, ann, bob):
            answer = await ask(http, person, LOG_IN, given)
            assert answer.json()["data"]["logIn"]["code"] == "INVALID_CREDENTIALS"
        assert (await http.post("/v1/session", json=given)).status_code == 401
        for spelt in ("nobody", " NOBODY "):
            answer = await ask(http, ann, LOG_IN, {**given, "login": spelt})
            assert answer.json()["data"]["logIn"]["code"] == "RATE_LIMITED"
        check_refused(await http.post("/v1/session", json=given))
        for login in (ann.username, f"{bob.username}@example.org"):
            assert (await http.post("/v1/session", json={**given, "login": login})).status_code == 201
        name = new_name()
        joining = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        assert (await ask(http, None, SIGN_UP, joining)).json()["data"]["signUp"]["__typename"] == "SignUpSuccess"
        check_refused(await ask(http, None, SIGN_UP, joining))


async def test_log_ins_that_fail_too_often_say_so_as_data() -> None:
    """The throttle of one name has a type of its own in the answer; over REST it is a 429."""
    async with serving_here("off") as (http, (ann, _)):
        given = {"login": ann.username, "password": "not the one"}
        for _ in range(10):
            assert (await http.post("/v1/session", json=given)).status_code == 401
        query = LOG_IN.replace("... on WalletError", "... on RateLimited { retryAfterSeconds } ... on WalletError")
        answer = (await ask(http, None, query, {**given, "password": PASSWORD})).json()["data"]["logIn"]
        assert (answer["__typename"], answer["code"]) == ("RateLimited", "RATE_LIMITED")
        assert 0 < answer["retryAfterSeconds"] <= 900
        check_refused(await http.post("/v1/session", json={**given, "password": PASSWORD}))


@pytest.mark.trial
async def test_b10_failures_at_the_default_limits_keep_nobody_out() -> None:
    """104 failed log-ins of one client, as fast as it can, and another one at its address logs in at once."""
    async with serving_here(RATE_LIMITS) as (http, (ann, _)):
        for n in range(104):
            given = {"login": f"nobody{n % 30}", "password": PASSWORD}
            assert (await http.post("/v1/session", json=given)).status_code in (401, 429)
        given = {"login": ann.username, "password": PASSWORD}
        assert (await http.post("/v1/session", json=given)).status_code == 201
        answer = await ask(http, None, LOG_IN, given)
        assert answer.json()["data"]["logIn"]["__typename"] == "LogInSuccess"


async def test_b2_passwords_cost_what_hashing_them_does() -> None:
    """Log-ins, sign-ups and changes of the password are paid for, before they are made and in both APIs."""
    async with serving_here("addressCost=7000/hour") as (http, (ann, _)):
        body = {"query": 'mutation { x: changePassword(input: {oldPassword: "a", newPassword: "b"}) { __typename } }'}
        changed = await http.post("/graphql", json=body, headers=by(ann))
        assert changed.json()["extensions"]["cost"]["requested"] > 2_000
        assert (await http.post("/v1/session", json={"login": "nobody", "password": "x"})).status_code == 401
        assert (await http.post("/v1/user", json={"username": "a", "email": "b", "password": "c"})).status_code == 400
        check_refused(await http.post("/v1/session", json={"login": "nobody", "password": "x"}))
        check_refused(await ask(http, None, LOG_IN, {"login": "nobody", "password": "x"}))


async def test_defaults_are_generous() -> None:
    """A client may send hundreds of requests without a pause."""
    async with serving_here(RATE_LIMITS) as (http, (ann, _)):
        assert {(await ask(http, ann, VIEWER)).status_code for _ in range(300)} == {200}


def test_limits_over_a_socket(tmp_path: Path) -> None:
    """A request over the limit is refused before anything of it is read."""
    with serving(tmp_path, rate_limits="address=5/hour") as server, Client(server.url) as client:
        codes = [client.http.post("/graphql", content=b"x", headers=JSON).status_code for _ in range(7)]
    assert codes == [400] * 5 + [429] * 2


def test_names_that_mean_nothing_are_refused() -> None:
    """A limit on a misspelt verb would protect nothing, so the server does not start."""
    settings = load_settings(rate_limits="tranfser=5/minute")
    with pytest.raises(ConfigurationError, match="tranfser"):
        check_names(settings, NAMES)
    assert {"transfer", "logIn", "captureHold", "readAccount", "viewer"} <= NAMES
    assert set(rates_of(RATE_LIMITS)) <= GROUPS | NAMES
    for text in ("transfer", "transfer=0/minute", "transfer=5/week", "a=1/minute;a=2/minute", "transfer=-1/hour"):
        with pytest.raises(ConfigurationError, match="WALLET_RATE_LIMITS"):
            load_settings(rate_limits=text)
    assert rates_of("a=5/15minute; b=7/day;") == {"a": Rate(5, 900), "b": Rate(7, 86_400)}
    assert rates_of("off") == rates_of("") == {}
    with pytest.raises(ConfigurationError, match="WALLET_RATE_LIMIT_STORAGE"):
        load_settings(rate_limit_storage="postgres://x")


async def test_the_window_slides() -> None:
    """At no moment more than the limit fits into the time, also across the border of two windows."""
    now = 1_000_000.0 * 60
    limits = Limits(load_settings(rate_limits="user=10/minute"), lambda: now)
    passed: list[float] = []
    for _ in range(400):
        now += 0.6
        try:
            await limits.count_user(SOMEBODY)
        except RateLimited:
            continue
        passed.append(now)
    assert 30 <= len(passed) <= 45
    busiest = max(sum(start <= at < start + 60 for at in passed) for start in passed)
    assert busiest <= 11  # the window is estimated from two counters


async def test_a_clock_that_is_set_back_changes_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is there room at once, nor are counters kept for ever."""
    limits = Limits(load_settings(rate_limits="user=2/hour"))
    for _ in range(2):
        await limits.count_user(SOMEBODY)
    began = time.time()
    for seconds in (-7_200, -86_400, 86_400):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: began + seconds)
        with pytest.raises(RateLimited):
            await limits.count_user(SOMEBODY)


async def test_a_name_is_free_for_ten_minutes_at_least() -> None:
    """Whenever in a window it was looked up first."""
    for since in (0.0, 1.0, 300.0, 599.0):
        now = 6_000_000.0 + since
        limits = Limits(load_settings(rate_limits="lookup=1/hour"), lambda: now)  # noqa: B023 - called in this turn
        await limits.count_lookup(SOMEBODY, None, "bob")
        for _ in range(4):
            now += 149.9
            await limits.count_lookup(SOMEBODY, None, "bob")
        with pytest.raises(RateLimited):
            await limits.count_lookup(SOMEBODY, None, "carol")


def test_counters_in_memory_are_forgotten() -> None:
    """What nobody asks for any more takes no memory, and one hit does not look at everybody's counters."""
    now = 5_000_000.0
    windows, limit = Windows(lambda: now), Limit(3, 10, "test")
    for n in range(1_000):
        assert windows.add(limit, (f"k{n}",))
    assert len(windows) == 1_000
    now += 31
    assert windows.add(limit, ("k1",), 3)
    assert len(windows) == 1


async def test_windows_count_as_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """At random times and with random costs, both let through the same hits and tell the same windows."""
    now = 5_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    rng = random.Random(1)
    windows, theirs = Windows(lambda: now), SlidingWindowCounterRateLimiter(MemoryStorage())
    for round_ in range(3_000):
        span = rng.choice((1, 7, 60))
        limit = Limit(rng.choice((3, 20)), span, "test")
        key = f"n{span}", f"w{rng.randrange(2)}", str(limit.most)
        times = rng.randrange(1, 5)
        assert windows.add(limit, key, times) is await theirs.hit(limit.item, *key, cost=times), round_
        other = await theirs.storage.get_sliding_window(limit.item.key_for(*key), span)  # type: ignore[attr-defined]  # of this storage
        assert windows.window(limit, key) == pytest.approx(other, abs=1e-3), round_
        now += rng.choice((0.25, 0.5, 3.0, 45.0)) * rng.random() ** 2


async def test_a_thousand_hits_at_once_let_the_limit_through() -> None:
    """Nothing is awaited between looking and counting, so a race gains nothing."""
    limits = Limits(load_settings(rate_limits="user=100/hour"))
    done = await asyncio.gather(*(limits.count_user(SOMEBODY) for _ in range(1_000)), return_exceptions=True)
    assert sum(one is None for one in done) == 100


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with server_or_skip():
        server = RedisServer()
    yield server
    server.stop()


@pytest.mark.service("redis")
@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_redis_counts_for_all_processes(redis_server: RedisServer, fault: str) -> None:
    """Two processes share one count; without Redis each counts alone, and nobody is kept from their money."""
    url = f"redis://127.0.0.1:{redis_server.port}/0"
    settings = load_settings(rate_limits="user=6/hour", rate_limit_storage=url)
    one, two = Limits(settings), Limits(settings)
    for limits in (one, two, one, two, one, two):
        await limits.count_user(SOMEBODY)
    for limits in (one, two):
        with pytest.raises(RateLimited):
            await limits.count_user(SOMEBODY)
    getattr(redis_server, fault)()
    started = time.monotonic()
    for _ in range(6):
        await one.count_user(SOMEBODY)
    with pytest.raises(RateLimited):
        await one.count_user(SOMEBODY)
    assert time.monotonic() - started < patience(2)
    await one.close()
    await two.close()


@pytest.mark.service("redis")
async def test_b10_redis_counts_log_ins_look_ups_and_cost_alike(redis_server: RedisServer) -> None:
    """What is counted by name, and by cost, is shared by all processes, and keeps nobody else out."""
    url = f"redis://127.0.0.1:{redis_server.port}/0"
    settings = load_settings(rate_limits="logIn=2/hour; lookup=2/hour; addressCost=100/hour", rate_limit_storage=url)
    one, two = Limits(settings), Limits(settings)
    here = Visitor("192.0.2.1")
    for limits in (one, two):
        await limits.count_log_in(here, "ann")
        await limits.count_lookup(SOMEBODY, here, f"name of {id(limits)}")
        await limits.spend(None, here, 50)
    for limits in (one, two):
        for refused in (
            limits.count_log_in(here, "ann"),
            limits.count_lookup(SOMEBODY, here, "another"),
            limits.spend(None, here, 1),
        ):
            with pytest.raises(RateLimited):
                await refused
        await limits.count_log_in(here, "bob")
        await limits.count_log_in(Visitor("192.0.2.2"), "ann")
        await limits.count_lookup(SOMEBODY, here, f"name of {id(one)}")  # known, whichever process looked it up
        await limits.spend(None, Visitor("192.0.2.2"), 10)
        await limits.close()


async def test_visitors_without_an_address_are_counted_together(caplog: pytest.LogCaptureFixture) -> None:
    """Where no address can be read all share one limit, and the log says so once; commands on the server have none."""
    limits = Limits(load_settings(rate_limits="address=2/hour; logIn=1/hour"))
    for address in ("", "nonsense"):
        await limits.count_address(Visitor(address))
    with pytest.raises(RateLimited):
        await limits.count_address(Visitor("unix:"))
    await limits.count_log_in(Visitor(""), "ann")
    with pytest.raises(RateLimited):
        await limits.count_log_in(Visitor("nonsense"), "ann")
    assert caplog.text.count("WALLET_TRUSTED_PROXIES") == 1
    for _ in range(3):
        await limits.count_address(None)
        await limits.count_log_in(None, "ann")
    assert HTTPConnection({"type": "http", "headers": [], "client": None}).client is None
