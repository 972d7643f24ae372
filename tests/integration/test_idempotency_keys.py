"""Two spellings of an idempotency key, over any transport: one effect or a refusal, never two effects."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.integration._graphql import execute
from tests.integration._server import Person, counted, settle
from tests.integration.test_graphql_ownership import INPUTS, PATHS, Make, Town, _put, document, furnish, parts
from tests.integration.test_idempotency_middleware import client_of
from wallet_gql.domain.errors import InvalidInput
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.idempotency import Guard
from wallet_gql.idempotency.keys import HEADER
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.server.app import create_app, playground
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAME: Final = ("{0}", '"{0}"')
"""What spells the key, wherever it is sent."""

PADDED: Final = (" {0}", "{0} ", "\t{0}", ' "{0}"', '"{0}" ')
"""Spells it in a header, where white space around a value is none of the value; refused elsewhere."""

BROKEN: Final = (
    *('"{0}', '""{0}""', '"{0}""', '"{0}" "{0}"', '"{0}", "{0}"', '"{0}",', '"{0}";', '"{0}";x=1', '"{0}"; x'),
    *('" {0}"', '"{0} "', '"\\"{0}\\""', '"{0}\\"', '"\\{0}"', '"', '""', "", " ", '" "', '"{0}\t"', '"é{0}"'),
)
"""Refused wherever it is sent."""

JOINED: Final = ("{0}, {0}", "{0},{0}", "{0};x=1", '{0}"', "{0} {0}", '{0}, "{0}"')
"""Refused in a header, where it may be several; a key of its own elsewhere, where it cannot."""

TABLES: Final = ("transfers", "receipts", "holds", "entries")
KEYED: Final = [path for path in PATHS if path.endswith("idempotencyKey)")]


def cases() -> Iterator[Any]:
    """Every input of the schema that has a key."""
    for path in KEYED:
        for make in INPUTS[parts(path)[1]]:
            yield pytest.param(path, make, id=f"{path}-{make.__name__}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the wallet's file is."""
    return tmp_path_factory.mktemp("keys")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def town(folder: Any) -> AsyncIterator[Town]:
    """A wallet with a bit of everything."""
    with FakeStripe() as fake:
        more: dict[str, Any] = {"stripe_api_key": fake.key, "stripe_api_base": fake.url}
        settings = load_settings(storage=f"sqlite:///{folder / 'wallet.db'}", rate_limits="off", **more)
        async with open_wallet(settings, sweeps=False) as wallet:
            yield await furnish(wallet, fake)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http(town: Town) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the wallet's REST."""
    app = create_app(town.wallet, playground(load_settings()))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.parametrize(("path", "make"), list(cases()))
async def test_a1_graphql(town: Town, folder: Any, path: str, make: Make) -> None:
    """Every input with a key: what spells it replays, what is ambiguous is refused by the name of the field."""
    _, name, way = parts(path)
    stranger, key = await settle(town.wallet, 1_000), str(uuid.uuid4())
    sent = await make(town, stranger)
    kind = schema._schema.mutation_type.fields[name].args["input"].type.of_type  # type: ignore[union-attr]  # NonNull

    async def send(spelling: str) -> Any:
        _put(sent, kind, way[1:], spelling)
        result = await execute(town.wallet, stranger.token, document(path), {"given": sent})
        assert result.errors is None, result.errors
        return (result.data or {})[name]

    assert "InvalidInput" not in json.dumps(await send(key), default=str)
    before = counted(folder / "wallet.db", *TABLES)
    for form in SAME:
        again = json.dumps(await send(form.format(key)), default=str)
        assert "InvalidInput" not in again
        assert counted(folder / "wallet.db", *TABLES) == before, form
    for form in (*PADDED, *BROKEN):
        refused = json.dumps(await send(form.format(key)), default=str)
        assert "InvalidInput" in refused, form
        assert "idempotencyKey" in refused
        assert counted(folder / "wallet.db", *TABLES) == before, form


async def test_every_command_with_a_key_is_tried() -> None:
    """The walk over the schema finds them, also in a list."""
    assert "Mutation.transferBatch(input.items.idempotencyKey)" in KEYED
    assert len(KEYED) >= 9


@pytest.mark.parametrize("mode", ["ATOMIC", "INDEPENDENT"])
async def test_one_key_twice_in_a_batch(town: Town, mode: str) -> None:
    """Spelled in two ways it is one key all the same."""
    person, key = await settle(town.wallet, 1_000), str(uuid.uuid4())
    items = [person.pay(town.third.username, 1) | {"idempotencyKey": form.format(key)} for form in SAME]
    result = await execute(
        town.wallet,
        person.token,
        "mutation($b: TransferBatchInput!) { transferBatch(input: $b) { ... on InvalidInput { problems { path } } } }",
        {"b": {"mode": mode, "items": items}},
    )
    assert result.data == {"transferBatch": {"problems": [{"path": ["items"]}]}}


