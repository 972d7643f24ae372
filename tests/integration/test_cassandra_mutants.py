"""The tests convict wrong backends: each mistake that is easy to make with Cassandra is made here, and found out.

Each mutant goes through storms (`_cassandra_storm`) until something is wrong; the backend as it is goes through as many
without a fault.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration._cassandra_storm import storm
from tests.integration.cassandra_mutants import MUTANTS
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.conformance import Copying
from wallet_gql.testing.servers.cassandra import CassandraHarness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.timeout(600)]

PARTITIONS = 4
KEYS = 120
KEYS_OF_A_SHORT_STORM = 60
STORMS_MAX = 8
KEYS_OF_A_LONG_STORM = 1_000

OF_THE_GATE = "the_gate_leaves_one_partition_open"


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


@pytest.mark.trial
async def test_innocent_without_a_mutant(tmp_path: Path) -> None:
    """A storm half as long acquits the backend as it is; longer ones do in the soak."""
    found = await trial(tmp_path / "storm", 1, KEYS_OF_A_SHORT_STORM)
    assert not found, found[:5]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 6))
async def test_innocent_in_a_long_storm(tmp_path: Path, seed: int) -> None:
    """A thousand keys a storm."""
    found = await trial(tmp_path / "storm", seed, KEYS_OF_A_LONG_STORM)
    assert not found, found[:5]


@pytest.mark.soak
@pytest.mark.parametrize("mutant", [name for name in MUTANTS if name != OF_THE_GATE])
async def test_a_mutant_is_convicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    """Within a few storms something is wrong."""
    MUTANTS[mutant](monkeypatch)
    for seed in range(1, STORMS_MAX + 1):
        found = await trial(tmp_path / str(seed), seed)
        if found:
            print(f"{mutant}: convicted in storm {seed}: {found[0][:200]}")  # noqa: T201
            return
    pytest.fail(f"not convicted in {STORMS_MAX} storms")


@pytest.mark.trial
async def test_a_partition_that_is_left_open_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the gate needs no storm: a test of the suite tries every partition while the gate is closed."""
    MUTANTS[OF_THE_GATE](monkeypatch)
    async with World(CassandraHarness(PARTITIONS), tmp_path) as world:
        with pytest.raises(AssertionError, match="slot"):
            await Copying().test_read_the_gate_is_closed_in_every_slot(world)
