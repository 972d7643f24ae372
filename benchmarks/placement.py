"""How slots and users spread over nodes, what moves when one is added, and how many payments cross: a simulation.

    python benchmarks/placement.py --nodes 1,3,10,100,1000 --users 1000000

It needs no server: a user's slot is a hash, so a random slot a user is as good. Nodes are placed by the product's own
`NodeMap`. Of 10^9 users the counts of each slot are drawn instead of each user, which is the same.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from bisect import bisect
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from rich.console import Console
from rich.table import Table

from wallet_gql.backends.kit.nodes import NodeMap
from wallet_gql.domain.ids import SLOTS

PAYMENTS: Final = 20_000
CLUB: Final = 50
"""Members of a community; four payments of five stay inside it."""
INSIDE: Final = 0.8
ZIPF: Final = 1.1
"""The exponent of the popularity of payees."""
_EACH_DRAWN_MAX: Final = 2_000_000


def users_of_slots(users: int, drawn: random.Random) -> list[int]:
    """How many users each slot has."""
    if users <= _EACH_DRAWN_MAX:
        counts = [0] * SLOTS
        for _ in range(users):
            counts[drawn.randrange(SLOTS)] += 1
        return counts
    mean = users / SLOTS
    return [max(round(drawn.gauss(mean, math.sqrt(mean))), 0) for _ in range(SLOTS)]


def balance(homes: NodeMap, counts: list[int]) -> float:
    """The users of the fullest node, as a multiple of the mean."""
    on = dict.fromkeys(homes.names, 0)
    for slot, count in enumerate(counts):
        on[homes.home(slot)] += count
    return max(on.values()) * len(on) / max(sum(on.values()), 1)


def moved(homes: NodeMap) -> float:
    """The share of the slots that one more node gets, all of them to itself."""
    more = NodeMap([*homes.names, "new"])
    return sum(homes.home(slot) != more.home(slot) for slot in range(SLOTS)) / SLOTS


def crossing(homes: NodeMap, payee: Callable[[int], int], slots: list[int], drawn: random.Random) -> float:
    """The share of payments between two nodes. `payee` draws one for a payer; both are numbers of users."""
    payers = [drawn.randrange(len(slots)) for _ in range(PAYMENTS)]
    return sum(homes.home(slots[one]) != homes.home(slots[payee(one)]) for one in payers) / PAYMENTS


def graphs(users: int, drawn: random.Random) -> dict[str, Callable[[int], int]]:
    """Who is paid: anybody alike, popular ones mostly, or one's own community mostly."""
    popularity = list(accumulate((rank + 1) ** -ZIPF for rank in range(users)))

    def zipf(_payer: int) -> int:
        return min(bisect(popularity, drawn.random() * popularity[-1]), users - 1)

    def club(payer: int) -> int:
        if drawn.random() > INSIDE:
            return drawn.randrange(users)
        start = payer // CLUB * CLUB
        return drawn.randrange(start, min(start + CLUB, users))

    return {"uniform": lambda _: drawn.randrange(users), "Zipf": zipf, "communities": club}


def main() -> None:
    """Print one row for each number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,2,3,10,30,100,300,1000")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=4, help="servers, each with 22 connections a node at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    drawn = random.Random(given.seed)
    counts = users_of_slots(given.users, drawn)
    sample = [drawn.randrange(SLOTS) for _ in range(min(given.users, 100_000))]
    payees = graphs(len(sample), drawn)
    table = Table(title=f"{given.users:,} users")
    for name in ("nodes", "fullest/mean", "moved by one more", *(f"across: {name}" for name in payees), "connections"):
        table.add_column(name, justify="right")
    for count in map(int, given.nodes.split(",")):
        homes = NodeMap([f"n{number}" for number in range(1, count + 1)])
        across = (f"{crossing(homes, payee, sample, drawn):.1%}" for payee in payees.values())
        connections = f"{given.processes * count * 22:,}"
        table.add_row(f"{count:,}", f"{balance(homes, counts):.2f}", f"{moved(homes):.2%}", *across, connections)
    Console().print(table)


if __name__ == "__main__":
    main()
