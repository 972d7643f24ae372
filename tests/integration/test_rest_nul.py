"""Postgres takes no NUL in a text: wherever REST takes a text, one with a NUL is refused, or found nowhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from tests.integration._server import Person, new_key, settle
from tests.integration.test_lookups import body_for
from tests.integration.test_rate_limits import by
from tests.integration.test_rest_ownership import SPAN
from wallet_gql.domain.ids import UserId
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.harness import Harness
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.rest.routing import Operation
from wallet_gql.transports.server.app import create_app

pytestmark = [pytest.mark.backend("postgres-1"), pytest.mark.service("postgres")]

NULS: Final = ("\0", "a\0")


@pytest.fixture
async def site(harness: Harness, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Person]]:
    """An application on Postgres, and a merchant."""
    await harness.start(tmp_path)
    settings = load_settings(storage=harness.url, rate_limits="off", mode="test")
    async with open_wallet(settings, sweeps=False) as wallet:
        app, ann = create_app(wallet), await settle(wallet, 1_000)
        await wallet.merchants.register(UserId(ann.id), "Shop")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://wallet.test", headers=by(ann)) as http,
        ):
            yield http, ann
    await harness.stop()


def texts(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the texts of a body are."""
    if isinstance(value, str):
        yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from texts(one, (*way, name))


def put(body: Any, way: tuple[Any, ...], text: str) -> Any:
    """The body with another text at that place."""
    made = where = deepcopy(body)
    for name in way[:-1]:
        where = where[name]
    where[way[-1]] = text
    return made


def requests(operation: Operation, ann: Person) -> Iterator[tuple[str, Any]]:
    """URLs and bodies of an operation: with a NUL in each part of the path, each parameter, each text of the body."""
    taken = {} if operation.query is None else operation.query.model_fields
    query = {name: value for name, value in SPAN.items() if name in taken}
    body = None if operation.body is None else body_for(operation.body, ann)
    path = re.sub(r"{\w+}", "x", operation.path.replace("{account_id}", ann.account_id))
    for nul in NULS:
        for part in re.findall(r"{\w+}", operation.path):
            yield re.sub(r"{\w+}", "x", operation.path.replace(part, quote(nul))), body
        for name, field in taken.items():
            given = {**query, field.alias or name: nul}
            yield f"{path}?" + "&".join(f"{name}={quote(value)}" for name, value in given.items()), body
        for way in texts(body):
            yield path, put(body, way, nul)


async def test_no_nul_reaches_the_database(site: tuple[httpx.AsyncClient, Person]) -> None:
    """In no part of any route's path, in no parameter, and in no text of a body: the answer is never our error."""
    http, ann = site
    wrong, asked = [], 0
    for operation in OPERATIONS:
        for url, body in requests(operation, ann):
            headers = {"Idempotency-Key": new_key()} if operation.entry.keyed else {}
            answer = await http.request(operation.method, url, json=body, headers=headers)
            asked += 1
            if answer.is_server_error:
                wrong.append((operation.name, url, body, answer.status_code, answer.text))
    assert wrong == []
    assert asked > 100
