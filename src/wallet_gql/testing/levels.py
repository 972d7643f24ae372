"""The consistency levels that a backend claims, in the words of Adya's thesis, for each scope of the wallet.

Source: Atul Adya, "Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions",
MIT, 1999. A level is named after what it forbids; each one forbids what the levels below it forbid, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """From the weakest to the strongest; `str` gives Adya's name."""

    PL_0 = 0
    PL_1 = 1
    PL_2 = 2
    PL_2_PLUS = 3
    PL_3 = 4
    PL_SS = 5

    def __str__(self) -> str:
        return {Level.PL_2_PLUS: "PL-2+"}.get(self, self.name.replace("_", "-"))

    @property
    def forbids(self) -> str:
        """What this level forbids and the one below it permits."""
        return FORBIDS[self]


FORBIDS: Final[Mapping[Level, str]] = {
    Level.PL_0: "nothing",
    Level.PL_1: "G0: two transfers that are in one order on one account and in the other order on another",
    Level.PL_2: "G1: a read of what was refused or is in nobody's books, or a cycle of writes and reads of writes",
    Level.PL_2_PLUS: "G-single: a read that saw a part of a transfer and missed another part (a fractured read)",
    Level.PL_3: "G2: no order of all operations explains what was read",
    Level.PL_SS: "real time: a read that missed what was answered before it was sent (a stale read)",
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The strongest level that a backend keeps, for the operations on one account, on one node, and on all.

    The default is strict serializability everywhere: a backend that keeps less has to say so.
    """

    account: Level = Level.PL_SS
    node: Level = Level.PL_SS
    across: Level = Level.PL_SS
    keeps_pending: bool = False
    """Whether a balance may count credits of other nodes whose entries follow."""
