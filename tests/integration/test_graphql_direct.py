"""The short way of usual requests answers as the long way does, and takes nothing that is unusual."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration._server import TRANSFER, VIEWER, Person, Server, new_key, raw_request
from tests.integration.test_rate_limits import by, serving_here
from wallet_gql.runtime import Wallet
from wallet_gql.transports.graphql.view import WalletView
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.http.problems import BODY_MAX

HISTORY: Final = "query($id: ID!, $first: Int!) { account(id: $id) { history(first: $first) { edges { cursor } } } }"
LONG: Final = {"Last-Event-ID": "0"}
"""A header that sends a request the long way, and changes nothing else."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The token of each request that went the short way."""
    found: list[str] = []
    real = WalletView.run_prepared

    async def run(view: WalletView, prepared: Any, wallet: Wallet, caller: Caller, media_type: str) -> Any:
        found.append(str(caller._token))
        return await real(view, prepared, wallet, caller, media_type)

    monkeypatch.setattr(WalletView, "run_prepared", run)
    return found


@pytest.fixture
async def site() -> AsyncIterator[tuple[httpx.AsyncClient, list[Person]]]:
    """A server, and two people with money."""
    async with serving_here("off") as made:
        yield made


async def _warm(http: httpx.AsyncClient, ann: Person) -> None:
    """Let the documents come until they have plans."""
    for query in (VIEWER, HISTORY, TRANSFER):
        for _ in range(3):
            variables = {"id": ann.account_id, "first": 1} if query is HISTORY else {"input": ann.pay("nobody-here", 1)}
            await http.post("/graphql", json={"query": query, "variables": variables}, headers=by(ann))


