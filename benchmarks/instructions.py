"""Instructions of the processor that one transfer takes, counted by valgrind: exact where times are noisy.

    python benchmarks/instructions.py                      this tree
    python benchmarks/instructions.py --beside OTHER/src   and another one, with the ratio

Each tree runs few and many lone transfers in processes of their own; the difference, divided, is one transfer and the
audit of its entries. With
`--storage memory://` the store costs least. Needs valgrind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parents[1] / "src"
FEW: Final = 20
MANY: Final = 120


def pay(storage: str, count: int) -> None:
    """`count` transfers, one after the other, by the payee's account id; at the end the books are audited."""
    from wallet_gql.testing.harness import Harness  # noqa: PLC0415 - of the tree that is measured
    from wallet_gql.testing.world import World  # noqa: PLC0415 - the same

    async def run(folder: Path) -> None:
        async with World(Harness(storage), folder) as world:
            ann, bob = await world.people(2, 10_000)
            for _ in range(count):
                await world.pay(ann, bob, 1)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def counted(tree: Path, storage: str, count: int) -> int:
    """The instructions of a whole process that makes `count` transfers with the modules of that tree."""
    command = [
        *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__),
        *("--storage", storage, "--pay", str(count)),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{tree}: {done.stderr[-2000:]}")
    return int(found[1])


def a_transfer(tree: Path, storage: str) -> float:
    """Instructions of one transfer, without what starting costs."""
    return (counted(tree, storage, MANY) - counted(tree, storage, FEW)) / (MANY - FEW)


def main() -> None:
    """Count, and print a row for each tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sqlite:///{tmp}/wallet.db", help="where the books are")
    parser.add_argument("--beside", type=Path, help="the src folder of another tree")
    parser.add_argument("--pay", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pay is not None:
        pay(given.storage, given.pay)
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("this needs valgrind")
    here = a_transfer(SOURCE, given.storage)
    print(f"{given.storage}: {here:,.0f} instructions a transfer")
    if given.beside is not None:
        there = a_transfer(given.beside, given.storage)
        print(f"{given.beside}: {there:,.0f}; this tree takes {here / there:.3f} of that")


if __name__ == "__main__":
    main()
