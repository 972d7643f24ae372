"""Ways to break the product, for the suite to convict: `MUTANTS[name](patch)` breaks this process."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

import pytest

from wallet_gql import idempotency
from wallet_gql.backends.kit import Command, GroupRead, GroupStore, Wanted
from wallet_gql.backends.kit.kinds import ADDED, Coding, Column
from wallet_gql.backends.sqlite import batch
from wallet_gql.backends.sqlite import connection as driver
from wallet_gql.backends.sqlite import store as sqlite
from wallet_gql.backends.sqlite import text as sql
from wallet_gql.domain import changes, spending
from wallet_gql.domain.changes import Changes, Decision, ReadSet, Snapshot, State, decide_all, posting, state
from wallet_gql.domain.errors import InDoubt, Unavailable
from wallet_gql.domain.model import Account, Entry, Hold, Record
from wallet_gql.failpoints import reach
from wallet_gql.idempotency import Attempt
from wallet_gql.verbs import keyed


def receipt_outside_the_commit(patch: pytest.MonkeyPatch) -> None:
    """Receipts are written in a transaction of their own, right after the money's."""
    write = batch.write

    def split(connection: sqlite3.Connection, writes: changes.Writes) -> None:
        receipts, writes.receipts = writes.receipts, []
        write(connection, writes)
        connection.execute("COMMIT")
        reach("sqlite.written")
        connection.execute("BEGIN IMMEDIATE")
        write(connection, changes.Writes(receipts=receipts))

    patch.setattr(batch, "write", split)


def reply_before_commit(patch: pytest.MonkeyPatch) -> None:
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

    patch.setattr(sqlite.SqliteStore, "_transact", hasty)


def state_before_key(patch: pytest.MonkeyPatch) -> None:
    """The rule looks at the state before anybody looks at the key."""
    sound = idempotency.once

    def hasty(
        snapshot: Snapshot, attempt: Attempt, now: Any, rule: Callable[[Snapshot], Changes], effect: Any
    ) -> Decision[Any]:
        done = rule(snapshot)
        return sound(snapshot, attempt, now, lambda _: done, effect)

    patch.setattr(keyed, "once", hasty)


def spending_counted_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """What a user has spent is read before the commit that adds to it."""
    plan_of, count = keyed.planned, spending.spend
    before: ContextVar[Snapshot] = ContextVar("before")

    async def planned(means: Any, verb: Any, attempt: Attempt) -> keyed.Plan:
        plan = await plan_of(means, verb, attempt)
        seen = await means.store.fetch(ReadSet(records=plan.scope.records))

        def rule(snapshot: Snapshot) -> Changes:
            before.set(seen)
            return plan.rule(snapshot)

        return replace(plan, rule=rule)

    def stale(snapshot: Snapshot, *rest: Any) -> tuple[Record, ...]:
        return tuple(record.after(snapshot.record(record.key)) for record in count(before.get(), *rest))

    patch.setattr(keyed, "planned", planned)
    patch.setattr(spending, "spend", stale)


def lost_held_amount(patch: pytest.MonkeyPatch) -> None:
    """A hold is stored, but nothing is held for it."""
    sound = posting._Posting._hold

    def careless(one: Any, hold: Hold) -> None:
        before = one._own(hold.account_id)
        sound(one, hold)
        one._put(replace(one._own(hold.account_id), held_minor=before.held_minor))

    patch.setattr(posting._Posting, "_hold", careless)


def gap_in_sequences(patch: pytest.MonkeyPatch) -> None:
    """Every third entry skips a number."""
    sound = state.apply_entry

    def skipping(account: Account, *values: Any) -> tuple[Account, Entry]:
        after, entry = sound(account, *values)
        if entry.sequence % 3 == 0:
            after, entry = replace(after, sequence=after.sequence + 1), replace(entry, sequence=entry.sequence + 1)
        return after, entry

    for module in (state, posting):
        patch.setattr(module, "apply_entry", skipping)


def reads_from_a_cache(patch: pytest.MonkeyPatch) -> None:
    """Each store object answers a read again from what it was told up to 20 ms ago (E2)."""
    sound = sqlite.SqliteStore.fetch

    async def cached(store: Any, reads: ReadSet) -> Snapshot:
        kept: dict[ReadSet, tuple[float, Snapshot]] = vars(store).setdefault("kept", {})
        found = kept.get(reads)
        if found is None or time.monotonic() - found[0] > 0.02:
            kept[reads] = found = (time.monotonic(), await sound(store, reads))
        return found[1]

    patch.setattr(sqlite.SqliteStore, "fetch", cached)