def _shown(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """An answer without the ids of its request."""
    request_id = answer.headers["x-request-id"]
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, json.loads(answer.text.replace(request_id, "ID"))


async def test_both_ways_answer_alike(site: tuple[httpx.AsyncClient, list[Person]], taken: list[str]) -> None:
    """Status, headers and body are equal, of successes, refusals, errors and whatever the client accepts."""
    http, (ann, bob) = site
    await _warm(http, ann)
    page = {"id": ann.account_id, "first": 2}
    paid = {"query": TRANSFER, "variables": {"input": ann.pay(bob.username, 1)}}
    await http.post("/graphql", json=paid, headers=by(ann))
    refused = ann.pay(bob.username, 10**9, key=new_key())
    bodies: list[dict[str, Any]] = [
        {"query": VIEWER},
        {"query": VIEWER, "variables": None, "operationName": None, "extensions": {}},
        {"query": HISTORY, "variables": page},
        {"query": HISTORY, "variables": {**page, "first": 0}},
        {"query": HISTORY, "variables": {**page, "id": "acc_nobody"}},
        {"query": HISTORY, "variables": {"id": 1.5}},
        {"query": HISTORY},
        paid,  # a replay
        {"query": TRANSFER, "variables": {"input": refused}},
        {"query": TRANSFER, "variables": {"input": {**refused, "to": {"username": "a", "accountId": "b"}}}},
    ]
    heads = [by(ann), {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}]
    accepts: list[dict[str, str]] = [{}, {"Accept": "application/graphql-response+json, application/json;q=0.9"}]
    for body in bodies:
        for head in heads:
            for accept in accepts:
                del taken[:]
                short = await http.post("/graphql", json=body, headers=head | accept)
                assert len(taken) == 1, body
                long = await http.post("/graphql", json=body, headers=head | accept | LONG)
                assert len(taken) == 1, body
                assert _shown(short) == _shown(long), body


@pytest.mark.parametrize(
    "unusual",
    [
        {"Content-Encoding": "identity"},
        {"Origin": "http://wallet.test"},
        {"Accept": "text/event-stream"},
        {"Accept": "image/png"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Authorization": ""},
        {"Cookie": "__Host-wallet=nonsense"},
    ],
    ids=str,
)
async def test_unusual_heads_go_the_long_way(
    site: tuple[httpx.AsyncClient, list[Person]], taken: list[str], unusual: dict[str, str]
) -> None:
    """Whatever changes what is answered, or who asks, is left to the long way."""
    http, (ann, _) = site
    await _warm(http, ann)
    del taken[:]
    headers = {name: value for name, value in (by(ann) | unusual).items() if value}
    if "Cookie" in unusual:
        del headers["Authorization"]
    await http.post(
        "/graphql", content=json.dumps({"query": VIEWER}), headers={"Content-Type": "application/json"} | headers
    )
    assert not taken


async def test_unusual_bodies_go_the_long_way(site: tuple[httpx.AsyncClient, list[Person]], taken: list[str]) -> None:
    """Bodies without a length or longer than allowed, new documents, and what is no request of GraphQL."""
    http, (ann, _) = site
    await _warm(http, ann)
    del taken[:]
    headers = {"Content-Type": "application/json", **by(ann)}

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"query": '
        yield json.dumps(VIEWER).encode() + b"}"

    assert (await http.post("/graphql", content=pieces(), headers=headers)).json()["data"]["viewer"]
    assert (await http.post("/graphql", content=b" " * (BODY_MAX + 1), headers=headers)).status_code == 413
    lying = {**headers, "Content-Length": "10"}
    assert (await http.post("/graphql", content=b" " * (BODY_MAX + 1), headers=lying)).status_code == 413
    for content in (b"", b"[]", b"{", b'{"query": 1}', b'{"query": "{ new: viewer { id } }"}'):
        answer = await http.post("/graphql", content=content, headers=headers)
        assert "errors" in answer.json() or answer.json()["data"]["new"]
    assert not taken


async def test_a_request_is_counted_once(taken: list[str]) -> None:
    """Both ways count by address and by user, and refuse with the same answer."""
    async with serving_here("address=9/hour; user=8/hour") as (http, (ann, bob)):
        for _ in range(8):
            assert (await http.post("/graphql", json={"query": VIEWER}, headers=by(ann))).status_code == 200
        assert len(taken) >= 6  # the document may have a plan already
        del taken[:]
        throttled = await http.post("/graphql", json={"query": VIEWER}, headers=by(ann))
        assert throttled.status_code == 429
        assert int(throttled.headers["retry-after"]) > 1
        assert len(taken) == 1
        answer = await http.post("/graphql", json={"query": VIEWER}, headers=by(bob))
        assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
        assert len(taken) == 1


async def _said(server: Server, *requests: bytes) -> list[tuple[list[str], Any]]:
    """Status and headers in order, and bodies, of all the answers to requests that are sent at once."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"".join(requests))
    answers = []
    for _ in requests:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int(head.split("content-length: ", 1)[1].split("\r\n", 1)[0]))
        lines = [line for line in head.split("\r\n") if not line.startswith(("date: ", "x-request-id: "))]
        answers.append((sorted(lines), json.loads(body)))
    if any(b"close" in request or b"HTTP/1.0" in request for request in requests):
        assert await reader.read() == b""
    writer.close()
    return answers


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("head", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
async def test_a_whole_answer_has_what_another_has(
    server: Server, people: list[Person], version: str, head: str
) -> None:
    """Over a real connection: the same status, headers and body, and the connection stays open or is closed alike."""
    usual = raw_request(server.url, people[0].token, VIEWER).replace(b"HTTP/1.1\r\n", f"{version}\r\n{head}".encode())
    unusual = usual.replace(b"Content-Type", b"Last-Event-ID: 0\r\nContent-Type")
    for _ in range(3):  # the document has a plan then
        await _said(server, unusual)
    assert await _said(server, usual) == await _said(server, unusual)


async def test_whole_answers_keep_their_order(server: Server, people: list[Person]) -> None:
    """Requests that are sent before the answers to others are answered in turn, whichever way each goes."""
    usual = raw_request(server.url, people[0].token, VIEWER)
    unusual = raw_request(server.url, people[0].token, "{ viewer { id } }").replace(
        b"Content-Type", b"Last-Event-ID: 0\r\nContent-Type"
    )
    for _ in range(3):
        await _said(server, usual)
    answers = await _said(server, usual, unusual, usual, usual, unusual)
    assert [len(body["data"]["viewer"]) for _, body in answers] == [4, 1, 4, 4, 1]


async def test_long_headers_are_not_remembered(site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """What is kept by a header's text is bounded by its length, too: anybody may send sixty thousand bytes."""
    http, (ann, _) = site
    await _warm(http, ann)
    long = "x" * 60_000
    for name in ("User-Agent", "Accept", "Host", "Accept-Language", "Accept-Encoding"):
        await http.post("/graphql", json={"query": VIEWER}, headers=by(ann) | {name: f"{long}, */*"})
    modules = [module for name, module in [*sys.modules.items()] if name.startswith("wallet_gql.transports")]
    found = [one for module in modules for one in vars(module).values()]
    caches = [one for one in found if isinstance(one, functools._lru_cache_wrapper)]
    ours = [one for one in caches if one.__module__.startswith("wallet_gql.")]  # not `urlsplit`, which tests call, too
    assert len(ours) > 3
    keys = [key for cache in ours for table in gc.get_referents(cache) if type(table) is dict for key in table]
    told = [part for key in keys for part in ([key] if isinstance(key, str | bytes) else gc.get_referents(key))]
    assert not [part for part in told if isinstance(part, str | bytes) and len(part) > 1_000]
