"""SQLite under a thousand kills, most of a plain writer, some of the HTTP server; and how often it flushes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration._evidence import write_evidence
from wallet_gql.testing.crash import Tally, draw_trials, run_trial
from wallet_gql.testing.harness import harness_for

KILLS = int(os.environ.get("WALLET_SOAK_KILLS", "1000"))
SEED = int(os.environ.get("WALLET_SOAK_SEED", "20261122"))
TRANSFERS = 40

_LONE = """
import asyncio, sys
from wallet_gql.backends import open_store
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.world import World
from pathlib import Path

async def main(folder, commands):
    async with World(Harness("sqlite:///{tmp}/w.db"), Path(folder)) as world:
        ann, bob = await world.people(2, 10_000)
        before = world.store.groups.counters.batches
        for _ in range(commands):
            await world.pay(ann, bob, 1)
        print("batches", world.store.groups.counters.batches - before)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.soak
@pytest.mark.backend("sqlite")
async def test_a_thousand_kills(tmp_path: Path) -> None:
    """Nothing answered is lost and nothing doubled, over every window; the counts go into the evidence."""
    tally = Tally()
    trials = draw_trials(harness_for("sqlite"), SEED, KILLS)
    for number, trial in enumerate(trials, start=1):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_trial(harness_for("sqlite"), folder, trial))
        shutil.rmtree(folder)
        sys.stderr.write(f"\r{number}/{len(trials)} trials, {tally.kills} kills")
        text = f"Seed {SEED}; no trial found a contradiction. Written after each trial.\n\n{tally.table()}"
        write_evidence(f"sqlite-kill-{SEED}", "SQLite under kill -9", "make soak ARGS='-k thousand_kills'", text)

    assert tally.kills >= KILLS


def _flushes(folder: Path, commands: int) -> int:
    """How many fsync and fdatasync calls a run with so many lone transfers makes."""
    folder.mkdir()
    trace = folder / "trace"
    strace = ["strace", "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync"]
    subprocess.run([*strace, sys.executable, "-c", _LONE, str(folder), str(commands)], check=True, capture_output=True)
    return len(re.findall(r"\b(?:fsync|fdatasync)\(", trace.read_text()))


@pytest.mark.slow
@pytest.mark.backend("sqlite")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; make test-deps installs it")
def test_one_flush_a_commit(tmp_path: Path) -> None:
    """Each further lone transfer costs exactly one fsync: the durable reply waits for its own log frames."""
    more, fewer = _flushes(tmp_path / "more", TRANSFERS), _flushes(tmp_path / "fewer", 0)

    assert more - fewer == TRANSFERS
