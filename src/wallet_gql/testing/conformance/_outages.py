"""On a bad day: every member of the protocol, on servers that were killed and on servers that do not answer.

What may happen is an answer or a `WalletError`, within a bound; never an exception of a driver, and never a wait
without an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import pytest

from ...domain.changes import ReadSet, Scope
from ...domain.errors import WalletError
from ...storage import SCAN_KINDS, PageRequest, Store
from ..harness import Server
from ..patience import within
from ..raw import counter_key, increment, written
from ..world import Person, World
from .suite import Suite, pay

TIMEOUT_SECONDS: Final = 1.0
"""What `execute` is given."""

DUE: Final = datetime(2030, 1, 1, tzinfo=UTC)

Call = Callable[[World, Store, Person], Awaitable[object]]
"""Calls one member of a store."""


async def _list_everything(_: World, store: Store, __: Person) -> None:
    for kind in SCAN_KINDS:
        await store.scan(kind, None, 10)


async def _pass_the_gate(_: World, store: Store, __: Person) -> None:
    async with store.gate():
        pass


async def _watch(_: World, store: Store, ann: Person) -> None:
    async with aclosing(store.watch(ann.account, 0)) as lines:  # type: ignore[type-var]  # it is a generator
        await anext(lines)


def _increment(world: World, store: Store, ann: Person) -> Awaitable[object]:
    key = counter_key(ann, world.key())
    return store.execute(Scope(ann.slot, records=(key,)), increment(key), timeout_seconds=TIMEOUT_SECONDS)


def _import(world: World, store: Store, ann: Person) -> Awaitable[object]:
    return store.load_raw([written(counter_key(ann, world.key()), 1)])


CALLS: Final[Mapping[str, Call]] = {
    "execute": _increment,
    "fetch": lambda _, store, ann: store.fetch(ReadSet(accounts=(ann.account,), wallets=(ann.id,))),
    "list_transfers": lambda _, store, ann: store.list_transfers(ann.account, PageRequest(1)),
    "list_records": lambda _, store, ann: store.list_records("user", ann.id),
    "list_due": lambda _, store, __: store.list_due("hold", DUE, 10),
    "scan": _list_everything,
    "totals": lambda _, store, __: store.totals(),
    "load_raw": _import,
    "gate": _pass_the_gate,
    "watch": _watch,
    "recover": lambda _, store, __: store.recover(10),
    "ping": lambda _, store, __: store.ping(),
}
"""Every member of `Store` that asks something of a server."""


ASK_NOTHING: Final = {"name", "capabilities", "on_records"}
"""The members that ask no server."""


@asynccontextmanager
async def _killed(world: World, servers: Sequence[Server]) -> AsyncIterator[None]:
    for server in servers:
        await asyncio.to_thread(server.kill)
    try:
        yield
    finally:
        await world.harness.restart(servers)


@asynccontextmanager
async def _stopped(_: World, servers: Sequence[Server]) -> AsyncIterator[None]:
    for server in servers:
        await asyncio.to_thread(server.pause)
    try:
        yield
    finally:
        for server in servers:
            await asyncio.to_thread(server.resume)


FAULTS: Final = {"killed": _killed, "stopped": _stopped}


class Outages(Suite):
    """The same calls, by a store object that was in use and by one that has just been opened.

    Every member answers within `bound_seconds`, those without a deadline of their own, too.
    """

    bound_seconds: ClassVar[float] = 60.0

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_outage_every_member_answers_in_time(self, world: World, fault: str) -> None:
        """Whether all servers are away or one of several; afterwards the same store objects pay again."""
        assert CALLS.keys() == {name for name in vars(Store) if not name.startswith("_")} - ASK_NOTHING
        servers = world.harness.servers()
        if not servers:
            world.not_tried.append(f"servers that are {fault}, for the harness has none")
            return
        ann, bob = await world.people(2, 1_000)
        stores = [world.store, await world.another()]
        groups = [servers, servers[-1:]] if len(servers) > 1 else [servers]
        for away in groups:
            async with FAULTS[fault](world, away):
                asked = [(name, call(world, store, ann)) for store in stores for name, call in CALLS.items()]
                outcomes = await asyncio.gather(*(_outcome(call, self.bound_seconds) for _, call in asked))
            wrong = [f"{name}: {told!r}" for (name, _), told in zip(asked, outcomes, strict=True) if not _is_ours(told)]
            assert wrong == []
            for store in stores:
                await pay(world, ann, bob, 1, world.ledger_on(store))
            world.trials += 1
        assert await world.balance(ann) == (1_000 - len(stores) * len(groups), 0)


async def _outcome(call: Awaitable[object], seconds: float) -> Any:
    """What a call answered or raised; None for an answer."""
    try:
        await within(seconds, call)
    except Exception as error:  # noqa: BLE001 - that is what is looked at
        return error
    return None


def _is_ours(told: object) -> bool:
    return told is None or isinstance(told, WalletError)
