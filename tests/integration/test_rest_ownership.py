"""No user can read or change anything by other users' ids over REST. The cases are generated from the operations.

Every part of a path, member of a body and parameter that takes an id gets, from a stranger, each id of another user,
and then ids that do not exist. The answers must be the same, and nothing of the owner's may change.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, get_args

import httpx
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.integration._graphql import SCHEMA, execute, wallet_in
from tests.integration._server import Person, new_key, settle
from tests.integration._stripe import settings_of
from tests.integration.test_graphql_ownership import STATE, Town, bank, furnish, id_paths, unknown
from wallet_gql.domain.ids import UserId
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.rest.routing import Operation
from wallet_gql.transports.server.app import create_app

pytestmark = pytest.mark.asyncio(loop_scope="module")

BY_NAME: Final = {operation.name: operation for operation in OPERATIONS}
QUERIES: Final = {"listAccounts.after": "account", "listHolds.after": "hold", "findTransfer.idempotencyKey": "key"}
"""Parameters that take an id. `after` of other lists is checked by `test_cursors_of_others_lead_nowhere`."""

ADDRESSES: Final = {
    "transfer.to.accountId",
    "transferBatch.items.to.accountId",
    "placeHold.to.accountId",
    "payMerchant.splits.to.accountId",
    "preview.to.accountId",
}
"""An account's id is its address: whoever was told it may pay to it."""

SPAN: Final = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z", "by": "KIND"}
"""Parameters that an operation may require."""

LISTS: Final = {"listAccounts.after", "listHolds.after"}
"""Cursors: a stranger gets the own list, from there on."""

VARYING: Final = re.compile(
    r'"requestId":"[^"]*"|"clientSecret":"[^"]*"|(trf|hld|top|wdr)_[0-9a-f]{32}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?'
)


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a member's type names, also in lists and beside null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_of(part)


def members(model: type[BaseModel]) -> Iterator[str]:
    """Every member of a body that takes an id, such as `to.accountId`."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        if alias.endswith("Id") or alias == "id":
            yield alias
        for inner in models_of(field.annotation):
            yield from (f"{alias}.{path}" for path in members(inner))


def places() -> Iterator[str]:
    """Every place of REST that takes an id, such as `transfer.fromAccountId` or `readHold.{hold_id}`."""
    for operation in OPERATIONS:
        yield from (f"{operation.name}.{{{name}}}" for name in re.findall(r"{(\w+)}", operation.path))
        yield from (f"{operation.name}.{path}" for path in (members(operation.body) if operation.body else ()))
    yield from QUERIES


PLACES: Final = sorted(set(places()))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Town, httpx.AsyncClient]]:
    """An owner with something of everything, and a client of the application."""
    with FakeStripe() as fake:
        folder = tmp_path_factory.mktemp("rest-town")
        async with wallet_in(folder, rate_limits="off", **settings_of(fake)) as wallet:
            app = create_app(wallet)
            async with app.router.lifespan_context(app):
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as http:
                    yield await furnish(wallet, fake), http


async def newcomer(town: Town) -> Person:
    """A stranger with money, a bank and a shop, so that nothing but the id stands in the way."""
    person = await settle(town.wallet, 1_000)
    await bank(town.wallet, town.fake, person)
    for one in (person, town.third):
        if await town.wallet.merchants.merchant(UserId(one.id)) is None:
            await town.wallet.merchants.register(UserId(one.id), "Shop")
    return person


def body_of(operation: Operation, town: Town, person: Person) -> dict[str, Any] | None:
    """A body of the person's own that the operation takes."""
    if operation.body is None:
        return None
    amount = {"minorUnits": "100", "currency": "EUR"}
    item = {"fromAccountId": person.account_id, "to": {"username": town.third.username}, "amount": amount}
    half = {"to": {"username": town.fourth.username}, "basisPoints": 5_000}
    own: dict[str, Any] = {
        "fromAccountId": person.account_id,
        "toAccountId": person.account_id,
        "accountId": person.account_id,
        "fromSequence": 1,
        "to": {"username": town.third.username},
        "merchant": town.third.username,
        "amount": amount,
        "mode": "INDEPENDENT",
        "items": [{**item, "idempotencyKey": new_key()}],
        "splits": [half],
    }
    taken = {field.alias or name for name, field in operation.body.model_fields.items()}
    return {name: value for name, value in own.items() if name in taken}


def put(where: Any, way: list[str], given: str) -> None:
    """Put an id into a body; where one of several members is wanted, instead of the others."""
    if isinstance(where, list):
        where = where[0]
    name, *rest = way
    if rest:
        put(where[name], rest, given)
    elif name == "accountId" and "username" in where:
        where.clear()
        where[name] = given
    else:
        where[name] = given


async def answer(town: Town, http: httpx.AsyncClient, person: Person, place: str, given: str) -> str:
    """What the person gets, as text, without what differs from request to request."""
    name, _, way = place.partition(".")
    operation = BY_NAME[name]
    path, body = operation.path, body_of(operation, town, person)
    taken = {} if operation.query is None else operation.query.model_fields
    query = {name: value for name, value in SPAN.items() if name in taken}
    if way.startswith("{"):
        path = path.replace(way, given)
    elif place in QUERIES:
        query[way] = given
    else:
        put(body, way.split("."), given)
    headers = {"Authorization": f"Bearer {person.token}"}
    if operation.entry.keyed:
        headers["Idempotency-Key"] = new_key()
    got = await http.request(operation.method, path, json=body, params=query, headers=headers)
    assert got.status_code < 500, got.text
    text = f"{got.status_code} {got.text}"
    for value in re.findall(r"acc_[0-9a-f]{32}", json.dumps(body)):
        text = text.replace(value, "OWN" if value != given else "ID")
    return VARYING.sub("…", text.replace(given, "ID").replace(given[:48], "ID"))  # long texts are told in part


