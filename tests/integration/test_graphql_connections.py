"""Lists are connections: every one is paged alike, newest first, and no page misses or repeats an item."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import GraphQLObjectType, get_named_type, get_nullable_type, is_list_type
from starlette.requests import Request

from tests.integration._graphql import SCHEMA, ask, execute, wallet_in
from tests.integration._server import PASSWORD, Person, new_key, settle
from wallet_gql.domain.ids import AccountId, UserId, make_hold_id, make_top_up_id, make_withdrawal_id, slot_of
from wallet_gql.domain.merchants import Delivery, delivery_key
from wallet_gql.domain.model import Record
from wallet_gql.domain.topups import TopUp
from wallet_gql.domain.users import SessionKind
from wallet_gql.domain.withdrawals import Withdrawal
from wallet_gql.integrations.webhooks.dead_letters import dead_key
from wallet_gql.records import change
from wallet_gql.runtime import Wallet
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.rest.routing import Call, Operation
from wallet_gql.transports.rest.values import Ordered, read
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY: Final = 5
START: Final = datetime(2026, 1, 1, tzinfo=UTC)

LISTS: Final = {
    "Account.history": ("{ viewer { accounts { %s } } }", "history", "sequence"),
    "User.history": ("{ viewer { %s } }", "history", "createdAt"),
    "Statement.entries": (
        '{ viewer { accounts { statement(since: "2001-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z") { %s } } } }',
        "entries",
        "sequence",
    ),
    "User.holds": ("{ viewer { %s } }", "holds", "createdAt"),
    "User.topUps": ("{ viewer { %s } }", "topUps", "createdAt"),
    "User.withdrawals": ("{ viewer { %s } }", "withdrawals", "createdAt"),
    "User.sessions": ("{ viewer { %s } }", "sessions", "createdAt"),
    "User.securityEvents": ("{ viewer { %s } }", "securityEvents", "createdAt"),
    "EventDelivery.deadLetters": ("{ viewer { merchant { delivery { %s } } } }", "deadLetters", "createdAt"),
}
"""Every connection of the schema: the way to it, its field, and what its items are ordered by."""

COUNTED: Final = {"Account.history", "User.history", "Statement.entries", "User.sessions", "EventDelivery.deadLetters"}
"""Those whose length is known without reading them."""

ORDERED: Final = tuple(one for one in OPERATIONS if one.query is not None and issubclass(one.query, Ordered))
"""The lists of REST, which are the same."""


@dataclass(frozen=True)
class Shop:
    """A merchant who has at least `MANY` of everything."""

    wallet: Wallet
    person: Person

    async def page(
        self, name: str, size: int, cursor: str | None = None, *, backward: bool = False, order: str | None = None
    ) -> dict[str, Any]:
        """A page of a list."""
        way, field, by = LISTS[name]
        many, place = ("last", "before") if backward else ("first", "after")
        given = f"{many}: {size}" + (f', {place}: "{cursor}"' if cursor else "")
        given += f", orderBy: {order}" if order else ""
        selected = f"edges {{ cursor node {{ id {by} }} }} nodes {{ id {by} }} totalCount"
        info = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
        found = await ask(self.wallet, self.person.token, way % f"{field}({given}) {{ {selected} {info} }}")
        return _deepest(found, field)


def _deepest(found: Any, field: str) -> dict[str, Any]:
    while field not in found:
        found = found[0] if isinstance(found, list) else next(iter(found.values()))
    page: dict[str, Any] = found[field]
    return page


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """One wallet for all tests, which only read."""
    async with wallet_in(tmp_path_factory.mktemp("shop")) as wallet:
        person, other = await settle(wallet, 10_000), await settle(wallet, 0)
        await wallet.merchants.register(UserId(person.id), "The Shop")
        for _ in range(MANY):
            await wallet.identity.log_in(person.username, PASSWORD, SessionKind.BEARER)
            await wallet.ledger.transfer(
                UserId(person.id), new_key(), source=AccountId(person.account_id), to=To(username=other.username),
                amount_minor=1, currency="EUR",
            )  # fmt: skip
            await wallet.ledger.place_hold(
                UserId(other.id), new_key(), source=AccountId(other.account_id), to=To(username=person.username),
                amount_minor=1, currency="EUR",
            )  # fmt: skip
        for record in _records(person):
            await _put(wallet, record)
        await change(wallet.store, delivery_key(UserId(person.id)), _with_letters)
        yield Shop(wallet, person)


async def _put(wallet: Wallet, record: Record) -> None:
    await change(wallet.store, record.key, lambda _: record)


def _with_letters(delivery: Record | None) -> Record:
    assert delivery is not None
    return replace(Delivery.from_record(delivery), dead=MANY).to_record()


def _records(person: Person) -> list[Record]:
    """Top-ups, withdrawals and dead letters, without a provider or a webhook."""
    account, owner, found = AccountId(person.account_id), UserId(person.id), []
    for n in range(MANY):
        at, place = START + timedelta(hours=n), (slot_of(account), int(START.timestamp() * 1000) + n * 3_600_000, n)
        out = make_withdrawal_id(*place), owner, account, make_hold_id(*place)
        found.append(TopUp(make_top_up_id(*place), owner, account, 100, "EUR", at, version=1).to_record())
        found.append(Withdrawal(*out, 100, "EUR", "acct_1", at, version=1).to_record())
        key = dead_key(account, n + 1)
        body = {"event": f"e{n}", "transfer": "trf_x", "error": "status 500"}
        found.append(Record(key.kind, key.id, key.slot, owner, 1, body, at))
    return found


async def test_every_list_is_a_connection() -> None:
    """Whoever asks for a page gets a connection, and each connection has its row here."""
    paged = {
        f"{kind.name}.{name}": field
        for kind in SCHEMA.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items()
        if "first" in field.args or str(field.type).endswith("Connection!")
    }
    plain = {name for name, field in paged.items() if is_list_type(get_nullable_type(field.type))}
    assert plain == {"Account.openHolds"}  # all of them together make `held`
    assert paged.keys() - plain == LISTS.keys()
    assert len(ORDERED) == len(LISTS)
    for name in LISTS:
        kind = get_named_type(paged[name].type)
        assert isinstance(kind, GraphQLObjectType)
        assert kind.name.endswith("Connection")
        assert kind.fields.keys() == {"edges", "nodes", "pageInfo", "totalCount"}
        assert "id" in get_named_type(kind.fields["nodes"].type).fields, "caches would keep an item under its place"
        assert paged[name].args.keys() >= {"first", "after", "last", "before", "orderBy"}


@pytest.mark.parametrize("name", LISTS)
async def test_pages_make_the_list(shop: Shop, name: str) -> None:
    """Page by page comes what one page has, newest first; the page info says where each page stands."""
    by = LISTS[name][2]
    whole = await shop.page(name, 100)
    values = [node[by] for node in whole["nodes"]]
    assert len(values) >= MANY
    assert values == sorted(values, key=lambda value: int(value) if value.isdecimal() else value, reverse=True)
    found: list[Any] = []
    after: str | None = None
    while True:
        page = await shop.page(name, 2, after)
        info, cursors = page["pageInfo"], [edge["cursor"] for edge in page["edges"]]
        assert page["nodes"] == [edge["node"] for edge in page["edges"]]
        assert (info["startCursor"], info["endCursor"]) == (cursors[0], cursors[-1])
        assert info["hasPreviousPage"] == (after is not None)
        found += page["edges"]
        if not info["hasNextPage"]:
            break
        after = cursors[-1]
    assert found == whole["edges"]
    assert len({edge["cursor"] for edge in found}) == len({edge["node"]["id"] for edge in found}) == len(found)
    assert whole["totalCount"] == (str(len(found)) if name in COUNTED else None)


@pytest.mark.parametrize("size", [1, 2, MANY, 100])
@pytest.mark.parametrize("name", LISTS)
async def test_pages_from_the_end_make_the_list(shop: Shop, name: str, size: int) -> None:
    """`last` and `before` go through the same items with the same cursors, from the oldest page to the newest."""
    whole = (await shop.page(name, 100))["edges"]
    left = list(whole)
    before: str | None = None
    while True:
        page = await shop.page(name, size, before, backward=True)
        info, edges = page["pageInfo"], page["edges"]
        assert edges == left[-size:]
        assert page["nodes"] == [edge["node"] for edge in edges]
        assert (info["startCursor"], info["endCursor"]) == (edges[0]["cursor"], edges[-1]["cursor"])
        assert (info["hasNextPage"], info["hasPreviousPage"]) == (before is not None, len(left) > size)
        del left[-size:]
        if not info["hasPreviousPage"]:
            break
        before = info["startCursor"]
    assert left == []
    newer = await shop.page(name, 100, whole[0]["cursor"], backward=True)
    assert (newer["edges"], newer["pageInfo"]["hasPreviousPage"]) == ([], False)


@pytest.mark.parametrize("size", [1, 2, MANY])
@pytest.mark.parametrize("name", LISTS)
async def test_the_oldest_first_is_the_list_backwards(shop: Shop, name: str, size: int) -> None:
    """In the other order every page is the mirror image: the same edges with the same cursors, from the other end."""

    def mirrored(page: dict[str, Any]) -> dict[str, Any]:
        info = page["pageInfo"]
        turned = {
            "hasNextPage": info["hasPreviousPage"],
            "hasPreviousPage": info["hasNextPage"],
            "startCursor": info["endCursor"],
            "endCursor": info["startCursor"],
        }
        return {**page, "edges": page["edges"][::-1], "nodes": page["nodes"][::-1], "pageInfo": turned}

    whole = await shop.page(name, 100, order="NEWEST_FIRST")
    assert whole == await shop.page(name, 100)
    for cursor in (None, *(edge["cursor"] for edge in whole["edges"])):
        for backward in (False, True):
            oldest_first = await shop.page(name, size, cursor, backward=backward, order="OLDEST_FIRST")
            assert oldest_first == mirrored(await shop.page(name, size, cursor, backward=not backward))


@pytest.mark.parametrize("operation", ORDERED, ids=lambda one: one.name)
async def test_rest_has_both_orders_too(shop: Shop, operation: Operation) -> None:
    """A walk through a list of REST from its oldest item finds what one from the newest finds, the other way round."""
    caller = Caller(shop.wallet.identity, shop.person.token)
    request = Request({"type": "http", "path_params": {"account_id": shop.person.account_id}})
    span = {"since": "2001-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}
    query = operation.query
    assert query is not None
    base = {name: value for name, value in span.items() if operation.name == "readStatement"}

    async def walk(**order: str) -> list[Any]:
        found, given = [], {**base, **order, "first": "2"}
        while True:
            told: Any = (await operation.handler(Call(request, shop.wallet, caller), read(query, given))).body
            body = told.model_dump(mode="json", by_alias=True)
            (items,) = (value for value in body.values() if isinstance(value, list))
            assert 1 <= len(items) <= 2
            found += items
            if body["next"] is None:
                return found
            given["after"] = body["next"]

    newest_first = await walk()
    assert len(newest_first) >= MANY
    assert await walk(orderBy="NEWEST_FIRST") == newest_first
    assert await walk(orderBy="OLDEST_FIRST") == newest_first[::-1]


@pytest.mark.parametrize("name", ["Account.history", "User.history", "User.holds"])
async def test_the_oldest_first_goes_on_with_what_is_new(tmp_path: Path, name: str) -> None:
    """From the end of the list, `after` finds what has come since, in its order."""
    async with wallet_in(tmp_path) as wallet:
        person, other = await settle(wallet, 1_000), await settle(wallet)
        shop, mine = Shop(wallet, person), (UserId(person.id), new_key())
        given: Any = {"source": AccountId(person.account_id), "to": To(username=other.username), "currency": "EUR"}
        await wallet.ledger.place_hold(*mine, amount_minor=1, **given)
        end = (await shop.page(name, 100, order="OLDEST_FIRST"))["pageInfo"]
        assert not end["hasNextPage"]
        for _ in range(3):
            await wallet.ledger.transfer(mine[0], new_key(), amount_minor=1, **given)
            await wallet.ledger.place_hold(mine[0], new_key(), amount_minor=1, **given)
        new = await shop.page(name, 2, end["endCursor"], order="OLDEST_FIRST")
        rest = await shop.page(name, 2, new["pageInfo"]["endCursor"], order="OLDEST_FIRST")
        assert (new["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
        newest = (await shop.page(name, 3))["edges"]
        assert [*new["edges"], *rest["edges"]] == newest[::-1]


@pytest.mark.parametrize("order", ["NEWEST_FIRST", "OLDEST_FIRST"])
@pytest.mark.parametrize("name", LISTS)
async def test_an_empty_page_goes_on_where_it_began(shop: Shop, name: str, order: str) -> None:
    """Who follows a list passes on the cursor of each page: while nothing is new it stays, or all would come again."""
    edges = (await shop.page(name, 100, order=order))["edges"]
    for backward, last, ways in (
        (False, edges[-1], ("endCursor", "startCursor")),
        (True, edges[0], ("startCursor", "endCursor")),
    ):
        page = await shop.page(name, 2, last["cursor"], backward=backward, order=order)
        assert page["edges"] == []
        assert tuple(page["pageInfo"][way] for way in ways) == (last["cursor"], None)


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_of_nothing_is_refused(shop: Shop, name: str) -> None:
    """A text that is no cursor of this list is the client's mistake, told as such; so is a page of no size."""
    way, field, _ = LISTS[name]
    mixed = ("", "(after: null)", "(first: 2, last: 2)", '(last: 2, after: "x")', '(first: 2, before: "x")')
    for given in (*_wrong("first", "after"), *_wrong("last", "before"), *mixed):
        query = way % f"{field}{given} {{ pageInfo {{ endCursor }} }}"
        result = await execute(shop.wallet, shop.person.token, query, {})
        assert result.errors is not None, given
        assert [(error.extensions or {})["code"] for error in result.errors] == ["BAD_REQUEST"]


def _wrong(size: str, place: str) -> tuple[str, ...]:
    return f'({size}: 2, {place}: "nothing")', f'({size}: 2, {place}: "")', f"({size}: 0)", f"({size}: 101)"


async def test_a_page_goes_on_where_an_ended_session_was(tmp_path: Path) -> None:
    """A cursor is a place in the list, not an item: the item may be gone when the next page is asked for."""
    async with wallet_in(tmp_path) as wallet:
        shop = Shop(wallet, await settle(wallet, 0))
        for _ in range(3):
            await wallet.identity.log_in(shop.person.username, PASSWORD, SessionKind.BEARER)
        whole = await shop.page("User.sessions", 100)
        newest, *others = await wallet.identity.sessions(UserId(shop.person.id))
        await wallet.identity.revoke(UserId(shop.person.id), newest.id)
        rest = await shop.page("User.sessions", 100, whole["edges"][0]["cursor"])
        assert rest["edges"] == whole["edges"][1:]
        assert len(rest["edges"]) == len(others)
        await wallet.identity.revoke(UserId(shop.person.id), others[0].id)
        newer = await shop.page("User.sessions", 100, whole["edges"][-1]["cursor"], backward=True)
        assert newer["edges"] == whole["edges"][2:-1]
