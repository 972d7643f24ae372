"""Rounds: all who wait for something of a user share one read of the store."""

from __future__ import annotations

import asyncio
from typing import Any

from wallet_gql.domain.errors import Unavailable
from wallet_gql.testing.patience import within
from wallet_gql.transports.graphql.rounds import AT_ONCE, Rounds


async def test_all_who_wait_share_a_read() -> None:
    """Of each key there is one read a round, which looks at what anybody watches; it fails for all, or for none."""
    rounds: Rounds[str, int, str] = Rounds(0.001)
    asked: list[tuple[str, frozenset[int]]] = []

    def reading(key: str) -> Any:
        async def read(watched: frozenset[int]) -> str:
            asked.append((key, watched))
            await asyncio.sleep(0)
            if key == "broken":
                raise Unavailable("away")
            return key

        return read

    keys = ["ann", "ann", "bob", "broken", "broken", "ann"]
    waiting = [asyncio.ensure_future(rounds.next(key, frozenset({n}), reading(key))) for n, key in enumerate(keys)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    found = await within(20, asyncio.gather(*waiting, return_exceptions=True))
    assert [type(one) if isinstance(one, BaseException) else one for one in found] == [
        "ann", asyncio.CancelledError, "bob", Unavailable, Unavailable, "ann",
    ]  # fmt: skip
    assert sorted(asked) == [("ann", frozenset({0, 5})), ("bob", frozenset({2})), ("broken", frozenset({3, 4}))]
    assert rounds.count == 3
    assert await within(20, rounds.next("ann", frozenset(), reading("ann"))) == "ann"


async def test_a_round_leaves_the_store_to_others() -> None:
    """However many users wait, so many are read at the same time at most, and all of them are read."""
    rounds: Rounds[int, int, int] = Rounds(0.001)
    running, most = 0, 0

    async def read(_: frozenset[int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1

    found = await within(20, asyncio.gather(*(rounds.next(key, frozenset(), read) for key in range(3 * AT_ONCE))))
    assert (found, most) == ([1] * (3 * AT_ONCE), AT_ONCE)