async def test_places_are_found() -> None:
    """The walk over the table finds paths, members of members, and lists; every part of a path is called an id."""
    assert ADDRESSES | set(QUERIES) <= set(PLACES)
    assert {"readAccount.{account_id}", "transfer.fromAccountId", "replayEvents.accountId"} <= set(PLACES)
    assert all(name.endswith("_id") for operation in OPERATIONS for name in re.findall(r"{(\w+)}", operation.path))
    assert len(PLACES) >= 20


async def test_ids_of_the_schema_have_their_type() -> None:
    """No argument or input field of the GraphQL schema takes an id under another type, where the walk misses it."""
    typed = {path.rpartition("(")[2].rstrip(")").rpartition(".")[2] for path in id_paths()}
    for kind in SCHEMA.type_map.values():
        fields = getattr(kind, "fields", {})
        inputs = dict(fields) if kind.name.endswith("Input") else {}
        arguments = {name: arg for field in fields.values() for name, arg in getattr(field, "args", {}).items()}
        for name, taken in {**inputs, **arguments}.items():
            if name in typed or name == "id" or name.endswith(("Id", "Ids")):
                assert "ID" in str(taken.type), f"{kind.name}: {name} is {taken.type}"


@pytest.mark.parametrize("place", PLACES)
async def test_ids_of_others_are_like_unknown_ids(town: tuple[Town, httpx.AsyncClient], place: str) -> None:
    """A stranger gets the same answer for each id of the owner's as for ids of nobody, and changes nothing."""
    here, http = town
    stranger = await newcomer(here)
    before = await execute(here.wallet, here.owner.token, STATE, {"hold": here.ids["hold"]})
    assert before.errors is None
    for kind, given in here.ids.items():
        if kind == "account" and place in ADDRESSES:
            continue
        found = await answer(here, http, stranger, place, given)
        for near in (True, False):
            other = await answer(here, http, stranger, place, unknown(kind, given, near=near))
            if place in LISTS:
                found, other = found.partition(" ")[0], other.partition(" ")[0]
            assert found == other, (kind, given)
    after = await execute(here.wallet, here.owner.token, STATE, {"hold": here.ids["hold"]})
    assert after.data == before.data


async def sent(
    town: tuple[Town, httpx.AsyncClient], operation: Operation, headers: dict[str, str]
) -> tuple[int, str | None]:
    """The status and the code of what somebody with these headers gets who asks for something of the owner's own."""
    here, http = town
    path = re.sub(r"{(\w+)}", lambda match: "x" * len(match[1]), operation.path)
    got = await http.request(operation.method, path, json=body_of(operation, here, here.owner), headers=headers)
    return got.status_code, got.json()["code"] if got.is_error else None


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_every_route_is_guarded(town: tuple[Town, httpx.AsyncClient], operation: Operation) -> None:
    """Nobody gets in without a session, no other site with a browser's cookie; money does not move without a key."""
    key = {"Idempotency-Key": new_key()}
    if operation.entry.session:
        for nobody in ({}, {"Authorization": "Bearer wgs_000" + "A" * 43}):
            assert await sent(town, operation, {**key, **nobody}) == (401, "UNAUTHENTICATED")
    cookie = {"Cookie": f"__Host-wallet={town[0].owner.token}"}
    for site in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.test"}):
        assert await sent(town, operation, {**key, **cookie, **site}) == (403, "CROSS_SITE")
    if operation.takes_key:
        owner = {"Authorization": f"Bearer {town[0].owner.token}"}
        for wrong in ({}, {"Idempotency-Key": ""}, {"Idempotency-Key": "a b"}):
            status, code = await sent(town, operation, {**owner, **wrong})
            assert (status, code) == (400, "INVALID_INPUT") or (status == 404 and "{" in operation.path)


async def test_the_owner_has_all_of_it(town: tuple[Town, httpx.AsyncClient]) -> None:
    """The ids in question are real: the owner reaches each of them."""
    here, http = town
    headers = {"Authorization": f"Bearer {here.owner.token}"}
    for name, path in (
        ("account", "account"),
        ("transfer", "transfer"),
        ("hold", "hold"),
        ("topUp", "top-up"),
        ("withdrawal", "withdrawal"),
    ):
        got = await http.get(f"/v1/{path}/{here.ids[name]}", headers=headers)
        assert (got.status_code, got.json()["id"]) == (200, here.ids[name])


async def test_cursors_of_others_lead_nowhere(town: tuple[Town, httpx.AsyncClient]) -> None:
    """A cursor from another user's list shows only the caller's own items."""
    here, http = town
    owners, stranger = {"Authorization": f"Bearer {here.owner.token}"}, await newcomer(here)
    mine = {"Authorization": f"Bearer {stranger.token}"}
    events = (await http.get("/v1/event", headers=owners)).json()["events"]
    seen = {event["id"] for event in events}
    for cursor in seen:
        page = await http.get("/v1/event", params={"after": cursor}, headers=mine)
        assert not seen & {event["id"] for event in page.json()["events"]}
    for path, kind in (("top-up", "topUp"), ("withdrawal", "withdrawal")):
        for cursor in (here.ids[kind], unknown(kind, here.ids[kind], near=True)):
            page = await http.get(f"/v1/{path}", params={"after": cursor}, headers=mine)
            assert here.owner.account_id not in page.text
