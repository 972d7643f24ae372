"""The tests convict wrong backends: each mistake that is easy to make with Cassandra is made here, and found out.

Each mutant goes through storms (`_cassandra_storm`) until something is wrong; the backend as it is goes through as many
without a fault.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration._cassandra_storm import storm
from wallet_gql.backends.cassandra import gate, partition, read
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.credits import Credits, Receive
from wallet_gql.backends.cassandra.decide import _Drafting
from wallet_gql.backends.cassandra.errors import leaves_doubt
from wallet_gql.backends.cassandra.partition import Draft, Partition
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.conformance import Copying
from wallet_gql.testing.servers.cassandra import CassandraHarness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.timeout(600)]

PARTITIONS = 4
KEYS = 120
STORMS_MAX = 8
KEYS_OF_A_LONG_STORM = 1_000

Patch = pytest.MonkeyPatch


async def trial(folder: Path, seed: int, keys: int = KEYS) -> list[str]:
    """One storm on a ledger that nobody else audits: whatever is wrong afterwards, an exception included."""
    await asyncio.to_thread(folder.mkdir)
    world = World(CassandraHarness(PARTITIONS), folder, seed=seed)
    await world.__aenter__()
    try:
        return await storm(world, keys, seed)
    except WalletError as error:
        return [f"a client was told {error!r}"]
    finally:
        await world.__aexit__(AssertionError, None, None)


# Reading


def loaded_beside_the_register(patch: Patch) -> None:
    """What was read once is used again although the register has moved."""

    def drafting(client: Any, nodes: Any, where: Partition, pairs: Any) -> Any:
        kept: list[Any] = []

        async def draft(base: Any) -> Draft:
            batch = _Drafting(client, nodes, where, base)
            if kept:
                batch._found, batch._wanted = kept[0]
            else:
                await batch.load(pairs)
                kept.append((batch._found, batch._wanted))
            return await batch.checked(pairs, batch.decide(pairs))

        return draft

    patch.setattr("wallet_gql.backends.cassandra.store.drafting", drafting)


def a_refusal_not_validated(patch: Patch) -> None:
    """What writes nothing is answered from rows of two versions."""

    async def newest(*_: Any) -> bool:
        return True

    patch.setattr(Partition, "_is_newest", newest)


def a_hole_in_a_page_accepted(patch: Patch) -> None:
    """Entries that are being spread are left out."""
    patch.setattr(read, "_TRIES", 1)


# Spreading


def no_help(patch: Patch) -> None:
    """Whoever finds a tail that is not spread takes it for spread."""

    async def marked(*_: Any) -> bool:
        return True

    patch.setattr(Partition, "_is_marked", marked)


def the_next_before_the_last_is_spread(patch: Patch) -> None:
    """The rows follow when they please."""

    async def finish(self: Partition, done: Any, *_: float) -> Any:
        async def later() -> None:
            await asyncio.sleep(0.05)
            await self.spread(done.after.version, done.after.attempt, done.draft.ops)

        task = asyncio.create_task(later())
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self.known = done.after
        return done.draft.result

    patch.setattr(Partition, "_finish", finish)


def the_tail_left_out(patch: Patch) -> None:
    """Only whoever decided a commit knows its rows."""
    patch.setattr(partition, "unpacked", lambda _: [])


def stamps_of_a_clock(patch: Patch) -> None:
    """Rows that are written again later go before newer ones."""
    write = Client.write

    async def now(self: Client, ops: Any, stamp: int) -> None:
        del stamp
        await write(self, ops, time.time_ns() // 1000)

    patch.setattr(Client, "write", now)


# Deciding


def a_time_out_taken_for_a_failure(patch: Patch) -> None:
    """No answer is read as a no."""
    patch.setattr(partition, "leaves_doubt", lambda _: False)


def an_unknown_code_taken_for_a_failure(patch: Patch) -> None:
    """CAS_WRITE_UNKNOWN is read as a no, for it is no exception of the driver's."""
    patch.setattr(partition, "leaves_doubt", lambda e: getattr(e, "code", 0) != 0x1700 and leaves_doubt(e))


