"""Nodes come and go under Redis leases: the tests of two-phase commit, and what only leases have."""

from __future__ import annotations

import signal
from typing import Final

import pytest

from tests.integration import test_postgres_moves as moves_tests
from tests.integration import test_postgres_moves_reads as reads_tests
from tests.integration._clusters import one_each, sharded
from wallet_gql.backends.postgres.mover import for_long
from wallet_gql.backends.postgres.moves import _locked
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

for module in (moves_tests, reads_tests):
    globals().update({name: value for name, value in vars(module).items() if name.startswith("test_")})
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


@pytest.mark.soak
async def test_movers_are_killed_at_every_step(world: World, fourth: str) -> None:
    """Two-phase commit has it in every run, and what only leases have is below."""
    await moves_tests.test_movers_are_killed_at_every_step(world, fourth)


async def test_any_process_ends_what_is_half_announced(world: World, fourth: str) -> None:
    """Some nodes know of the freeze, and the mover is gone: the slots are served again."""
    await moves_tests.test_any_process_ends_what_a_mover_has_left(world, fourth, "moves.announced")


async def test_movers_are_killed_between_the_steps_of_leases(world: World, fourth: str) -> None:
    """As `test_movers_are_killed_at_every_step`."""
    assert await moves_tests.suffer(world, fourth, KILLS) == {-signal.SIGKILL: len(KILLS)}
