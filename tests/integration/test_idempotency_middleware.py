"""The ASGI middleware: the header, the answers, and the example service under kill -9 and fifty duplicates."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from tests.integration._evidence import write_evidence
from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.model import Record, RecordKey
from wallet_gql.idempotency import Effects, Guard, Outcome, Settled, Turn, Unfinished
from wallet_gql.idempotency.asgi import OPERATION, Answer, IdempotencyMiddleware, _path_as_sent, turn_of
from wallet_gql.idempotency.turns import Ask
from wallet_gql.testing.patience import patience, turns, wait_until
from wallet_gql.testing.servers.keeper import keep

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "Idempotency-Key"
REPLAYED: Final = "idempotency-replayed"

Endpoint = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def client_of(endpoint: Endpoint, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with that one endpoint, behind the middleware."""
    async with open_store("memory://") as store:
        app = Starlette(routes=[Route("/{rest:path}", endpoint, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])])
        guard = options.pop("guard", Guard)(store)
        options.setdefault("caller", lambda connection: dict(connection["headers"]).get(b"x-who", b"ann").decode())
        transport = httpx.ASGITransport(IdempotencyMiddleware(app, guard, **options), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


class Counted:
    """An endpoint that counts how often it ran."""

    def __init__(self, status: int = 201) -> None:
        self.runs = 0
        self.status = status
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request: Request) -> Response:
        """Answer."""
        self.runs += 1
        run = self.runs
        body = await request.body()
        self.begun.set()
        await self.go_on.wait()
        headers = {"X-Run": str(run), "Set-Cookie": "secret=1", "Location": "/made"}
        return JSONResponse({"run": run, "length": len(body)}, self.status, headers)


def endpoint_of(counted: Counted) -> Endpoint:
    """As Starlette wants it: a function."""

    async def endpoint(request: Request) -> Response:
        return await counted(request)

    return endpoint


async def test_the_first_answer_again() -> None:
    """Status, headers and body are the first ones; cookies are for the first alone, and the replay says what it is."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        first = await client.post("/x?a=1", headers={KEY: '"k"'}, content=b"body")
        second = await client.post("/x?a=1", headers={KEY: ' "k"'}, content=b"body")
        assert (first.status_code, first.json()) == (201, {"run": 1, "length": 4})
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert (second.headers["x-run"], second.headers["location"]) == ("1", "/made")
        assert second.headers["content-type"] == first.headers["content-type"]
        assert REPLAYED not in first.headers
        assert second.headers[REPLAYED] == "true"
        assert "set-cookie" in first.headers
        assert "set-cookie" not in second.headers
        others = await client.post("/x?a=1", headers={KEY: '"k"', "X-Who": "bob"}, content=b"body")
        assert others.json()["run"] == 2


async def test_another_request_under_the_key() -> None:
    """Another body, path, query, host or method: 422, and nothing runs."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        headers = {KEY: '"k"'}
        await client.post("/x", headers=headers, content=b"1")
        same = await client.post("/x", headers={**headers, "Host": "TEST:8443"}, content=b"1")
        assert same.headers[REPLAYED] == "true"
        others = [
            await client.post("/x", headers=headers, content=b"2"),
            await client.post("/y", headers=headers, content=b"1"),
            await client.post("/x?a=1", headers=headers, content=b"1"),
            await client.put("/x", headers=headers, content=b"1"),
            await client.post("/x", headers={**headers, "Host": "other"}, content=b"1"),
        ]
        for other in others:
            assert other.status_code == 422
            assert other.headers["content-type"] == "application/problem+json"
            assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert counted.runs == 1
    async with client_of(endpoint_of(counted), by_host=False) as client:
        for host in ("one.example", "two.example"):
            assert (await client.post("/x", headers={**headers, "Host": host})).json()["run"] == 2


