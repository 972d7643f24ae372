"""What the parts of the suite share: the world of each test, and helpers for raw commands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from ...domain.errors import WalletError
from ...verbs.ledger import Ledger
from ..harness import Harness, harness_for
from ..missing import server_or_skip
from ..patience import insist
from ..world import Person, World

T = TypeVar("T")

PARALLEL = 50
"""How many commands a race has."""


class OfBackend:
    """Base of all classes of tests. `backend` is a harness's name or a storage URL; or override `harness`."""

    backend: ClassVar[str]

    def harness(self) -> Harness:
        """A fresh harness for one test."""
        return harness_for(self.backend)


@pytest.mark.asyncio
class Suite(OfBackend):
    """Base of the parts of `StoreConformance`."""

    rounds: ClassVar[int] = 5
    """How often each race is run, with other people each time."""

    @pytest_asyncio.fixture
    async def world(self, tmp_path: Path, record_property: Callable[[str, object], None]) -> AsyncIterator[World]:
        """An empty ledger of the backend; its books are checked after the test."""
        world = World(self.harness(), tmp_path)
        with server_or_skip():
            await world.__aenter__()
        yield world
        await world.__aexit__(None, None, None)
        record(world, record_property)


def record(world: World, record_property: Callable[[str, object], None]) -> None:
    """Report what was tried: a test that counts no trials is one trial, unless it could not try anything."""
    record_property("trials", world.trials or int(not world.not_tried))
    record_property("not_tried", "; ".join(world.not_tried))
    record_property("capabilities", json.dumps(asdict(world.store.capabilities)))


def failpoints_of(world: World) -> Sequence[str]:
    """The failpoints of every money commit. For a store without any, the report says that they were not tried."""
    if not world.harness.failpoints:
        world.not_tried.append("a fault at each failpoint, of which it has none")
    return world.harness.failpoints


async def pay(world: World, payer: Person, payee: Person, amount_minor: int, ledger: Ledger | None = None) -> object:
    """Pay; repeat it under the same key while the store is too busy to answer."""
    key = world.key()
    return await insist(lambda: world.pay(payer, payee, amount_minor, key, ledger))


async def hold(world: World, payer: Person, payee: Person, amount_minor: int, ledger: Ledger | None = None) -> object:
    """Place a hold; repeat it under the same key while the store is too busy to answer."""
    key = world.key()
    return await insist(lambda: world.hold(payer, payee, amount_minor, key, ledger=ledger))


async def raised(command: Awaitable[object]) -> WalletError:
    """The WalletError that a command ends with; fails if it succeeds."""
    try:
        result = await command
    except WalletError as error:
        return error
    pytest.fail(f"it should have been refused and answered {result!r}")


def kinds(outcomes: list[Any]) -> list[str]:
    """Each outcome as `ok` or the error's code, sorted."""
    return sorted(outcome.code if isinstance(outcome, WalletError) else "ok" for outcome in outcomes)
