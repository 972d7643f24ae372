"""A pytest plugin that breaks the product in one way: `WALLET_MUTANT=NAME pytest -p tests.integration.mutants …`."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from wallet_gql import idempotency
from wallet_gql.backends.sqlite import batch
from wallet_gql.backends.sqlite import connection as driver
from wallet_gql.backends.sqlite import store as sqlite
from wallet_gql.domain import changes
from wallet_gql.domain.changes import Changes, Decision, Snapshot, posting, state
from wallet_gql.domain.model import Account, Entry, Hold, Transfer
from wallet_gql.failpoints import reach
from wallet_gql.idempotency import Attempt
from wallet_gql.verbs import keyed


def receipt_outside_the_commit() -> None:
    """Receipts are written in a transaction of their own, right after the money's."""
    write = batch.write

    def split(connection: sqlite3.Connection, writes: changes.Writes) -> None:
        receipts, writes.receipts = writes.receipts, []
        write(connection, writes)
        connection.execute("COMMIT")
        reach("sqlite.written")
        connection.execute("BEGIN IMMEDIATE")
        write(connection, changes.Writes(receipts=receipts))

    batch.write = split


def reply_before_commit() -> None:
    """The answer leaves while its commit is still to come, in order and only a few milliseconds later."""

    def hasty(store: sqlite.SqliteStore, work: Callable[[sqlite3.Connection], None], wait_seconds: float) -> None:
        connection = store._connection()
        driver.begin(connection, time.monotonic() + wait_seconds)
        try:
            work(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise

        def later() -> None:
            time.sleep(0.005)
            reach("sqlite.written")
            connection.execute("COMMIT")

        store._writer.submit(later)

    vars(sqlite)["SqliteStore"]._transact = hasty


def state_before_key() -> None:
    """The rule looks at the state before anybody looks at the key."""
    sound = idempotency.once

    def hasty(
        snapshot: Snapshot, attempt: Attempt, now: Any, rule: Callable[[Snapshot], Changes], effect: Any
    ) -> Decision[Any]:
        done = rule(snapshot)
        return sound(snapshot, attempt, now, lambda _: done, effect)

    vars(keyed)["once"] = hasty


def lost_held_amount() -> None:
    """A hold is stored, but nothing is held for it."""
    sound = posting._Posting._hold

    def careless(one: Any, hold: Hold) -> None:
        before = one._own(hold.account_id)
        sound(one, hold)
        one._put(replace(one._own(hold.account_id), held_minor=before.held_minor))

    vars(posting)["_Posting"]._hold = careless


def gap_in_sequences() -> None:
    """Every third entry skips a number."""
    sound = state.apply_entry

    def skipping(account: Account, transfer: Transfer, amount_minor: int) -> tuple[Account, Entry]:
        after, entry = sound(account, transfer, amount_minor)
        if entry.sequence % 3 == 0:
            after, entry = replace(after, sequence=after.sequence + 1), replace(entry, sequence=entry.sequence + 1)
        return after, entry

    state.apply_entry = vars(posting)["apply_entry"] = skipping


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        receipt_outside_the_commit,
        reply_before_commit,
        state_before_key,
        lost_held_amount,
        gap_in_sequences,
    )
}

if os.environ.get("WALLET_MUTANT"):
    MUTANTS[os.environ["WALLET_MUTANT"]]()