async def test_the_path_is_the_one_that_was_sent() -> None:
    """A slash that was escaped makes another path; a server that does not tell has the decoded one."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        for path, status in (("/a%2Fb", 201), ("/a/b", 422), ("/a%2Fb", 201)):
            assert (await client.post(path, headers={KEY: '"k"'})).status_code == status
        assert counted.runs == 1
    for root in ("", "/a"):
        assert _path_as_sent({"path": "/a/b", "root_path": root, "raw_path": None}) == "/a/b"


@pytest.mark.parametrize("character", ["x", "%01", "%22", "é", "\u4e00", "\U0001f600"])
async def test_long_paths(character: str) -> None:
    """Whatever its characters take in a note, a path is no fault of the key."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        for _ in range(2):
            answer = await client.post("/" + character * 2_000, headers={KEY: '"k"'})
            assert (answer.status_code, counted.runs) == (201, 1)


@pytest.mark.parametrize("asks", [True, False])
async def test_no_encoding_is_replayed(asks: bool) -> None:
    """The application is asked for plain bodies; one that encodes all the same is not kept for other clients."""

    async def endpoint(request: Request) -> Response:
        if asks and "gzip" not in request.headers["accept-encoding"]:
            return Response(b"plain")
        return Response(gzip.compress(b"packed"), headers={"Content-Encoding": "gzip"})

    async with client_of(endpoint) as client:
        first = await client.post("/x", headers={KEY: '"k"', "Accept-Encoding": "gzip"})
        assert first.content == (b"plain" if asks else b"packed")
        second = await client.post("/x", headers={KEY: '"k"', "Accept-Encoding": "identity"})
        assert "content-encoding" not in second.headers
        if asks:
            assert (second.status_code, second.content) == (200, b"plain")
        else:
            assert (second.status_code, second.json()["code"]) == (409, "ANSWER_NOT_KEPT")


@pytest.mark.parametrize(
    "value", ["bare", "", '"', '"a"b', '"a" "b"', '"ü"', "12", "?1", "(a)", f'"{"x" * 256}"', '""']
)
async def test_what_is_no_key(value: str) -> None:
    """Anything but one structured-field string of 1 to 255 characters: 400, and nothing runs."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        answer = await client.post("/x", headers=[(KEY.encode(), value.encode())])
        assert answer.status_code == 400
        assert answer.json()["code"] == "IDEMPOTENCY_KEY_INVALID"
        assert counted.runs == 0


async def test_where_a_key_is_needed() -> None:
    """POST and PATCH need one, PUT and DELETE may have one, GET has none; two are none; no caller, no key."""
    counted = Counted()
    async with client_of(endpoint_of(counted)) as client:
        for method in ("POST", "PATCH"):
            missing = await client.request(method, "/x")
            assert (missing.status_code, missing.json()["code"]) == (400, "IDEMPOTENCY_KEY_MISSING")
        twice = await client.post("/x", headers=[(KEY, '"a"'), (KEY, '"b"')])
        assert (twice.status_code, counted.runs) == (400, 0)
        for method in ("PUT", "DELETE", "GET"):
            assert (await client.request(method, "/x")).status_code == 201
        for _ in range(2):
            await client.get("/x", headers={KEY: '"k"'})
        assert counted.runs == 5
        for _ in range(2):
            await client.put("/x", headers={KEY: '"k"'})
        assert counted.runs == 6
    async with client_of(endpoint_of(counted), caller=lambda _: None) as client:
        assert (await client.post("/x", headers={KEY: '"k"'})).json()["run"] == 7
    async with client_of(endpoint_of(counted), bare_keys=True, required=()) as client:
        for given in ({KEY: "8e03978e-40d5"}, {KEY: '"8e03978e-40d5"'}, {KEY: "8e03978e-40d5"}):
            assert (await client.post("/x", headers=given)).json()["run"] == 8
        assert (await client.post("/x")).json()["run"] == 9


async def duplicates(guard: type[Guard] = Guard) -> None:
    """Fifty at once under one key. Raises AssertionError unless one ran and all got its answer."""
    counted = Counted()
    counted.go_on.clear()
    async with client_of(endpoint_of(counted), guard=guard) as client:
        sends = [asyncio.create_task(client.post("/x", headers={KEY: '"k"'}, content=b"body")) for _ in range(50)]
        await counted.begun.wait()
        await turns()
        counted.go_on.set()
        answers = await asyncio.gather(*sends)
        assert counted.runs == 1
        assert {(a.status_code, a.content) for a in answers} == {(201, answers[0].content)}
        assert sum(REPLAYED in a.headers for a in answers) == 49


async def test_fifty_concurrent_duplicates() -> None:
    """One effect, the same answer for all; with another body 422."""
    await duplicates()


class Unclaimed(Guard):
    """A mutant: it looks for the receipt, lets the work run, and stores the receipt behind it."""

    async def begin(self, ask: Ask, *, wait_seconds: float = 0.0) -> Turn | Outcome:
        """Look, and claim nothing."""
        found = (await self.store.fetch(scope_of(ask))).record(ask.name)
        return Turn(ask, "") if found is None else await super().begin(ask, wait_seconds=wait_seconds)

    async def finish(self, turn: Turn, given: Any, *, kept: bool = True) -> Outcome:
        """Claim when all is done."""
        claimed = await super().begin(turn.ask)
        return claimed if isinstance(claimed, Outcome) else await super().finish(claimed, given, kept=kept)


def scope_of(ask: Ask) -> Any:
    """What has the ask's record."""
    return Scope(ask.slot, records=(ask.name,))


