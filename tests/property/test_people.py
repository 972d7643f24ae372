"""Users by name: the holder who is known from before saves a read, and is never believed without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

from tests.property._money_verbs import EUR, Town, open_town
from wallet_gql import people
from wallet_gql.domain.changes import ReadSet, Snapshot
from wallet_gql.domain.users import username_claim
from wallet_gql.storage import Store
from wallet_gql.verbs.lookups import To, find_merchant, find_payee
from wallet_gql.verbs.parties import payee_called

Find = Callable[[Store, str], Awaitable[Any]]

FINDS: Final[dict[str, Find]] = {
    "payee": lambda store, name: find_payee(store, To(username=name), EUR),
    "merchant": lambda store, name: find_merchant(store, name, EUR),
    "party": payee_called,
}


@pytest.fixture(params=[1, 3])
async def town(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Users on one node and on three, none of them looked up yet."""
    monkeypatch.setattr(people, "_HOLDERS", {})
    async with open_town(request.param) as made:
        yield made


class Fetches:
    """Counts the fetches of a store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._fetch = store.fetch
        monkeypatch.setattr(store, "fetch", self)

    async def __call__(self, reads: ReadSet) -> Snapshot:
        """In place of the store's own `fetch`."""
        self.count += 1
        return await self._fetch(reads)

    async def of(self, asked: Awaitable[Any]) -> tuple[Any, int]:
        """An answer, and how many fetches it took."""
        before = self.count
        return await asked, self.count - before


@pytest.mark.parametrize("name", FINDS)
async def test_a_holder_known_from_before_saves_a_read(town: Town, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And does not change the answer."""
    find, store = FINDS[name], town.ledger.store
    fetches = Fetches(store, monkeypatch)
    (first, took), (second, takes) = await fetches.of(find(store, "bob")), await fetches.of(find(store, "bob"))
    assert first == second
    assert (took, takes) == (2, 1)


@pytest.mark.parametrize("name", FINDS)
async def test_a_holder_is_never_believed(town: Town, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nobody is paid, or named, in place of the one who holds the name now."""
    find, store = FINDS[name], town.ledger.store
    bob = await find(store, "bob")
    monkeypatch.setitem(people._HOLDERS, username_claim("bob").id, town.users["ann"])
    assert await find(store, "bob") == bob
    monkeypatch.setitem(people._HOLDERS, username_claim("nobody").id, town.users["ann"])
    nobody = await find(store, "nobody")
    people._HOLDERS.clear()
    assert nobody == await find(store, "nobody")


async def test_what_is_remembered_is_bounded(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that was remembered first is forgotten first."""
    monkeypatch.setattr(people, "_HOLDERS_MAX", 2)
    for name in ("ann", "bob", "ann", "shop"):
        await find_payee(town.ledger.store, To(username=name), EUR)
    assert list(people._HOLDERS) == [username_claim(name).id for name in ("bob", "shop")]
