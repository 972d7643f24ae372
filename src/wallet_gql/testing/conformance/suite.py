"""What the parts of the suite share: the world of each test, and helpers for raw commands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from ...domain.changes import Changes, Decide, Decision, Scope, Snapshot
from ...domain.errors import WalletError
from ...domain.ids import make_transfer_id, system_account
from ...domain.model import CASH, Receipt, Record, RecordKey, Transfer, TransferKind
from ...idempotency import fingerprint
from ...verbs.ledger import Ledger
from ..harness import Harness, harness_for
from ..missing import server_or_skip
from ..patience import insist
from ..world import CURRENCY, Person, World

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


def counter_key(person: Person, name: str = "counter") -> RecordKey:
    """The key of a record in a person's slot."""
    return RecordKey("test", f"{name}:{person.id}", person.slot)


def written(key: RecordKey, version: int, **body: object) -> Record:
    """A record as a decision writes it."""
    return Record(key.kind, key.id, key.slot, "tests", version, body)


def number(record: Record | None, name: str = "n") -> int:
    """A whole number in a record's body; 0 if there is no record."""
    return 0 if record is None else int(str(record.body[name]))


def increment(key: RecordKey) -> Decide[int]:
    """Increment a record's number and return it. A commit of another command between load and apply shows as a loss."""

    def decide(snapshot: Snapshot) -> Decision[int]:
        before = snapshot.record(key)
        after = number(before) + 1
        return Decision(Changes(records=(written(key, (before.version if before else 0) + 1, n=after),)), after)

    return decide


def movement(world: World, payer: Person, payee: Person, amount_minor: int, key: str) -> Transfer:
    """The header of a transfer, for raw commands; a transfer to the payer is a withdrawal to cash."""
    target = payee.account if payee is not payer else system_account(CASH, CURRENCY)
    return Transfer(
        id=make_transfer_id(payer.slot, 1_767_225_600_000, world.entropy()),
        kind=TransferKind.TRANSFER,
        debit_account_id=payer.account,
        credit_account_id=target,
        amount_minor=amount_minor,
        currency=CURRENCY,
        at=world.clock(),
        actor=payer.id,
        idempotency_key=key,
    )


def receipt_of(world: World, person: Person, key: str, transfer: Transfer | None = None) -> Receipt:
    """A receipt of a person's key in their own slot."""
    moved = transfer.id if transfer else None
    return Receipt(person.slot, person.id, key, "test", fingerprint("test", {}), world.clock(), moved, '{"ok":{}}')


def paying(world: World, payer: Person, payee: Person, amount_minor: int) -> tuple[Scope, Changes]:
    """A valid raw transfer with its receipt; tests break one part of it."""
    key = world.key()
    moved = movement(world, payer, payee, amount_minor, key)
    scope = Scope(payer.slot, accounts=(payer.account,), credits=(payee.account,), receipts=((payer.id, key),))
    return scope, Changes(transfers=(moved,), receipts=(receipt_of(world, payer, key, moved),))


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
