"""Group reads: joining, failure, cancellation and closing, with a read that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from contextvars import ContextVar

import pytest

from wallet_gql.backends.kit import group_read
from wallet_gql.backends.kit.group_read import AT_ONCE, GROUP_MAX, GroupRead
from wallet_gql.domain.errors import Contended, InvariantViolated, NodeUnavailable, Unavailable
from wallet_gql.testing.patience import turns, until

BAD = -1
GONE = -2
WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")


class Reader:
    """Answers each number by its double once the gate is open; the number BAD cannot be read, at GONE the node is."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.groups: list[list[int]] = []
        self.whose: list[str] = []
        self.reads: GroupRead[int, int] = GroupRead(self)

    async def __call__(self, _: Hashable, group: Sequence[int]) -> list[int]:
        """One round trip."""
        self.groups.append(list(group))
        self.whose.append(WHOSE.get())
        await self.gate.wait()
        if GONE in group:
            raise NodeUnavailable("n1")
        if BAD in group:
            raise InvariantViolated("a row that nobody can read")
        return [2 * number for number in group]

    def ask(self, *numbers: int, lane: Hashable = None) -> list[asyncio.Task[int]]:
        """Tasks that ask."""
        return [asyncio.create_task(self.reads.ask(lane, number)) for number in numbers]


@pytest.fixture
async def busy() -> Reader:
    """Every place for a group is taken by one that waits at the gate: a slow group keeps the next one for no time."""
    reader = Reader()
    for place in range(AT_ONCE):
        reader.ask(1_000 + place)
        await until(lambda: len(reader.groups) > place, 30, "another group", 0.001)  # noqa: B023 - called in this turn
    return reader


async def test_a_lone_question_goes_at_once() -> None:
    """It waits for no timer and for nobody else."""
    reader = Reader()
    (asked,) = reader.ask(1)
    await turns(3)
    assert reader.groups == [[1]]
    reader.gate.set()
    assert await asked == 2


async def test_what_arrives_meanwhile_is_the_next_group(busy: Reader) -> None:
    """One read for all of them, in order, each with its own answer; another lane does not wait."""
    asked = busy.ask(*range(10))
    other = busy.ask(7, lane="other")
    await turns(5)
    assert busy.groups[AT_ONCE:] == [[7]]
    busy.gate.set()
    assert await asyncio.gather(*asked, *other) == [*(2 * n for n in range(10)), 14]
    assert busy.groups[AT_ONCE + 1 :] == [list(range(10))]


async def test_a_group_is_bounded(busy: Reader) -> None:
    """More than `GROUP_MAX` take several reads."""
    asked = busy.ask(*range(GROUP_MAX + 1))
    await turns(3)
    busy.gate.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(GROUP_MAX + 1)]
    assert max(map(len, busy.groups)) == GROUP_MAX


async def test_one_bad_question_does_not_fail_its_neighbours(busy: Reader) -> None:
    """They are asked one by one, and only the bad one is refused."""
    asked = busy.ask(1, BAD, 2)
    await turns(3)
    busy.gate.set()
    assert await asyncio.gather(*asked[::2]) == [2, 4]
    with pytest.raises(InvariantViolated):
        await asked[1]


async def test_a_store_that_is_gone_is_not_asked_by_each(busy: Reader) -> None:
    """`Unavailable` concerns the whole group: every member hears it, after one read."""
    asked = busy.ask(1, GONE, 2)
    await turns(3)
    busy.gate.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in found)
    assert busy.groups[AT_ONCE:] == [[1, GONE, 2]]


async def test_who_has_waited_for_long_is_not_asked(busy: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow store is asked only what somebody may still wait for; who comes later is answered."""
    monkeypatch.setattr(group_read, "WAIT_SECONDS", -1.0)
    late = busy.ask(1, 2)
    await turns(3)
    monkeypatch.undo()
    asked = busy.ask(3)
    await turns(3)
    busy.gate.set()
    found = await asyncio.gather(*late, return_exceptions=True)
    assert [type(error) for error in found] == [Contended] * 2
    assert await asked[0] == 6
    assert busy.groups[AT_ONCE:] == [[3]]


async def test_who_gives_up_leaves_the_group_running(busy: Reader) -> None:
    """A member cancelled before its group begins is not read; one cancelled later takes nobody with it."""
    early, *asked = busy.ask(1, 2, 3)
    await turns(3)
    early.cancel()
    await turns(3)
    busy.gate.set()
    await turns(1)
    asked[0].cancel()
    assert await asked[1] == 6
    assert busy.groups[AT_ONCE:] == [[2, 3]]
    assert early.cancelled()


async def test_a_group_is_nobodys() -> None:
    """It sees no context variable of whoever asked first."""
    reader = Reader()
    reader.gate.set()
    WHOSE.set("the first one's")
    await reader.reads.ask(None, 1)
    assert reader.whose == ["nobody's"]


async def test_closing_lets_reads_end(busy: Reader) -> None:
    """What is in flight is answered, and nothing is left behind."""
    asked = busy.ask(1)
    await turns(3)
    closing = asyncio.create_task(busy.reads.close())
    await turns(3)
    assert not closing.done()
    busy.gate.set()
    await closing
    assert await asked[0] == 2
    assert not busy.reads._lanes
