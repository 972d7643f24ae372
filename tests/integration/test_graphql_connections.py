"""Lists are connections: every one is paged alike, newest first, and no page misses or repeats an item."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import GraphQLObjectType, build_schema, get_named_type, get_nullable_type, is_list_type

from tests.integration._graphql import ask, execute, wallet_in
from tests.integration._server import PASSWORD, Person, new_key, settle
from wallet_gql.domain.ids import AccountId, UserId, make_hold_id, make_top_up_id, make_withdrawal_id, slot_of
from wallet_gql.domain.model import Record
from wallet_gql.domain.topups import TopUp
from wallet_gql.domain.users import SessionKind
from wallet_gql.domain.withdrawals import Withdrawal
from wallet_gql.integrations.webhooks.dead_letters import dead_key
from wallet_gql.records import change
from wallet_gql.runtime import Wallet
from wallet_gql.transports.graphql.schema import sdl
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA: Final = build_schema(sdl())
MANY: Final = 5
START: Final = datetime(2026, 1, 1, tzinfo=UTC)

LISTS: Final = {
    "Account.history": ("{ viewer { accounts { %s } } }", "history", "sequence"),
    "User.history": ("{ viewer { %s } }", "history", "at"),
    "Statement.entries": (
        '{ viewer { accounts { statement(since: "2001-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z") { %s } } } }',
        "entries",
        "sequence",
    ),
    "User.holds": ("{ viewer { %s } }", "holds", "createdAt"),
    "User.topUps": ("{ viewer { %s } }", "topUps", "createdAt"),
    "User.withdrawals": ("{ viewer { %s } }", "withdrawals", "createdAt"),
    "User.sessions": ("{ viewer { %s } }", "sessions", "createdAt"),
    "User.securityEvents": ("{ viewer { %s } }", "securityEvents", "at"),
    "EventDelivery.deadLetters": ("{ viewer { merchant { delivery { %s } } } }", "deadLetters", "at"),
}
"""Every connection of the schema: the way to it, its field, and what its items are ordered by."""


@dataclass(frozen=True)
class Shop:
    """A merchant who has at least `MANY` of everything."""

    wallet: Wallet
    person: Person

    async def page(self, name: str, first: int, after: str | None = None) -> dict[str, Any]:
        """A page of a list."""
        way, field, by = LISTS[name]
        given = f"first: {first}" + (f', after: "{after}"' if after else "")
        selected = f"edges {{ cursor node {{ {by} }} }} nodes {{ {by} }}"
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
        yield Shop(wallet, person)


async def _put(wallet: Wallet, record: Record) -> None:
    await change(wallet.store, record.key, lambda _: record)


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
        if "first" in field.args
    }
    plain = {name for name, field in paged.items() if is_list_type(get_nullable_type(field.type))}
    assert plain == {"Account.openHolds"}  # all of them together make `held`
    assert paged.keys() - plain == LISTS.keys()
    for name in LISTS:
        kind = get_named_type(paged[name].type)
        assert isinstance(kind, GraphQLObjectType)
        assert kind.name.endswith("Connection")
        assert kind.fields.keys() == {"edges", "nodes", "pageInfo"}
        assert paged[name].args.keys() >= {"first", "after"}


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
    assert len({edge["cursor"] for edge in found}) == len(found)


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_of_nothing_is_refused(shop: Shop, name: str) -> None:
    """A text that is no cursor of this list is the client's mistake, told as such; so is a page of no size."""
    way, field, _ = LISTS[name]
    for given in ('first: 2, after: "nothing"', 'first: 2, after: ""', "first: 0", "first: 101"):
        query = way % f"{field}({given}) {{ pageInfo {{ endCursor }} }}"
        result = await execute(shop.wallet, shop.person.token, query, {})
        assert result.errors is not None, given
        assert [(error.extensions or {})["code"] for error in result.errors] == ["BAD_REQUEST"]


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