async def test_a_receipt_behind_the_effect_is_convicted() -> None:
    """The check of fifty duplicates finds a middleware that does not claim the key first."""
    with pytest.raises(AssertionError):
        await duplicates(Unclaimed)


async def test_still_running() -> None:
    """Without waiting a duplicate gets 409 at once, with `Retry-After`; another body 422 all the same."""
    counted = Counted()
    counted.go_on.clear()
    async with client_of(endpoint_of(counted), wait_seconds=0) as client:
        first = asyncio.create_task(client.post("/x", headers={KEY: '"k"'}, content=b"1"))
        await counted.begun.wait()
        second = await client.post("/x", headers={KEY: '"k"'}, content=b"1")
        other = await client.post("/x", headers={KEY: '"k"'}, content=b"2")
        assert (second.status_code, second.json()["code"], second.headers["retry-after"]) == (409, "STILL_RUNNING", "1")
        assert other.status_code == 422
        counted.go_on.set()
        assert (await first).status_code == 201


@pytest.mark.parametrize(
    ("status", "effects", "again"),
    [
        (201, Effects.JOINED, 201),
        (302, Effects.JOINED, 302),
        (404, Effects.JOINED, 404),
        (409, Effects.JOINED, 409),
        (400, Effects.JOINED, None),
        (401, Effects.OUTSIDE, None),
        (429, Effects.OUTSIDE, None),
        (500, Effects.JOINED, None),
        (500, Effects.OUTSIDE, 504),
        (202, Effects.OUTSIDE, 202),
    ],
)
async def test_which_answers_are_kept(status: int, effects: Effects, again: int | None) -> None:
    """What was done and what was refused is kept; malformed requests run again; a 5xx is nothing, or in doubt."""
    counted = Counted(status)
    async with client_of(endpoint_of(counted), effects=effects) as client:
        first = await client.post("/x", headers={KEY: '"k"'})
        second = await client.post("/x", headers={KEY: '"k"'})
        assert first.status_code == status
        assert second.status_code == (again or status)
        assert counted.runs == (2 if again is None else 1)