def only_the_last_attempt_kept(patch: Patch) -> None:
    """An older one that wins after all is taken for somebody else's."""
    decide_ = Partition._decide

    async def forgetful(self: Partition, base: Any, after: Any, made: Draft, tried: dict[str, Any]) -> bool:
        tried.clear()
        return await decide_(self, base, after, made, tried)

    patch.setattr(Partition, "_decide", forgetful)


def decided_by_a_plain_write(patch: Patch) -> None:
    """The last one wins."""
    ask = Client.ask

    async def plain(self: Client, name: str, *values: Any) -> Any:
        if name != "cas":
            return await ask(self, name, *values)
        (found,) = await ask(self, "version", values[-2])
        return await ask(self, name, *values[:-1], found[0])

    patch.setattr(Client, "ask", plain)


# Credits


def credits_not_deduplicated(patch: Patch) -> None:
    """A credit that is sent twice is applied twice."""
    patch.setattr(Receive, "receive", lambda self, state: state.receive(self.credit))


def credits_closed_before_they_arrive(patch: Patch) -> None:
    """Nobody looks for a credit that was lost on its way."""
    send = Credits._send

    async def early(self: Credits, intent: Any) -> bool:
        self._close_intent(intent)
        return await send(self, intent)

    patch.setattr(Credits, "_send", early)


# The gate


def the_gate_leaves_one_partition_open(patch: Patch) -> None:
    """One register is forgotten."""
    init = gate.Gate.__init__

    def without(self: gate.Gate, client: Client, partitions: Sequence[Partition]) -> None:
        init(self, client, partitions[:-1])

    patch.setattr(gate.Gate, "__init__", without)


MUTANTS: list[Callable[[Patch], None]] = [
    loaded_beside_the_register,
    a_refusal_not_validated,
    a_hole_in_a_page_accepted,
    no_help,
    the_next_before_the_last_is_spread,
    the_tail_left_out,
    stamps_of_a_clock,
    a_time_out_taken_for_a_failure,
    an_unknown_code_taken_for_a_failure,
    only_the_last_attempt_kept,
    decided_by_a_plain_write,
    credits_not_deduplicated,
    credits_closed_before_they_arrive,
]


@pytest.mark.trial
async def test_innocent_without_a_mutant(tmp_path: Path) -> None:
    """The same storm acquits the backend as it is."""
    found = await trial(tmp_path / "storm", 1)
    assert not found, found[:5]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 6))
async def test_innocent_in_a_long_storm(tmp_path: Path, seed: int) -> None:
    """A thousand keys a storm."""
    found = await trial(tmp_path / "storm", seed, KEYS_OF_A_LONG_STORM)
    assert not found, found[:5]


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_a_mutant_is_convicted(tmp_path: Path, monkeypatch: Patch, mutant: Callable[[Patch], None]) -> None:
    """Within a few storms something is wrong."""
    mutant(monkeypatch)
    for seed in range(1, STORMS_MAX + 1):
        found = await trial(tmp_path / str(seed), seed)
        if found:
            print(f"{mutant.__name__}: convicted in storm {seed}: {found[0][:200]}")  # noqa: T201
            return
    pytest.fail(f"not convicted in {STORMS_MAX} storms")


@pytest.mark.trial
async def test_a_partition_that_is_left_open_is_found(tmp_path: Path, monkeypatch: Patch) -> None:
    """The mutant of the gate needs no storm: a test of the suite tries every partition while the gate is closed."""
    the_gate_leaves_one_partition_open(monkeypatch)
    async with World(CassandraHarness(PARTITIONS), tmp_path) as world:
        with pytest.raises(AssertionError, match="slot"):
            await Copying().test_read_the_gate_is_closed_in_every_slot(world)
