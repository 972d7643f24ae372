"""A load, drawn in full before it runs: what is asked of which account, and when.

A schedule depends on its shape alone. It names accounts by index and has no ids, and it is drawn by integers only, so
that one shape has one digest on every machine, whatever the backend and however the calls interleave.
"""

from __future__ import annotations

import hashlib
import json
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Final, Literal, get_args

Mix = Literal["transfer", "smallbank", "hold", "replay"]
MIXES: Final[tuple[Mix, ...]] = ("transfer", "smallbank", "hold", "replay")
Api = Literal["ledger", "graphql"]
Kind = Literal["kill", "stop", "cut", "half-close", "delay", "drop", "clock", "fail", "writers"]
"""Of faults, see `fault`."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Operation = Literal[
    "read",
    "transfer",
    "hold",
    "balance",
    "deposit_checking",
    "transact_savings",
    "amalgamate",
    "write_check",
    "send_payment",
]

AMOUNT_MAX_MINOR: Final = 100
SMALLBANK: Final[dict[Operation, int]] = {
    "balance": 15,
    "deposit_checking": 15,
    "transact_savings": 15,
    "amalgamate": 15,
    "write_check": 25,
    "send_payment": 15,
}
"""The six transactions and their shares in percent: Cahill and others, "Serializable Isolation for Snapshot Databases",
SIGMOD 2008."""
REPLAYED: Final = 0.5
"""The share of the mix `replay` that repeats an earlier request."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a schedule is drawn from.

    Account i is drawn with a weight of 1 / (i + 1)^theta. `reads` is the share of reads, `cross` the share of transfers
    between accounts of different parity, which are on different nodes where there are several. `rate` is a second.
    """

    mix: Mix = "transfer"
    seed: int = 1
    operations: int = 1_200
    rate: float = 100.0
    accounts: int = 32
    theta: float = 0.0
    reads: float = 0.0
    cross: float = 0.5

    def __post_init__(self) -> None:
        if self.accounts < 8 or self.accounts % 4:
            raise ValueError("the number of accounts must be at least 8, and divisible by 4")
        if self.rate <= 0 or self.operations < 1:
            raise ValueError("rate and number of operations must be above 0")
        if not (0 <= self.reads <= 1 and 0 <= self.cross <= 1 and self.theta >= 0):
            raise ValueError("reads and cross are from 0 to 1, theta is not negative")


@dataclass(frozen=True, slots=True)
class Planned:
    """One operation: `at_us` microseconds after the start, on accounts by index.

    `again` is the place of the request that it repeats under the same key; -1 if it is a new one.
    """

    at_us: int
    operation: Operation
    first: int
    second: int
    amount_minor: int
    again: int = -1


Schedule = Sequence[Planned]


def digest(schedule: Schedule) -> str:
    """The SHA-256 of a schedule."""
    text = json.dumps([list(asdict(planned).values()) for planned in schedule], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def draw(shape: Shape) -> list[Planned]:
    """The schedule of a shape, at a constant rate."""
    drawing = _Drawing(shape)
    gap_us = Decimal(1_000_000) / Decimal(str(shape.rate))
    return [drawing.planned(int(gap_us * place)) for place in range(shape.operations)]


class _Drawing:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._random = random.Random(shape.seed)
        exponent = -Decimal(str(shape.theta))
        self._weights = list(accumulate(int(10**15 * Decimal(i + 1) ** exponent) for i in range(shape.accounts)))
        self._drawn: list[Planned] = []

    def planned(self, at_us: int) -> Planned:
        """The next operation."""
        made = self._smallbank(at_us) if self._shape.mix == "smallbank" else self._simple(at_us)
        self._drawn.append(made)
        return made

    def _chance(self, share: float) -> bool:
        return self._random.randrange(1_000_000) < int(share * 1_000_000)

    def _account(self, below: int) -> int:
        return bisect(self._weights, self._random.randrange(self._weights[below - 1]))

    def _pair(self, below: int) -> tuple[int, int]:
        first, cross = self._account(below), self._chance(self._shape.cross)
        while True:
            second = self._account(below)
            if second != first and (second % 2 != first % 2) is cross:
                return first, second

    def _amount(self) -> int:
        return 1 + self._random.randrange(AMOUNT_MAX_MINOR)

    def _simple(self, at_us: int) -> Planned:
        shape = self._shape
        first, second = self._pair(shape.accounts)
        amount_minor = self._amount()
        if self._chance(shape.reads):
            return Planned(at_us, "read", first, first, 0)
        if shape.mix == "replay" and self._drawn and self._chance(REPLAYED):
            again = self._random.randrange(len(self._drawn))
            former = self._drawn[again]
            if former.operation == "transfer":
                first_time = again if former.again < 0 else former.again
                return Planned(at_us, "transfer", former.first, former.second, former.amount_minor, first_time)
        return Planned(at_us, "hold" if shape.mix == "hold" else "transfer", first, second, amount_minor)

    def _smallbank(self, at_us: int) -> Planned:
        """Customer i has account i for checking, and i + half of all for savings, which has the same parity."""
        customers = self._shape.accounts // 2
        first, second = self._pair(customers)
        shares = list(accumulate(SMALLBANK.values()))
        operation = list(SMALLBANK)[bisect(shares, self._random.randrange(shares[-1]))]
        amount_minor = self._amount()
        savings = first + customers
        if operation in ("balance", "amalgamate"):
            return Planned(at_us, operation, first if operation == "balance" else second, savings, amount_minor)
        if operation == "transact_savings":
            return Planned(at_us, operation, savings, savings, amount_minor)
        return Planned(at_us, operation, first, second if operation == "send_payment" else first, amount_minor)