def fetch_without_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Every statement of a fetch sees a moment of its own (E3): others have committed since the one before it."""

    def restless(store: Any, work: Callable[[sqlite3.Connection], Any]) -> Any:
        connection = store._connection(patience_seconds=5)
        seen: list[int] = []

        def wait_for_a_commit(_statement: str) -> None:
            until = time.monotonic() + 0.5  # nobody may be writing
            while seen and seen[-1] == _commits(watcher) and time.monotonic() < until:
                time.sleep(0.001)
            seen.append(_commits(watcher))

        with closing(driver.connect(store.path, mode="ro")) as watcher:
            connection.set_trace_callback(wait_for_a_commit)
            try:
                return work(connection)
            finally:
                connection.set_trace_callback(None)

    async def torn(store: Any, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await store._on(store._readers, restless, store, work)

    patch.setattr(sqlite.SqliteStore, "_read", torn)


def _commits(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def holds_read_without_the_lock(patch: pytest.MonkeyPatch) -> None:
    """What is held was read before the write lock was taken, and the database has no floor (E4)."""
    sound = driver.connect

    def without_floor(*given: Any, **more: Any) -> sqlite3.Connection:
        connection = sound(*given, **more)
        connection.execute("PRAGMA ignore_check_constraints=ON")
        return connection

    async def early(store: Any, _lane: Hashable, commands: Sequence[Command], wait_seconds: float) -> list[Any]:
        wanted = Wanted.of(command.scope for command in commands)
        before, locked = (State(sqlite.NODE, store._nodes.peer_of(sqlite.NODE)) for _ in range(2))
        await store._read(lambda connection: batch.load(connection, before, wanted))
        outcomes: list[Any] = []

        def decide(connection: sqlite3.Connection) -> None:
            batch.load(connection, locked, wanted)
            for name in locked.accounts.keys() & before.accounts.keys():
                held_minor = before.accounts[name].held_minor
                locked.accounts[name] = replace(locked.accounts[name], held_minor=held_minor)
            outcomes.extend(decide_all(locked, [(command.scope, command.decide) for command in commands]))
            batch.write(connection, locked.writes)

        await store._on(store._writer, store._transact, decide, wait_seconds)
        return outcomes

    patch.setattr(driver, "connect", without_floor)
    patch.setattr(sqlite.SqliteStore, "_commit", early)


def commit_told_as_nothing_written(patch: pytest.MonkeyPatch) -> None:
    """A commit that fails after it took effect is answered as "nothing was written" (E6)."""
    sound = sqlite.SqliteStore._transact

    def hopeful(*given: Any) -> None:
        try:
            sound(*given)
        except InDoubt as error:
            raise Unavailable(str(error)) from error

    patch.setattr(sqlite.SqliteStore, "_transact", hopeful)


def _synchronous(patch: pytest.MonkeyPatch, how: str) -> None:
    sound = driver.connect

    def careless(*given: Any, **more: Any) -> sqlite3.Connection:
        connection = sound(*given, **more)
        connection.execute(f"PRAGMA synchronous={how}")
        return connection

    patch.setattr(driver, "connect", careless)


def unsynced(patch: pytest.MonkeyPatch) -> None:
    """Nothing is flushed to the disk (E1)."""
    _synchronous(patch, "OFF")


def synced_at_checkpoints(patch: pytest.MonkeyPatch) -> None:
    """Commits are flushed together, long after they were answered (E1)."""
    _synchronous(patch, "NORMAL")


def drivers_errors_leave(patch: pytest.MonkeyPatch) -> None:
    """Reads let the driver's exception out (E7)."""

    async def bare(store: Any, work: Callable[[sqlite3.Connection], Any]) -> Any:
        def snapshot() -> Any:
            connection = store._connection(patience_seconds=5)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")

        return await store._on(store._readers, snapshot)

    patch.setattr(sqlite.SqliteStore, "_read", bare)


def ping_raises_the_drivers_error(patch: pytest.MonkeyPatch) -> None:
    """Only `ping` does (E7)."""

    async def bare(store: Any) -> None:
        with closing(driver.connect(store.path, mode="rw")) as connection:
            connection.execute("SELECT 1 FROM accounts LIMIT 1")

    patch.setattr(sqlite.SqliteStore, "ping", bare)


