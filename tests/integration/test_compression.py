"""Long answers are gzipped for those who ask, but never one that has a secret, and never a stream."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import httpx
import pytest
from graphql import GraphQLObjectType

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Person, Server, settle
from tests.integration.test_rate_limits import by, serving_here
from wallet_gql.domain.ids import AccountId, UserId, make_top_up_id, slot_of
from wallet_gql.domain.topups import TopUp
from wallet_gql.records import change
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.operations import OPERATIONS
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http import compression
from wallet_gql.transports.http.compression import ACCEPT_MAX, LENGTH_MIN, accepts_gzip, compressed
from wallet_gql.transports.http.record import RECORD, RequestRecord
from wallet_gql.transports.rest import routes
from wallet_gql.transports.rest.routes import OPERATIONS as REST_OPERATIONS

CURRENCIES: Final = "{ currencies { code exponent } }"
EVENTS: Final = "subscription { viewerEvents { cursor accounts { id } } }"
SECRET: Final = re.compile("secret|token", re.IGNORECASE)
JSON: Final = (b"content-type", b"application/json")
BODY: Final[dict[str, Any]] = {"type": "http.response.body", "body": b'{"data": "' + b"x" * LENGTH_MIN + b'"}'}


@pytest.fixture
async def site() -> AsyncIterator[tuple[httpx.AsyncClient, list[Person]]]:
    """A server, and two people with money."""
    async with serving_here("off") as made:
        yield made


def is_compressed(record: RequestRecord, **body: Any) -> bool:
    """Whether a long answer of JSON to this request is sent gzipped; then it must be what it was."""
    head: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [JSON, (b"content-length", b"0")]}
    after, sent = compressed(head, BODY | body, record)
    headers = dict(after["headers"])
    if b"content-encoding" not in headers:
        assert (after, sent) == (head, BODY | body)
        return False
    assert headers[b"content-length"] == b"%d" % len(sent["body"])
    assert zlib.decompress(sent["body"], zlib.MAX_WBITS | 16) == BODY["body"]
    return True


def test_what_changes_something_is_never_compressed() -> None:
    """Of all operations only those that read are: the others tell tokens and secrets."""
    for name, operation in OPERATIONS.items():
        assert is_compressed(RequestRecord(verbs=(name,))) is operation.reads
        assert is_compressed(RequestRecord(verbs=("viewer", name))) is operation.reads
    assert not is_compressed(RequestRecord(verbs=("viewer",), has_secret=True))


def test_streams_and_short_answers_are_sent_as_they_are() -> None:
    """Nothing waits for more, and nothing gets longer."""
    assert is_compressed(RequestRecord())
    assert not is_compressed(RequestRecord(), more_body=True)
    assert not is_compressed(RequestRecord(), body=b"{}")


def test_all_secrets_are_known() -> None:
    """A field that tells one is in the answer of a mutation, or notes that the answer has it."""
    told = {
        f"{kind.name}.{name}"
        for kind in schema._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name in kind.fields
        if SECRET.search(name) and kind.name != "Mutation"
    }
    assert {name for name in told if not name.split(".")[0].endswith("Success")} == {"TopUp.clientSecret"}


def test_no_read_of_rest_tells_a_secret() -> None:
    """So none has to be left out."""
    answers = [model for one in REST_OPERATIONS if one.entry.reads for model in one.answers.values()]
    told = {name for model in answers if isinstance(model, type) for name in members(model.model_json_schema())}
    assert len(told) > 30
    assert {name for name in told if SECRET.search(name)} == set()


def members(found: Any) -> Iterator[str]:
    """The names of all members in a schema of JSON."""
    if isinstance(found, dict):
        yield from found.get("properties", {})
        for inner in found.values():
            yield from members(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from members(inner)


async def test_a_read_with_a_secret_is_noted(tmp_path: Path) -> None:
    """However deep it is in the answer, and whatever the client calls it."""
    async with wallet_in(tmp_path) as wallet:
        ann = await settle(wallet, 1_000)
        account_id, at = AccountId(ann.account_id), datetime.now(UTC)
        made = TopUp(make_top_up_id(slot_of(account_id), 1, 1), UserId(ann.id), account_id, 100, "EUR", at)
        await change(wallet.store, made.key, lambda _: made.to_record())
        for field, has_secret in (("state", False), ("x: clientSecret", True)):
            record = RequestRecord()
            RECORD.set(record)
            await ask(wallet, ann.token, f"{{ viewer {{ topUps(first: 1) {{ nodes {{ {field} }} }} }} }}")
            assert record.has_secret is has_secret


@pytest.mark.parametrize("first", ["", "*,", "gzip,"])
async def test_no_coding_is_sent_that_was_refused(first: str, site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """However long what comes before the refusal is, an answer that is long enough is sent as it is."""
    http, _ = site
    refused = "gzip;q=0.000"
    for more in range(ACCEPT_MAX - len(first + refused) - 3, ACCEPT_MAX + 3):
        given = f"{first}{'x' * more},{refused}"
        assert not accepts_gzip(given), given
        answer = await http.get("/v1/currency", headers={"Accept-Encoding": given})
        assert (answer.status_code, len(answer.content) > LENGTH_MIN) == (200, True)
        assert "content-encoding" not in answer.headers, given
    assert accepts_gzip("gzip".rjust(ACCEPT_MAX))


async def test_who_asks_gets_it(site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """GraphQL, compiled or not, and REST; the content is the same, and nobody gets it who does not ask."""
    http, (ann, _) = site
    for _ in range(4):
        for encoding, comes in (("gzip", "gzip"), ("gzip;q=0", None), ("identity", None), ("br", None)):
            given = by(ann) | {"Accept-Encoding": encoding}
            answer = await http.post("/graphql", json={"query": CURRENCIES}, headers=given)
            assert answer.headers.get("content-encoding") == comes
            assert len(answer.json()["data"]["currencies"]) > 100
            assert ("Accept-Encoding" in answer.headers.get("vary", "")) is (comes is not None)
    for encoding, comes in (("gzip", "gzip"), ("identity", None)):
        answer = await http.get("/openapi.json", headers={"Accept-Encoding": encoding})
        assert (answer.headers.get("content-encoding"), answer.headers["vary"]) == (comes, "Accept-Encoding")
        assert answer.json()["openapi"]


async def test_the_openapi_file_is_compressed_once(
    site: tuple[httpx.AsyncClient, list[Person]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask for it, uncounted."""
    http, _ = site
    each, once = Mock(wraps=zlib.compressobj), Mock(wraps=gzip.compress)
    monkeypatch.setattr(compression, "zlib", Mock(compressobj=each))
    monkeypatch.setattr(routes, "gzip", Mock(compress=once))
    routes._openapi_gzipped.cache_clear()
    for _ in range(3):
        assert (await http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})).json()["openapi"]
    assert (once.call_count, each.call_count) == (1, 0)


async def test_a_stream_comes_at_once(server: Server, people: list[Person]) -> None:
    """It is not compressed, and its first event does not wait for another."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", "Authorization": f"Bearer {people[0].token}"}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=patience(15)) as client,
        client.stream("POST", "/graphql", json={"query": EVENTS}, headers=headers) as answer,
    ):
        assert "content-encoding" not in answer.headers
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                assert json.loads(line.removeprefix("data: "))["data"]["viewerEvents"]["accounts"]
                break