def bodies(town: Town, person: Person) -> dict[str, dict[str, Any]]:
    """Commands over REST by path."""
    paid = person.pay(town.third.username, 1)
    del paid["idempotencyKey"]
    return {"/v1/transfer": paid, "/v1/hold": paid}


@pytest.mark.parametrize("path", ["/v1/transfer", "/v1/hold"])
async def test_a1_rest(town: Town, folder: Any, http: httpx.AsyncClient, path: str) -> None:
    """The same in the header; GraphQL has the same key."""
    person, key = await settle(town.wallet, 1_000), str(uuid.uuid4())
    body = bodies(town, person)[path]

    async def send(*values: str) -> httpx.Response:
        headers = [(HEADER.encode(), value.encode()) for value in values]
        return await http.post(
            path, json=body, headers=[(b"Authorization", f"Bearer {person.token}".encode()), *headers]
        )

    assert (await send(f'"{key}"')).status_code == 201
    before = counted(folder / "wallet.db", *TABLES)
    for form in (*SAME, *PADDED):
        again = await send(form.format(key))
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true"), form
    for values in (*((form.format(key),) for form in (*BROKEN, *JOINED)), (key, key), (f'"{key}"', key)):
        refused = await send(*values)
        assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_INPUT"), values
    assert counted(folder / "wallet.db", *TABLES) == before
    if path == "/v1/transfer":
        document = "mutation($p: TransferInput!) { transfer(input: $p) { ... on TransferSuccess { replayed } } }"
        for form in SAME:
            given = {**body, "idempotencyKey": form.format(key)}
            result = await execute(town.wallet, person.token, document, {"p": given})
            assert result.data == {"transfer": {"replayed": True}}
            known = await http.get(path, params={"idempotencyKey": form.format(key)}, headers=bearer(person))
            assert known.status_code == 200


def bearer(person: Person) -> dict[str, str]:
    """Who asks."""
    return {"Authorization": f"Bearer {person.token}"}


@pytest.mark.parametrize("bare", [True, False])
async def test_a1_middleware(bare: bool) -> None:
    """The same in the middleware; without `bare_keys` also what has no quotes is refused."""
    runs = 0

    async def endpoint(_: Request) -> Response:
        nonlocal runs
        runs += 1
        return JSONResponse({"run": runs}, 201)

    async def send(*values: str) -> httpx.Response:
        return await client.post("/x", headers=[(HEADER.encode(), value.encode()) for value in values])

    async with client_of(endpoint, bare_keys=bare) as client:
        assert (await send('"k-1"')).status_code == 201
        for form in (*SAME, *PADDED):
            status = 201 if bare or '"' in form else 400
            assert (await send(form.format("k-1"))).status_code == status, form
        for values in (*((form.format("k-1"),) for form in (*BROKEN, *JOINED)), ("k-1", "k-1"), ('"k-1"', "k-1")):
            refused = await send(*values)
            assert (refused.status_code, refused.json()["code"]) == (400, "IDEMPOTENCY_KEY_INVALID"), values
        assert runs == 1


OLD: Final = ('"{0}"', '"{0}";x=1', " {0}", '"{0}', '""', "{0}, {0}", '{0}"')


@pytest.mark.parametrize("form", OLD)
async def test_ledgers_of_before(town: Town, folder: Any, http: httpx.AsyncClient, form: str) -> None:
    """A spelling that is kept as a key of its own, quotes and all, keeps its answer, over both transports."""
    person = await settle(town.wallet, 1_000)
    kept = form.format(uuid.uuid4())
    body = bodies(town, person)["/v1/transfer"]
    await town.wallet.ledger.transfer(
        UserId(person.id),
        kept,
        source=AccountId(person.account_id),
        to=To(username=town.third.username),
        amount_minor=1,
        currency="EUR",
        reference=str(body.get("reference", "")),
    )
    before = counted(folder / "wallet.db", *TABLES)
    document = "mutation($p: TransferInput!) { transfer(input: $p) { ... on TransferSuccess { replayed } } }"
    result = await execute(town.wallet, person.token, document, {"p": {**body, "idempotencyKey": kept}})
    assert result.data == {"transfer": {"replayed": True}}
    again = await http.post("/v1/transfer", json=body, headers={**bearer(person), HEADER: kept})
    assert again.status_code == (200 if kept == kept.strip() else 201)
    if kept == kept.strip():
        assert again.headers["idempotent-replayed"] == "true"
        assert counted(folder / "wallet.db", *TABLES) == before
        known = await http.get("/v1/transfer", params={"idempotencyKey": kept}, headers=bearer(person))
        assert known.status_code == 200


async def test_a_guard_takes_canonical_keys_only(town: Town) -> None:
    """It cannot know of which spelling older versions kept an answer."""
    guard = Guard(town.wallet.store)
    for key in ('"k"', " k", "k ", '"k'):
        with pytest.raises(InvalidInput):
            guard.ask("ann", key, "work", {})
