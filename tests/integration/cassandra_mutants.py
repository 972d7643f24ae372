"""A Cassandra backend with a mistake that is easy to make: `MUTANTS[name](patch)` breaks this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pytest

from wallet_gql.backends.cassandra import gate, partition, read
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.credits import Credits, Receive
from wallet_gql.backends.cassandra.decide import _Drafting
from wallet_gql.backends.cassandra.errors import leaves_doubt
from wallet_gql.backends.cassandra.partition import Draft, Partition

# Reading


def loaded_beside_the_register(patch: pytest.MonkeyPatch) -> None:
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


def a_refusal_not_validated(patch: pytest.MonkeyPatch) -> None:
    """What writes nothing is answered from rows of two versions."""

    async def newest(*_: Any) -> bool:
        return True

    patch.setattr(Partition, "_is_newest", newest)


def a_hole_in_a_page_accepted(patch: pytest.MonkeyPatch) -> None:
    """Entries that are being spread are left out."""
    patch.setattr(read, "_TRIES", 1)


# Spreading


def no_help(patch: pytest.MonkeyPatch) -> None:
    """Whoever finds a tail that is not spread takes it for spread."""

    async def marked(*_: Any) -> bool:
        return True

    patch.setattr(Partition, "_is_marked", marked)


def the_next_before_the_last_is_spread(patch: pytest.MonkeyPatch) -> None:
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


def the_tail_left_out(patch: pytest.MonkeyPatch) -> None:
    """Only whoever decided a commit knows its rows."""
    patch.setattr(partition, "unpacked", lambda _: [])


def stamps_of_a_clock(patch: pytest.MonkeyPatch) -> None:
    """Rows that are written again later go before newer ones."""
    write = Client.write

    async def now(self: Client, ops: Any, stamp: int) -> None:
        del stamp
        await write(self, ops, time.time_ns() // 1000)

    patch.setattr(Client, "write", now)


# Deciding


def a_time_out_taken_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    """No answer is read as a no."""
    patch.setattr(partition, "leaves_doubt", lambda _: False)


def an_unknown_code_taken_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    """CAS_WRITE_UNKNOWN is read as a no, for it is no exception of the driver's."""
    patch.setattr(partition, "leaves_doubt", lambda e: getattr(e, "code", 0) != 0x1700 and leaves_doubt(e))


def only_the_last_attempt_kept(patch: pytest.MonkeyPatch) -> None:
    """An older one that wins after all is taken for somebody else's."""
    decide_ = Partition._decide

    async def forgetful(self: Partition, base: Any, after: Any, made: Draft, tried: dict[str, Any]) -> bool:
        tried.clear()
        return await decide_(self, base, after, made, tried)

    patch.setattr(Partition, "_decide", forgetful)


def decided_by_a_plain_write(patch: pytest.MonkeyPatch) -> None:
    """The last one wins."""
    ask = Client.ask

    async def plain(self: Client, name: str, *values: Any) -> Any:
        if name != "cas":
            return await ask(self, name, *values)
        (found,) = await ask(self, "version", values[-2])
        return await ask(self, name, *values[:-1], found[0])

    patch.setattr(Client, "ask", plain)


# Credits


def credits_not_deduplicated(patch: pytest.MonkeyPatch) -> None:
    """A credit that is sent twice is applied twice."""
    patch.setattr(Receive, "receive", lambda self, state: state.receive(self.credit))


def credits_closed_before_they_arrive(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for a credit that was lost on its way."""
    send = Credits._send

    async def early(self: Credits, intent: Any) -> bool:
        self._close_intent(intent)
        return await send(self, intent)

    patch.setattr(Credits, "_send", early)


# The gate


def the_gate_leaves_one_partition_open(patch: pytest.MonkeyPatch) -> None:
    """One register is forgotten."""
    init = gate.Gate.__init__

    def without(self: gate.Gate, client: Client, partitions: Sequence[Partition]) -> None:
        init(self, client, partitions[:-1])

    patch.setattr(gate.Gate, "__init__", without)


MUTANTS: Final[Mapping[str, Callable[[pytest.MonkeyPatch], None]]] = {
    mutate.__name__: mutate
    for mutate in (
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
        the_gate_leaves_one_partition_open,
    )
}