def reads_wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A read that finds no server asks again, without an end (E7)."""
    sound = sqlite.SqliteStore.fetch

    async def stubborn(store: Any, reads: ReadSet) -> Snapshot:
        while True:
            try:
                return await sound(store, reads)
            except Unavailable:
                await asyncio.sleep(0.01)

    patch.setattr(sqlite.SqliteStore, "fetch", stubborn)


def blind_to_case(patch: pytest.MonkeyPatch) -> None:
    """Idempotency keys are compared without regard to case, as by a collation (E5)."""
    sound = batch.write

    def indexed(connection: sqlite3.Connection, writes: changes.Writes) -> None:
        connection.execute(
            "CREATE UNIQUE INDEX IF NOT EXISTS collated ON receipts (slot, actor COLLATE NOCASE, key COLLATE NOCASE)"
        )
        sound(connection, writes)

    patch.setattr(batch, "write", indexed)


def _stored_as(patch: pytest.MonkeyPatch, kept: Callable[[Column, Any], Any]) -> None:
    """Every value is stored as another one."""
    for name, (statement, to_row) in sql.INSERTS.items():
        columns = ADDED[name].columns

        def bent(record: Any, to_row: Any = to_row, columns: Any = columns) -> list[Any]:
            return [kept(column, value) for column, value in zip(columns, to_row(record), strict=True)]

        patch.setitem(sql.INSERTS, name, (statement, bent))


def three_byte_text(patch: pytest.MonkeyPatch) -> None:
    """Characters of four bytes become question marks, as in utf8mb3 (E5)."""
    _stored_as(
        patch, lambda _, value: re.sub("[\U00010000-\U0010ffff]", "?", value) if isinstance(value, str) else value
    )


def short_text(patch: pytest.MonkeyPatch) -> None:
    """Text is cut at 200 characters (E5)."""
    _stored_as(patch, lambda _, value: value[:200] if isinstance(value, str) else value)


def whole_seconds(patch: pytest.MonkeyPatch) -> None:
    """Times are kept in whole seconds (E5)."""

    def seconds(column: Column, value: Any) -> Any:
        return value - value % 1_000_000 if column.coding is Coding.TIME and value is not None else value

    _stored_as(patch, seconds)


def numbers_as_floats(patch: pytest.MonkeyPatch) -> None:
    """Amounts are kept as floats (E5)."""
    _stored_as(patch, lambda column, value: int(float(value)) if column.name == "amount_minor" else value)


def one_snapshot_for_all(patch: pytest.MonkeyPatch) -> None:
    """Of the fetches of a group only the first is loaded; all of them get that."""

    async def first(store: Any, _lane: Hashable, group: Sequence[ReadSet]) -> list[State]:
        return [await store._fetch(Wanted.of(group[:1]))] * len(group)

    patch.setattr(GroupStore, "_fetch_all", first)


def another_ones_page(patch: pytest.MonkeyPatch) -> None:
    """The pages of a group come in the wrong order."""
    sound = sqlite.SqliteStore._ask_pages

    async def turned(store: Any, asked: Sequence[Any]) -> Any:
        return (await sound(store, asked))[::-1]

    patch.setattr(sqlite.SqliteStore, "_ask_pages", turned)


def a_group_that_has_left(patch: pytest.MonkeyPatch) -> None:
    """Who asks what is being read already gets that answer, although the read began earlier."""
    sound = GroupRead.ask
    asked: dict[Any, asyncio.Future[Any]] = {}

    async def slowly(reads: Any, lane: Hashable, question: Any) -> Any:
        """As over a network: alone this harms nothing, but a local read is over before anybody can join it."""
        answer = await sound(reads, lane, question)
        await asyncio.sleep(0.01)
        return answer

    async def joining(reads: Any, lane: Hashable, question: Any) -> Any:
        name = id(reads), lane, question
        if name not in asked:
            asked[name] = asyncio.ensure_future(slowly(reads, lane, question))
            asked[name].add_done_callback(lambda _: asked.pop(name))
        return await asyncio.shield(asked[name])

    patch.setattr(GroupRead, "ask", joining)


MUTANTS: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    mutate.__name__: mutate
    for mutate in (
        receipt_outside_the_commit,
        reply_before_commit,
        state_before_key,
        spending_counted_before_the_commit,
        lost_held_amount,
        gap_in_sequences,
        reads_from_a_cache,
        fetch_without_a_snapshot,
        holds_read_without_the_lock,
        commit_told_as_nothing_written,
        unsynced,
        synced_at_checkpoints,
        drivers_errors_leave,
        ping_raises_the_drivers_error,
        reads_wait_for_ever,
        blind_to_case,
        three_byte_text,
        short_text,
        whole_seconds,
        numbers_as_floats,
        one_snapshot_for_all,
        another_ones_page,
        a_group_that_has_left,
    )
}
