"""A MongoDB backend with a mistake that is easy to make: `MUTANTS[name](patch)` breaks this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pymongo
import pytest
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from wallet_gql.backends.mongodb import batch as batches
from wallet_gql.backends.mongodb import client
from wallet_gql.backends.mongodb.batch import Write
from wallet_gql.backends.mongodb.store import MongoStore
from wallet_gql.domain.changes import Outcome
from wallet_gql.domain.errors import NodeUnavailable

CONFIRM_SECONDS: Final = 0.2


def a_commit_error_denied(patch: pytest.MonkeyPatch) -> None:
    """Ask for a moment only, and say "nothing was written" if that was not enough: the batch is then run again."""
    _confirmed(patch, lambda: NodeUnavailable("local"))


def a_commit_error_begun_again(patch: pytest.MonkeyPatch) -> None:
    """The same, and begin the transaction again at once."""
    _confirmed(patch, client.Conflict)


def _confirmed(patch: pytest.MonkeyPatch, otherwise: Callable[[], Exception]) -> None:
    async def confirm(_self: Any, session: Any, _deadline: Any) -> None:
        try:
            with pymongo.timeout(CONFIRM_SECONDS):
                await session.commit_transaction()
        except PyMongoError as error:
            raise otherwise() from error

    patch.setattr(client.MongoServer, "_confirm", confirm)


def a_duplicate_key_swallowed(patch: pytest.MonkeyPatch) -> None:
    """The server has aborted by then: going on as if nothing had happened never ends, or says the wrong thing."""

    async def write(self: MongoStore, session: Any, writes: Any) -> None:
        for one in writes:
            await self._database.command(one.command, session=session)

    patch.setattr(MongoStore, "_write", write)


def no_majority(patch: pytest.MonkeyPatch) -> None:
    """With `w: 1` an answered payment is lost together with the primary."""
    patch.setattr(client, "MAJORITY", WriteConcern(1))


def a_receipt_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """Money first and its receipt afterwards pays twice under one key."""
    later: list[Write] = []
    commands, attempt = batches.commands, MongoStore._attempt

    def without(*arguments: Any) -> Iterator[Write]:
        for write in commands(*arguments):
            if write.command.get("insert") == "receipts":
                later.append(write)
            else:
                yield write

    async def and_afterwards(self: MongoStore, batch: Sequence[Any], deadline: float) -> list[Outcome]:
        outcomes = await attempt(self, batch, deadline)
        while later:
            await self._database.command(later.pop().command)
        return outcomes

    patch.setattr(batches, "commands", without)
    patch.setattr(MongoStore, "_attempt", and_afterwards)


def guards_not_bumped(patch: pytest.MonkeyPatch) -> None:
    """Without a write to what was only read, two commands spend the same money (write skew)."""
    commands = batches.commands

    def without(*arguments: Any) -> Iterator[Write]:
        for write in commands(*arguments):
            statements = write.command.get("updates")
            if statements is None:
                yield write
                continue
            kept = [one for one in statements if not one.get("multi") and not one.get("upsert")]
            if kept:
                yield Write({**write.command, "updates": kept}, len(kept))

    patch.setattr(batches, "commands", without)


MUTANTS: Final[Mapping[str, Callable[[pytest.MonkeyPatch], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        a_commit_error_denied,
        a_commit_error_begun_again,
        a_duplicate_key_swallowed,
        no_majority,
        a_receipt_outside_the_transaction,
        guards_not_bumped,
    )
}
