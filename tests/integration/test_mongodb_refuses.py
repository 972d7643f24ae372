"""A MongoDB that refuses while the store serves: a certain refusal, reported by `ping`; then everything goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pymongo.errors
import pytest
from pymongo import MongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.pool import AsyncConnection

from wallet_gql import background
from wallet_gql.backends.mongodb import batch as _mongo_batch
from wallet_gql.domain.changes import Changes, Decision, Scope
from wallet_gql.domain.errors import InDoubt, Unavailable
from wallet_gql.testing.harness import HARNESSES, Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.mongo import SET, Mongod, patiently
from wallet_gql.testing.servers.process import give, own_folder
from wallet_gql.testing.world import World

ROOT = "root"
CLERK = "clerk"
PASSWORD = "s3cret-w0rd"
AGAIN_SECONDS = 60.0
RIGHTS = ["readWrite", "dbAdmin"]


@pytest.fixture(autouse=True)
def _every_cause_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


class Locked:
    """A replica set of one member on which one must log in."""

    def __init__(self) -> None:
        key = own_folder("wallet-mongo-key-") / "key"
        key.write_text("a2V5IG9mIGEgdGVzdA==")
        key.chmod(0o400)
        give(key)
        self.member = Mongod("--replSet", SET, "--keyFile", str(key))
        self.member.start()
        self.member.ask("replSetInitiate", {"_id": SET, "members": [{"_id": 0, "host": self.member.address}]})
        patiently(lambda: self.member.ask("hello").get("isWritablePrimary"), "no primary")
        self.member.ask("createUser", ROOT, pwd=PASSWORD, roles=["root"])

    def tell(self, command: str, value: Any = 1, **more: Any) -> None:
        """Run an admin command with all rights."""
        url = f"mongodb://{ROOT}:{PASSWORD}@{self.member.address}/?directConnection=true"
        with MongoClient[dict[str, Any]](url) as client:
            client.admin.command(command, value, **more)

    def hire(self, database: str) -> None:
        """Make the user that the wallet logs in as."""
        self.tell("createUser", CLERK, pwd=PASSWORD, roles=[{"role": role, "db": database} for role in RIGHTS])

    def url(self, database: str) -> str:
        """A storage URL with that user."""
        return f"mongodb://{CLERK}:{PASSWORD}@{self.member.address}/{database}?replicaSet={SET}&authSource=admin"


@pytest.fixture(scope="module")
def locked() -> Iterator[Locked]:
    """One for this module."""
    made = Locked()
    yield made
    made.member.stop()


@dataclass(frozen=True)
class Trouble:
    """What is told to the server, and what takes it back."""

    make: Callable[[Locked, str], None]
    back: Callable[[Locked, str], None]
    restart: bool = False
    """Open connections do not notice that it is over."""


TROUBLES = {
    "no rights": Trouble(
        lambda server, name: server.tell("updateUser", CLERK, roles=[{"role": "read", "db": name}]),
        lambda server, name: server.tell("updateUser", CLERK, roles=[{"role": role, "db": name} for role in RIGHTS]),
    ),
    "no user": Trouble(
        lambda server, _: server.tell("dropUser", CLERK), lambda server, name: server.hire(name), restart=True
    ),
    "writes blocked": Trouble(
        lambda server, _: server.tell("setUserWriteBlockMode", **{"global": True}),
        lambda server, _: server.tell("setUserWriteBlockMode", **{"global": False}),
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_mongodb_that_refuses(
    name: str, locked: Locked, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A right, the user or all writing is gone: Unavailable, few log lines, no traceback, no password."""
    trouble, database = TROUBLES[name], "ledger_" + name.replace(" ", "_")
    await asyncio.to_thread(locked.hire, database)
    async with World(Harness(locked.url(database), "mongodb"), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        payments = [partial(world.pay, ann, bob, 10, key=f"pay-{number}") for number in range(4)]
        caplog.clear()
        await asyncio.to_thread(trouble.make, locked, database)
        try:
            for payment in payments:
                with pytest.raises(Unavailable):
                    await payment()
            with pytest.raises(Unavailable):
                await world.store.ping()
        finally:
            await asyncio.to_thread(trouble.back, locked, database)
        loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert 1 <= len(loud) <= 4, caplog.text
        assert not any(record.exc_info for record in loud), caplog.text
        assert PASSWORD not in caplog.text
        if trouble.restart:
            await world.reopen()
            payments = [partial(world.pay, ann, bob, 10, key=f"pay-{number}") for number in range(4)]
        async with asyncio.timeout(patience(AGAIN_SECONDS)):
            while True:
                try:
                    await world.store.ping()
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
        for payment in payments:
            await payment()
        assert await world.balance(bob) == (140, 0)
    await asyncio.to_thread(locked.tell, "dropUser", CLERK)


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.ConfigurationError("Sessions are not supported by this MongoDB deployment"),
        RuntimeError("the handler is closed"),
        AttributeError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_the_driver_raises_before_a_commit_is_a_certain_no(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is what it says just after a step-down, when no member that has sessions is known."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    async with World(HARNESSES["mongodb"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        with monkeypatch.context() as patch:
            patch.setattr(AsyncConnection, "command", fail)
            read = partial(world.ledger.account, ann.id, ann.account)
            for work in (partial(world.pay, ann, bob, 10, key="pay"), read, world.store.ping):
                with pytest.raises(Unavailable):
                    await work()
        await world.pay(ann, bob, 10, key="pay")
        assert await world.balance(bob) == (110, 0)


async def test_whatever_the_driver_raises_at_the_commit_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit may have been sent; the key settles it."""
    commit = AsyncClientSession.commit_transaction

    async def committed_and_lost(session: AsyncClientSession) -> None:
        await commit(session)
        raise RuntimeError("the handler is closed")

    async with World(HARNESSES["mongodb"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        with monkeypatch.context() as patch:
            patch.setattr(AsyncClientSession, "commit_transaction", committed_and_lost)
            impatient = world.ledger_on(world.store, timeout_seconds=0.5)
            with pytest.raises(InDoubt):
                await world.pay(ann, bob, 10, key="pay", ledger=impatient)
        await world.pay(ann, bob, 10, key="pay")
        assert await world.balance(bob) == (110, 0)


async def test_a_bug_in_what_is_made_of_an_answer_leaves_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store can be used, so it is not Unavailable. How far the batch came is unknown: in doubt, and logged."""

    def wrong(*_: Any) -> Any:
        raise TypeError("ours")

    async with World(HARNESSES["mongodb"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        with monkeypatch.context() as patch:
            patch.setattr(_mongo_batch, "fill", wrong)
            with pytest.raises(InDoubt):
                await world.store.execute(Scope(ann.slot, accounts=(ann.account,)), lambda _: Decision(Changes(), None))
        await world.pay(ann, bob, 10)
