"""Nodes come and go under Redis leases: the tests of two-phase commit, and what only leases have."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

import pytest

from tests.integration import test_postgres_moves as moves_tests
from tests.integration import test_postgres_moves_reads as reads_tests
from tests.integration._clusters import one_each, sharded
from wallet_gql.backends.postgres.moves import _locked
from wallet_gql.backends.postgres.node import for_long
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

QUICK: Final = (
    "test_a_node_comes_and_goes",
    "test_payments_go_on_meanwhile",
    "test_any_process_ends_what_a_mover_has_left",
    "test_a_mover_that_others_have_overtaken_changes_nothing",
    "test_what_is_refused",
)
"""Those of two-phase commit that are run with leases each time. The others, whose code does not differ, are soaks."""


def soaked(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The same test, marked here alone."""

    @wraps(test)
    async def again(**given: Any) -> None:
        await test(**given)

    marked: Callable[..., Awaitable[None]] = pytest.mark.soak(again)
    return marked


for module in (moves_tests, reads_tests):
    found = {name: value for name, value in vars(module).items() if name.startswith("test_")}
    globals().update({name: test if name in QUICK else soaked(test) for name, test in found.items()})
fourth = moves_tests.fourth

KILLS: Final = (
    ("add n4 URL", "moves.announced=kill@1"),
    ("rebalance", "moves.announced=kill@5"),
    ("rebalance", "moves.settled=kill@3"),
    ("drain n2", "moves.announced=kill@4"),
)


async def test_commits_do_not_wait_for_a_mover_that_writes(world: World) -> None:
    """Activation and forgetting take long with large slots; the other accounts of the node go on meanwhile."""
    first, second, _ = await one_each(world)
    async with sharded(world).node("n1").connection(for_long()) as connection:
        await connection.do("BEGIN")
        await _locked(connection)
        assert (await world.pay(first, second, 1)).credited
        await connection.do("ROLLBACK")


async def test_any_process_ends_what_is_half_announced(world: World, fourth: str) -> None:
    """Some nodes know of the freeze, and the mover is gone: the slots are served again."""
    await moves_tests.test_any_process_ends_what_a_mover_has_left(world, fourth, "moves.announced")


@pytest.mark.soak
async def test_movers_are_killed_between_the_steps_of_leases(world: World, fourth: str) -> None:
    """As `test_movers_are_killed_at_every_step`."""
    assert await moves_tests.suffer(world, fourth, KILLS) == {-signal.SIGKILL: len(KILLS)}
