"""How often SQLite flushes, as the kernel counts it: once per commit, for any number of transfers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration._evidence import write_evidence

IN_FLIGHT = (1, 16, 64, 256)
TRANSFERS = 512
PAYING = """
import asyncio, sys
from pathlib import Path
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.world import World

async def main(folder, in_flight, transfers):
    async with World(Harness("sqlite:///{tmp}/wallet.db"), folder) as world:
        people = await world.people(20, 1_000_000)
        before = world.store.groups.counters.batches
        left = iter(range(transfers))
        async def client():
            for number in left:
                await world.pay(people[number % 20], people[(number + 7) % 20], 1)
        await asyncio.gather(*(client() for _ in range(in_flight)))
        print(world.store.groups.counters.batches - before)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.backend("sqlite"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; make test-deps installs it"),
]


def count(folder: Path, in_flight: int, transfers: int) -> tuple[int, int]:
    """Commits made for so many transfers, and all calls of fsync and fdatasync in the life of the process."""
    folder.mkdir()
    trace = folder / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=fsync,fdatasync", sys.executable, "-c", PAYING]
    arguments = [str(folder), str(in_flight), str(transfers)]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout), len(re.findall(r"\b(?:fsync|fdatasync)\(", trace.read_text()))


def test_a_crowd_shares_its_flushes(tmp_path: Path) -> None:
    """64 clients at once flush once a commit, and commit far less often than they pay."""
    commits, flushes = count(tmp_path / "crowd", 64, TRANSFERS)
    _, base = count(tmp_path / "base", 64, 0)

    assert flushes - base == commits
    assert commits <= TRANSFERS // 16


@pytest.mark.soak
def test_soak_of_flushes(tmp_path: Path) -> None:
    """The figures for 1 to 256 in flight go into the evidence."""
    _, base = count(tmp_path / "base", 1, 0)
    rows = [
        "| in flight | transfers | commits | flushes | flushes a commit | flushes a transfer |",
        "|---:|" + "---:|" * 5,
    ]
    for in_flight in IN_FLIGHT:
        commits, flushes = count(tmp_path / str(in_flight), in_flight, TRANSFERS)
        mine = flushes - base
        figures = f"{mine / commits:.2f} | {mine / TRANSFERS:.3f}"
        rows.append(f"| {in_flight} | {TRANSFERS} | {commits} | {mine} | {figures} |")
        assert commits <= mine <= commits + commits // 50, "a checkpoint, every few hundred commits, has flushes too"
    text = (
        "Calls of fsync and fdatasync, counted by `strace -f -e trace=fsync,fdatasync` over a whole process that pays\n"
        f"between 20 accounts, less the {base} of a process that pays nothing. WAL, `synchronous=FULL`. What is above\n"
        "one a commit is a checkpoint's.\n\n"
    )
    write_evidence("sqlite-fsync", "Flushes of SQLite", "make soak ARGS='-k flushes'", text + "\n".join(rows))