@pytest.mark.parametrize(("status", "is_kept"), [(201, True), (409, True), (400, False), (503, False)])
async def test_the_answer_of_a_joined_decision(status: int, is_kept: bool) -> None:
    """It takes the place of the application's; one that is not kept commits nothing, and the key is free."""
    name = RecordKey("test", "made", 5)
    seen: list[bool] = []

    async def join(request: Request) -> Response:
        def decide(snapshot: Snapshot) -> Decision[Answer | None]:
            seen.append(snapshot.record(name) is not None)
            made = Record(name.kind, name.id, name.slot, "test", 1)
            return Decision(
                Changes(records=() if seen[-1] else (made,)), Answer(status, {"status": status}, {"X-A": "1"})
            )

        turn = turn_of(request.scope)
        assert turn.slot == 5
        turn.join(Scope(5, records=(name,)), decide)
        return Response(status_code=204)

    async with client_of(join, slot=5) as client:
        answers = [await client.post("/x", headers={KEY: '"k"'}) for _ in range(2)]
        other = await client.post("/x", headers={KEY: '"l"'})
        assert {(one.status_code, one.json()["status"], one.headers["x-a"]) for one in answers} == {
            (status, status, "1")
        }
        assert [REPLAYED in one.headers for one in answers] == [False, is_kept]
        assert seen == ([False, True] if is_kept else [False, False, False])
        assert other.status_code == status


@pytest.mark.parametrize("value", [None, {"mailed": 1}, [], "sent", {"status": 202, "headers": 1, "body": ""}])
async def test_a_completer_without_an_answer(value: object) -> None:
    """It says that the work happened, with nothing that can be sent: the key was used, and its answer is not kept."""
    notes: list[object] = []

    async def failing(_request: Request) -> Response:
        raise ZeroDivisionError

    async def complete(found: Unfinished) -> Settled:
        notes.append(found.note)
        return Settled(happened=True) if value is None else Settled(happened=True, value=value)

    async with open_store("memory://") as store:
        guard = Guard(store, completers={OPERATION: complete})
        inner = Starlette(routes=[Route("/send", failing, methods=["POST"])])
        wrapped = IdempotencyMiddleware(inner, guard, caller=lambda _: "ann", effects=Effects.OUTSIDE)
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/mails", wrapped)]), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            statuses = [(await client.post("/mails/send", headers={KEY: '"k"'})).status_code for _ in range(2)]
            assert statuses == [500, 504]
            assert await guard.sweep() == 1
            for _ in range(2):
                again = await client.post("/mails/send", headers={KEY: '"k"'})
                assert (again.status_code, again.json()["code"]) == (409, "ANSWER_NOT_KEPT")
    assert notes == [{"method": "POST", "path": "/mails/send"}]  # as it was sent, although the application is mounted


async def test_sizes_and_streams() -> None:
    """A body over the limit is refused; a stream is kept when it is small, and passed on when it is not."""
    runs = 0

    async def stream(request: Request) -> Response:
        nonlocal runs
        runs += 1
        wanted = int(request.query_params.get("chunks", "0"))

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(wanted):
                yield b"x" * 100

        return StreamingResponse(chunks(), 200)

    async with client_of(stream, body_max=1_000, response_max=1_000) as client:
        large = await client.post("/x", headers={KEY: '"k"'}, content=b"x" * 1_001)
        assert (large.status_code, runs) == (413, 0)
        for chunks, is_kept in ((0, True), (10, True), (11, False), (1_000, False)):
            headers = {KEY: f'"k{chunks}"'}
            first = await client.post(f"/x?chunks={chunks}", headers=headers)
            again = await client.post(f"/x?chunks={chunks}", headers=headers)
            assert (first.status_code, len(first.content)) == (200, 100 * chunks)
            if is_kept:
                assert (again.status_code, again.content) == (200, first.content)
            else:
                assert (again.status_code, again.json()["code"]) == (409, "ANSWER_NOT_KEPT")
        assert runs == 4


async def test_a_client_that_hangs_up() -> None:
    """The request goes on to its answer, which the next one gets; before its body was read nothing is begun."""
    counted = Counted()
    counted.go_on.clear()
    async with client_of(endpoint_of(counted)) as client:
        first = asyncio.create_task(client.post("/x", headers={KEY: '"k"'}))
        await counted.begun.wait()
        first.cancel()
        counted.go_on.set()
        again = await client.post("/x", headers={KEY: '"k"'})
        assert (again.json()["run"], again.headers[REPLAYED], counted.runs) == (1, "true", 1)


