"""The Python client keeps the rules of retries, and pays at a running server. `scripts/check` compares its models."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from wallet_gql_client import AsyncClient, Call, Client, NoAnswer, Problem, Retries, following, models, operations

from tests.integration._server import PASSWORD, Person, Server, new_name
from wallet_gql.domain.errors import error_classes
from wallet_gql.testing.patience import patience

pytestmark = [pytest.mark.serving(), pytest.mark.balances(10_000, 0)]

CLIENT: Final = Path(__file__).resolve().parents[2] / "clients" / "python"
AT_ONCE: Final = Retries(most=3, first_seconds=0.0)

Answer = httpx.Response | None
Run = Callable[[Call[Any], list[Answer]], tuple[Any, list[httpx.Request]]]


def problem(code: str, status: int, *, retryable: bool) -> httpx.Response:
    """A refusal as the wallet sends it."""
    return httpx.Response(status, json={"code": code, "detail": "…", "retryable": retryable})


class Script:
    """A server that gives these answers, and then always the last one; None cuts the connection."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.asked: list[httpx.Request] = []
        self.client: Client | AsyncClient | None = None
        """The client that sends: with each request somebody else logs in there."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """The next answer; a copy, since an answer is read once."""
        self.asked.append(request)
        if self.client is not None:
            self.client.token = f"token of user {len(self.asked)}"
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if answer is None:
            raise httpx.ReadError("cut")
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)


def run(call: Call[Any], answers: list[Answer]) -> tuple[Any, list[httpx.Request]]:
    """What a call comes to, and what was sent."""
    script = Script(answers)
    with Client("http://wallet.test", "token", retries=AT_ONCE, transport=httpx.MockTransport(script)) as client:
        script.client = client
        return outcome_of(lambda: client.run(call)), script.asked


def run_async(call: Call[Any], answers: list[Answer]) -> tuple[Any, list[httpx.Request]]:
    """The same with asyncio."""
    script = Script(answers)

    async def main() -> Any:
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://wallet.test", "token", retries=AT_ONCE, transport=transport) as client:
            script.client = client
            return await client.run(call)

    return outcome_of(lambda: asyncio.run(main())), script.asked


def outcome_of(act: Callable[[], Any]) -> Any:
    """The result, or the code of a refusal."""
    try:
        return act()
    except Problem as refused:
        return refused.code
    except NoAnswer:
        return NoAnswer


BODY: Final[Any] = {}
CALLS: Final[dict[str, Call[Any]]] = {
    "keyed": operations.transfer(BODY),
    "batch": operations.transfer_batch(BODY),
    "reading": operations.read_user(),
    "preview": operations.preview(BODY),
    "unkeyed": operations.open_account({"currency": "EUR"}),
}
DONE: Final = {"done": True}
both = pytest.mark.parametrize("send", [run, run_async], ids=["sync", "async"])


@both
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_repeated_by_the_rules(send: Run, name: str) -> None:
    """What is retryable is sent again, the same; what has no answer, if it is safe; all else never."""
    call, done = CALLS[name], httpx.Response(200, json=DONE)
    for kind in error_classes():
        if not kind.__module__.startswith("wallet_gql"):
            continue
        refused = problem(kind.code, 503, retryable=kind.retryable)
        told, asked = send(call, [refused, done])
        assert (told, len(asked)) == ((DONE, 2) if kind.retryable else (kind.code, 1)), kind
        assert len({(one.content, one.headers.get("Idempotency-Key"), one.url) for one in asked}) == 1
    for unknown in (None, httpx.Response(502, text="<html>"), httpx.Response(500, json=[])):
        told, asked = send(call, [unknown, done])
        assert (told, len(asked)) == ((DONE, 2) if call.is_safe else (NoAnswer, 1)), unknown
    told, asked = send(call, [httpx.Response(301, headers={"Location": "https://wallet.test"}), done])
    assert (told, len(asked)) == ("NO_PROBLEM", 1)
    assert call.is_safe is (name != "unkeyed")
    told, asked = send(call, [problem("UNAVAILABLE", 503, retryable=True)])
    assert (told, len(asked)) == ("UNAVAILABLE", AT_ONCE.most)


@both
def test_a_call_is_one_intent(send: Run) -> None:
    """The same call has the same key whenever it runs, another call another one, and a stored key its own."""
    first, second = operations.transfer(BODY), operations.transfer(BODY)
    asked = [send(call, [httpx.Response(200, json=DONE)])[1][0] for call in (first, first, second)]
    keys = [request.headers["Idempotency-Key"] for request in asked]
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)
    assert operations.transfer(BODY, key="stored").key == "stored"


def test_waits_grow_and_never_undercut_what_the_wallet_says() -> None:
    """The wait doubles up to its bound, and is at least `Retry-After`."""
    retries = Retries(first_seconds=1, longest_seconds=8)
    for failures, longest in ((1, 1), (2, 2), (4, 8), (9, 8)):
        assert longest / 2 <= retries.wait(failures) <= longest
    assert retries.wait(1, at_least=60) == 60


@both
@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.is_safe])
def test_a_call_is_sent_as_one_user(send: Run, name: str) -> None:
    """Somebody else who logs in between two attempts sends nothing of it."""
    refused = problem("CONTENDED", 503, retryable=True)
    _, asked = send(CALLS[name], [refused, None, httpx.Response(200, json=DONE)])
    assert [request.headers["Authorization"] for request in asked] == ["Bearer token"] * 3


def stream(*events: dict[str, Any]) -> httpx.Response:
    """A stream with these events, which then breaks off."""
    text = ":\n\n" + "".join(f"id: {one['cursor']}\ndata: {json.dumps(one)}\n\n" for one in events)
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


ENDED: Final = httpx.Response(
    200,
    text='event: problem\ndata: {"status": 401, "code": "UNAUTHENTICATED", "detail": "…", "retryable": false}\n\n',
)


BROKEN: Final[list[Answer]] = [stream({"cursor": "a"}, {"cursor": "b"}), None, stream({"cursor": "c"}), ENDED]


def events(script: Script, seen: list[str]) -> None:
    """Read events until they end."""
    with Client("http://wallet.test", "token", retries=AT_ONCE, transport=httpx.MockTransport(script)) as client:
        script.client = client
        for event in client.events():
            seen += [event["cursor"]]


def events_async(script: Script, seen: list[str]) -> None:
    """The same with asyncio."""

    async def main() -> None:
        nonlocal seen
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://wallet.test", "token", retries=AT_ONCE, transport=transport) as client:
            script.client = client
            async for event in client.events():
                seen += [event["cursor"]]

    asyncio.run(main())


@pytest.mark.parametrize("read", [events, events_async], ids=["sync", "async"])
def test_events_go_on_where_they_were(read: Callable[[Script, list[str]], None]) -> None:
    """A stream that breaks off is resumed behind its last event, until the wallet says why it ends."""
    script, seen = Script(BROKEN), list[str]()
    with pytest.raises(Problem, match="UNAUTHENTICATED"):
        read(script, seen)
    assert seen == ["a", "b", "c"]
    assert [request.url.params.get("after") for request in script.asked] == [None, "b", "b", "c"]
    assert {request.headers["Authorization"] for request in script.asked} == {"Bearer token"}  # that of one user
    for answers, error in (([None], NoAnswer), ([problem("UNAVAILABLE", 503, retryable=True)], Problem)):
        script = Script([*answers])
        with pytest.raises(error):
            read(script, [])
        assert len(script.asked) == AT_ONCE.most


def test_it_pays(server: Server, people: list[Person]) -> None:
    """Sign up, look around, pay twice under one key, page through the history, and see it live."""
    payer, payee = people
    name = new_name()
    with Client(server.url) as newcomer:
        joined = newcomer.run(
            operations.sign_up(
                {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "session": "BEARER"}
            )
        )
        newcomer.token = joined["token"]
        assert newcomer.run(operations.read_user()) == joined["user"]
        assert newcomer.run(operations.log_out()) is None
    with Client(server.url, payer.token) as client, Client(server.url, payee.token) as other:
        live = other.events()
        assert next(live)["snapshot"]
        payment = operations.transfer(
            {
                "fromAccountId": payer.account_id,
                "to": {"username": payee.username},
                "amount": {"minorUnits": "250", "currency": "EUR"},
            },
            key='a key with "quotes", and more',
        )
        first, again = client.run(payment), client.run(payment)
        assert (first["transfer"]["id"], first["replayed"], again["replayed"]) == (again["transfer"]["id"], False, True)
        (entry,) = next(live)["entries"]
        assert entry["transfer"]["id"] == first["transfer"]["id"]
        live.close()
        seen = 0
        page: Call[models.Entries] | None = operations.list_history(first=1)
        while page is not None:
            told = client.run(page)
            seen += len(told["entries"])
            page = following(page, told)
        assert seen == 2
        span = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        assert client.run(operations.export_statement(payer.account_id, **span)).count("\r\n") == 3
        assert payment.key is not None
        assert client.run(operations.find_transfer(idempotency_key=payment.key))["transfer"] == first["transfer"]


async def test_it_pays_with_asyncio(server: Server, people: list[Person]) -> None:
    """The same calls, awaited."""
    payer, payee = people
    async with AsyncClient(server.url, payer.token) as client:
        live = client.events()
        assert (await anext(live))["snapshot"]
        with pytest.raises(Problem) as refused:
            await client.run(
                operations.transfer(
                    {
                        "fromAccountId": payer.account_id,
                        "to": {"username": payee.username},
                        "amount": {"minorUnits": "99999999", "currency": "EUR"},
                    }
                )
            )
        assert (refused.value.code, int(refused.value.values["availableMinor"]) > 0) == ("INSUFFICIENT_FUNDS", True)
        await live.aclose()


def test_the_wheel(tmp_path: Path) -> None:
    """The published form has all modules and says that it is typed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=CLIENT, check=True, capture_output=True, timeout=patience(60))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    package = {f"wallet_gql_client/{path.name}" for path in (CLIENT / "src" / "wallet_gql_client").glob("*.py*")}
    assert package | {"wallet_gql_client/py.typed"} <= set(names)
    assert not [name for name in names if "generate" in name]
