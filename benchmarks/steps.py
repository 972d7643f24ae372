"""Steps of the Python interpreter (bytecodes) that the ledger takes for one transfer, in memory, 64 in flight.

    python benchmarks/steps.py

The count is exact and the same on a busy machine. It leaves out what C code does, and the event loop; it says nothing
about a store. Beside it stands a yardstick, a piece of plain Python that is counted in the same process: their ratio
hardly depends on the version of Python. `tests/integration/test_steps.py` holds the ratio.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.beside import Turns
from wallet_gql import Ledger
from wallet_gql.backends import open_store

IN_FLIGHT: Final = 64
FEW: Final = 128
MANY: Final = 384
"""Transfers of two counts, whose difference leaves out what both begin with."""

_LOOP: Final = str(Path(asyncio.__file__).parent)


class Steps:
    """Counts the bytecodes that this thread executes inside the `with` block, outside asyncio."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename.startswith(_LOOP):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, _frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        self.count += event == "opcode"
        return self._step


class _Piece:
    """What the yardstick is made of."""

    __slots__ = ("name", "parts", "size")

    def __init__(self, name: str, size: int, parts: tuple[int, ...]) -> None:
        self.name = name
        self.size = size
        self.parts = parts

    def grown(self, by: int) -> _Piece:
        """Another one."""
        if by < 0:
            raise ValueError(f"{self.name} shrinks by {by}")
        return _Piece(self.name, self.size + by, (*self.parts, by))


def yardstick(rounds: int = 1_000) -> int:
    """Objects, dictionaries, tuples, texts and calls, about as the ledger mixes them."""
    known: dict[str, _Piece] = {}
    for number in range(rounds):
        name = f"piece-{number % 10}"
        piece = known.get(name) or _Piece(name, number, ())
        if piece.size < rounds and name not in ("", "other"):
            known[name] = piece.grown(number % 3)
        sizes = [one.size for one in known.values() if one.parts]
        if len(piece.parts) > len(sizes):
            known[name] = _Piece(name, number, (number,))
    return len(known)


async def transfers(waste: Callable[[], object] | None = None) -> float:
    """Steps of one transfer; `waste` is run once more for each."""
    turns = Turns("memory://", IN_FLIGHT)
    async with open_store(turns.storage) as store:
        ledger = Ledger(store)
        people = await turns.people(ledger)
        counts: list[int] = []
        for count in (FEW, FEW, MANY):  # the first fills what is remembered
            drawn = turns.draw(people, count)
            with Steps() as steps:
                await turns.pay(ledger, drawn)
                for _ in range(count if waste else 0):
                    waste()  # type: ignore[misc]  # which is there
            counts.append(steps.count)
    return (counts[2] - counts[1]) / (MANY - FEW)


def ratio(waste: Callable[[], object] | None = None) -> float:
    """The steps of a transfer to those of one round of the yardstick."""
    with Steps() as steps:
        yardstick()
    return asyncio.run(transfers(waste)) / (steps.count / 1_000)


if __name__ == "__main__":
    print(f"{asyncio.run(transfers()):,.0f} steps a transfer, {ratio():.2f} rounds of the yardstick")
