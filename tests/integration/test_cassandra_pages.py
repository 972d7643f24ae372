"""What a page of history costs on Cassandra: as many requests and rows in a short history as in a long one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration._cassandra import need_server
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.backends.cassandra.tables import BUCKET, Op, bucketed, row_of
from wallet_gql.backends.kit.kinds import ACCOUNT, ENTRY, TRANSFER
from wallet_gql.storage import PAGE_MAX, PageRequest
from wallet_gql.testing.servers.cassandra import CassandraHarness
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial]

SHORT = 1_000
STAMP = 1_000_000
"""Above the version of any commit of the test."""

AT_ONCE = 2_000


async def lengthen(world: World, person: Person, entries: int) -> None:
    """Repeat the newest entry until the account has so many: only rows of entries, and the account's own."""
    store = world.store
    assert isinstance(store, CassandraStore)
    account = await world.account(person)
    (line,) = (await store.list_transfers(person.account, PageRequest(1))).items
    header = row_of(TRANSFER, line.transfer)

    def op(sequence: int) -> Op:
        row = row_of(ENTRY, replace(line.entry, sequence=sequence))
        return "entry", [bucketed(person.account, sequence), sequence, row, header]

    for start in range(account.sequence + 1, entries + 1, AT_ONCE):
        await store._client.write([op(n) for n in range(start, min(start + AT_ONCE, entries + 1))], STAMP)
    longer = replace(account, sequence=entries)
    await store._client.write([("account", [account.id, row_of(ACCOUNT, longer)])], STAMP)


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count requests and rows, by statement."""
    found: Counter[str] = Counter()
    ask = Client.ask

    async def asking(self: Client, name: str, *values: Any) -> Any:
        rows = await ask(self, name, *values)
        found[f"{name} requests"] += 1
        found[f"{name} rows"] += len(rows)
        return rows

    with patch.context() as patched:
        patched.setattr(Client, "ask", asking)
        yield found


def pages(entries: int) -> list[PageRequest]:
    """The newest page, the oldest, one in the middle, and the longest one."""
    return [
        PageRequest(50),
        PageRequest(50, newest_first=False),
        PageRequest(50, before=entries // 2 + 100),
        PageRequest(PAGE_MAX),
    ]


@pytest.mark.parametrize("long", [5_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(0)])])
async def test_a_page_costs_the_same_in_a_longer_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    """Equal requests and rows; each row group that a page reads has at most a thousand entries."""
    need_server()
    world = World(CassandraHarness(), tmp_path)
    await world.__aenter__()
    try:
        ann, bob = await world.people(2, 10)
        for person, entries in ((ann, SHORT), (bob, long)):
            await lengthen(world, person, entries)
        costs = []
        for person, entries in ((ann, SHORT), (bob, long)):
            for page in pages(entries):
                with counted(monkeypatch) as found:
                    listed = await world.store.list_transfers(person.account, page)
                assert len(listed.items) == page.limit
                costs.append(found)
        assert costs[: len(costs) // 2] == costs[len(costs) // 2 :]
        assert max(found["get_entry requests"] for found in costs) <= 2
        assert max(found["get_entry rows"] for found in costs) <= PAGE_MAX + 1
        await check_groups(world, bob, long)
    finally:
        await world.__aexit__(AssertionError, None, None)  # the audit would find these entries invented


async def check_groups(world: World, person: Person, entries: int) -> None:
    """All entries are there, at most `BUCKET` in a partition of Cassandra."""
    store = world.store
    assert isinstance(store, CassandraStore)
    keys = [bucketed(person.account, number) for number in range(0, entries + 1, BUCKET)]
    sizes = [len(await store._client.ask("get_entry", key, 0, entries)) for key in keys]  # in turn: each is large
    assert max(sizes) <= BUCKET
    assert sum(sizes) == entries