async def test_an_application_that_fails() -> None:
    """Its exception passes through; a joined key is free again, one with effects outside is in doubt."""
    runs = 0

    async def failing(_request: Request) -> Response:
        nonlocal runs
        runs += 1
        raise ZeroDivisionError

    for effects, codes in ((Effects.JOINED, [500, 500]), (Effects.OUTSIDE, [500, 504])):
        async with client_of(failing, effects=effects) as client:
            assert [(await client.post("/x", headers={KEY: '"k"'})).status_code for _ in range(2)] == codes
    assert runs == 3


# The example, as a process

SERVE: Final = """
import os, socket, uvicorn
from wallet_gql import failpoints
failpoints.arm(os.environ.get("POINTS", ""))
import tickets
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(tickets.create_app, factory=True, log_level="warning")).run(sockets=[listening])
"""


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/none", timeout=patience(5))
    except httpx.TransportError:
        return False
    return True


@contextmanager
def tickets(folder: Path, points: str = "", lease_seconds: float = 1.0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The example service; answers the process and its URL."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "examples"),
        "TICKETS_STORAGE": f"sqlite:///{folder / 'tickets.db'}",
        "TICKETS_OUTBOX": str(folder / "outbox.jsonl"),
        "TICKETS_LEASE_SECONDS": str(lease_seconds),
        "POINTS": points,
    }
    command = [sys.executable, "-W", "ignore", "-c", SERVE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        keep(process.pid)
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            wait_until(lambda: _answers(url), 20, "the service does not answer")
            yield process, url
        finally:
            process.kill()


def post(url: str, path: str, body: dict[str, Any], key: str) -> httpx.Response | None:
    """A request; None if the answer was lost."""
    try:
        return httpx.post(
            f"{url}{path}", json=body, headers={KEY: f'"{key}"', "X-Customer": "ann"}, timeout=patience(20)
        )
    except httpx.TransportError:
        return None


def mails_of(folder: Path) -> list[str]:
    """What has left."""
    outbox = folder / "outbox.jsonl"
    return [json.loads(line)["text"] for line in outbox.read_text().splitlines()] if outbox.exists() else []


@pytest.mark.slow
@pytest.mark.backend("sqlite")
async def test_the_example_under_fifty_duplicates(tmp_path: Path) -> None:
    """Over real HTTP: one sale, one answer; another body 422; the hall is sold out as a kept refusal."""
    with tickets(tmp_path) as (_, url):
        async with httpx.AsyncClient(base_url=url, timeout=patience(20)) as client:
            headers = {KEY: '"k"', "X-Customer": "ann"}
            answers = await asyncio.gather(
                *(client.post("/seats/", headers=headers, json={"seats": 2}) for _ in range(50))
            )
            assert {(a.status_code, a.text) for a in answers} == {(201, '{"first": 1, "last": 2}')}
            assert sum(REPLAYED in a.headers for a in answers) == 49
            other = await client.post("/seats/", headers=headers, json={"seats": 3})
            assert other.status_code == 422
            fresh = {KEY: '"l"', "X-Customer": "ann"}
            assert (await client.post("/seats/", headers=fresh, json={"seats": 2})).json() == {"first": 3, "last": 4}
            for _ in range(2):
                full = await client.post("/seats/", headers={**fresh, KEY: '"m"'}, json={"seats": 97})
                assert (full.status_code, full.json()["left"]) == (409, 96)


@pytest.mark.slow
@pytest.mark.backend("sqlite")
async def test_two_processes_under_fifty_duplicates(tmp_path: Path) -> None:
    """Half of the duplicates go to each of two servers over one store: one sale, one answer."""
    with tickets(tmp_path) as (_, first), tickets(tmp_path) as (_, second):
        async with httpx.AsyncClient(timeout=patience(20)) as client:
            headers = {KEY: '"k"', "X-Customer": "ann"}
            urls = [first, second] * 25
            sends = (client.post(f"{url}/seats/", headers=headers, json={"seats": 2}) for url in urls)
            answers = await asyncio.gather(*sends)
            assert {(a.status_code, a.text) for a in answers} == {(201, '{"first": 1, "last": 2}')}
            assert sum(REPLAYED in a.headers for a in answers) == 49
            after = await client.post(f"{second}/seats/", headers={**headers, KEY: '"l"'}, json={"seats": 1})
            assert after.json() == {"first": 3, "last": 3}


@pytest.mark.trial
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize(
    "point", ["guard.claimed", "sqlite.loaded@2", "sqlite.written@2", "sqlite.committed@2", "guard.committed"]
)
def test_a_joined_effect_survives_kill_9_once(tmp_path: Path, point: str) -> None:
    """Killed between claim, decision, commit and answer: the same key again sells the seats, once."""
    name, _, hit = point.partition("@")
    with tickets(tmp_path, f"{name}=kill@{hit or 1}") as (process, url):
        assert post(url, "/seats/", {"seats": 2}, "k") is None
        assert process.wait(patience(10)) == -signal.SIGKILL
    with tickets(tmp_path) as (_, url):
        again = post(url, "/seats/", {"seats": 2}, "k")
        assert again is not None
        assert (again.status_code, again.json()) == (201, {"first": 1, "last": 2})
        after = post(url, "/seats/", {"seats": 1}, "l")
        assert after is not None
        assert after.json() == {"first": 3, "last": 3}, "the seats were sold twice, or never"


@pytest.mark.trial
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize(("point", "sent"), [("guard.claimed", 0), ("tickets.mailed", 1)])
def test_an_outside_effect_is_in_doubt_after_kill_9(tmp_path: Path, point: str, sent: int) -> None:
    """Killed before or behind the mail: the key is in doubt until the completer has looked; then there is one mail."""
    lease_seconds = patience(2)  # longer than a request takes, or its mail may leave twice
    with tickets(tmp_path, f"{point}=kill", lease_seconds) as (process, url):
        assert post(url, "/mails/", {"text": "hello"}, "k") is None
        assert process.wait(patience(10)) == -signal.SIGKILL
    assert mails_of(tmp_path) == ["hello"] * sent
    with tickets(tmp_path, "", lease_seconds) as (_, url):
        statuses: list[int] = []
        deadline = time.monotonic() + patience(20)
        while time.monotonic() < deadline:
            answer = post(url, "/mails/", {"text": "hello"}, "k")
            assert answer is not None
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                assert (REPLAYED in answer.headers) == (sent == 1)
                break
            time.sleep(0.05)
    assert statuses[-1] == 202
    assert set(statuses[:-1]) <= {409, 504}
    assert mails_of(tmp_path) == ["hello"]


# Under kill -9, many times

STORE_POINTS: Final = ("sqlite.loaded", "sqlite.written", "sqlite.committed")
POINTS: Final = ("guard.claimed", "tickets.mailed", "guard.committed", *STORE_POINTS)
LEASE_SECONDS: Final = 3.0
"""Longer than a request takes, also on a busy machine: a mail that leaves after its lease may leave twice."""


@dataclass
class Trial:
    """Requests by key, each with what was answered; `killed` counts where the service died."""

    random: random.Random
    asked: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    in_doubt: int = 0

    def draw(self) -> str:
        """A new request; answers its key."""
        key = f"key-{len(self.asked)}"
        seats: dict[str, Any] = {"seats": self.random.randint(1, 4)}
        mail: dict[str, Any] = {"text": key}
        self.asked[key] = self.random.choice([("/seats/", seats), ("/mails/", mail)])
        return key

    def open_keys(self) -> list[str]:
        """Keys without an answer."""
        return [key for key in self.asked if key not in self.answered]

    async def send(self, client: httpx.AsyncClient, key: str) -> None:
        """Send a request, twice at once; a lost answer, or one that says to come back, leaves the key open."""
        path, body = self.asked[key]
        headers = {KEY: f'"{key}"', "X-Customer": "ann"}
        sends = (client.post(path, json=body, headers=headers) for _ in range(2))
        both = await asyncio.gather(*sends, return_exceptions=True)
        for answer in both:
            if isinstance(answer, httpx.TransportError):
                continue
            assert isinstance(answer, httpx.Response), answer
            self.in_doubt += answer.status_code == 504
            self.replayed += REPLAYED in answer.headers
            if answer.status_code in (201, 202):
                assert self.answered.setdefault(key, answer.json()) == answer.json(), key
            else:
                assert answer.status_code in (409, 503, 504), (answer.status_code, answer.text)

    async def life(self, folder: Path, point: str) -> None:
        """A service that is killed at a point, under clients who first ask again and then for more."""
        with tickets(folder, f"{point}=kill@{self.random.randint(1, 12)}", LEASE_SECONDS) as (process, url):
            async with httpx.AsyncClient(base_url=url, timeout=patience(20)) as client:
                await asyncio.gather(*(self.send(client, key) for key in self.open_keys()))
                deadline = time.monotonic() + patience(20)
                while process.poll() is None and time.monotonic() < deadline:
                    await asyncio.gather(*(self.send(client, self.draw()) for _ in range(4)))
            assert process.wait(patience(10)) == -signal.SIGKILL, point
        self.killed[point] += 1

    async def finish(self, folder: Path) -> None:
        """Ask until every key is answered, and look at what was sold and sent."""
        with tickets(folder, "", LEASE_SECONDS) as (_, url):
            async with httpx.AsyncClient(base_url=url, timeout=patience(20)) as client:
                deadline = time.monotonic() + patience(60)
                while self.open_keys() and time.monotonic() < deadline:
                    await asyncio.gather(*(self.send(client, key) for key in self.open_keys()))
                    await asyncio.sleep(0.2)
        assert self.open_keys() == []
        sold = sorted((one["first"], one["last"]) for one in self.answered.values() if "first" in one)
        assert [seat for first, last in sold for seat in range(first, last + 1)] == list(range(1, sold[-1][1] + 1))
        wanted = {key: body["seats"] for key, (path, body) in self.asked.items() if path == "/seats/"}
        assert {key: one["last"] - one["first"] + 1 for key, one in self.answered.items() if "first" in one} == wanted
        mails = sorted(key for key, (path, _) in self.asked.items() if path == "/mails/")
        assert sorted(mails_of(folder)) == mails, "a mail was sent twice, or never"


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.backend("sqlite")
async def test_soak_of_the_killed_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty-eight kills; every key has one sale or one mail, and one answer. The counts go into the evidence."""
    kills, seed = int(os.environ.get("WALLET_SOAK_KILLS", "48")), 20_261_122
    monkeypatch.setenv("TICKETS_SEATS", "1000000")
    trial = Trial(random.Random(seed))
    for number in range(kills):
        await trial.life(tmp_path, POINTS[number % len(POINTS)])
    await trial.finish(tmp_path)
    rows = [f"| killed at `{point}` | {n} |" for point, n in sorted(trial.killed.items())]
    rows += [f"| keys | {len(trial.asked):,} |", f"| answers that were replays | {trial.replayed:,} |"]
    rows += [f'| answers "in doubt" (504) | {trial.in_doubt:,} |']
    table = "\n".join(["| what | count |", "|---|---:|", *rows])
    text = (
        "`examples/tickets.py` under SIGKILL, with clients who send everything twice at once and again until it is "
        f"answered (seed {seed}). Every key sold its seats once or sent its mail once, and every answer to a key was "
        f"the same.\n\n{table}"
    )
    command = "make soak ARGS='-k killed_example'"
    write_evidence("idempotency-kill", "The idempotency middleware under kill -9", command, text)

    assert sum(trial.killed.values()) == kills
