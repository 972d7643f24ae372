"""Which operation came before which, and the cycles that Adya's levels forbid.

An account's entries are a list that transfers append to, and the sequence of an entry is its version. So the order of
versions is known and need not be guessed: every dependency follows from the books and from the versions that reads saw.

- ww: two transfers have neighbouring entries on an account, in this order;
- wr: a read saw the entry of the transfer;
- rw: a read saw the version before the transfer's entry, so it came first;
- rt (real time): one was answered before the other was sent.

A cycle means that no order explains the history. Its edges decide which level it breaks, see `testing.levels`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ..testing.history import NEVER
from ..testing.levels import Level
from .history import History, Seen

Edge = tuple[int, int]
Edges = Mapping[str, Sequence[Edge]]
"""By kind: ww, wr, rw, rt."""


@dataclass(slots=True)
class Operation:
    """One transfer or read, with the versions that it made or saw; `answered_at` may be `NEVER`."""

    label: str
    sent_at: int
    answered_at: int
    made: dict[str, int] = field(default_factory=dict)
    saw: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A kind of cycle: the strongest level that permits it, how many operations are in such cycles, and one of them."""

    name: str
    permitted_by: Level
    operations: int
    witness: str

    def __str__(self) -> str:
        return f"{self.name}, {self.operations} operations, such as {self.witness}"


def pending_at(history: History, account: str, seen: Seen) -> int | None:
    """Up to which of the account's next entries a read has counted credits of other nodes, still pending: the fewest.

    An entry that was being decided when such a credit came may stand before it. None if they explain no such balance,
    or if the backend keeps no credits pending.
    """
    entries, transfers, sums = history.books.entries[account], history.books.transfers, {0}
    early_minor = seen.posted_minor - entries[seen.sequence - 1].balance_minor
    if not history.keeps_pending:
        return None if early_minor else 0
    for count, entry in enumerate(entries[seen.sequence :]):
        if early_minor in sums:
            return count
        payer = transfers[entry.transfer_id].debit_account_id
        if entry.amount_minor > 0 and history.homes.get(payer) != history.homes[account]:
            sums |= {minor + entry.amount_minor for minor in sums if minor + entry.amount_minor <= early_minor}
    return len(entries) - seen.sequence if early_minor in sums else None


def operations_of(history: History, accounts: Collection[str]) -> list[Operation]:
    """What the clients did to these accounts, without the set-up. What nobody answered ends never."""
    asked_by = history.operations()
    versions: dict[str, dict[str, int]] = defaultdict(dict)
    for name in accounts:
        for entry in history.books.entries[name][history.opening[name] :]:
            versions[entry.transfer_id][name] = entry.sequence
    found = []
    for transfer_id, made in versions.items():
        transfer = history.books.transfers[transfer_id]
        asked = asked_by[transfer.actor, transfer.idempotency_key]
        # The payee's entry may come after the answer, if the answer says so.
        end = asked.credited_at if transfer.credit_account_id in made else asked.answered_at
        label = f"{asked.asked['verb']} {transfer.idempotency_key}"
        found.append(Operation(label, asked.invoked_at, end, made=made))
    for number, call in enumerate(history.calls):
        saw = {
            name: seen.sequence + (pending_at(history, name, seen) or 0)
            for name, seen in call.seen.items()
            if name in accounts
        }
        if call.outcome == "ok" and saw:
            found.append(Operation(f"{call.verb} #{number}", call.sent_at, call.ended_at, saw=saw))
    return found


def dependencies(operations: Sequence[Operation]) -> dict[str, list[Edge]]:
    """The edges between operations, by their places. Real time needs further nodes, see `real_time`."""
    maker: dict[tuple[str, int], int] = {}
    for place, operation in enumerate(operations):
        maker.update(((name, version), place) for name, version in operation.made.items())
    edges: dict[str, list[Edge]] = {"ww": [], "wr": [], "rw": []}
    for (name, version), place in maker.items():
        if (name, version + 1) in maker:
            edges["ww"].append((place, maker[name, version + 1]))
    for place, operation in enumerate(operations):
        for name, version in operation.saw.items():
            if (name, version) in maker:
                edges["wr"].append((maker[name, version], place))
            if (name, version + 1) in maker:
                edges["rw"].append((place, maker[name, version + 1]))
    return edges


def real_time(operations: Sequence[Operation]) -> list[Edge]:
    """Edges over a chain of moments: operation -> the moment of its answer -> later moments -> what was sent then.

    The moments are further nodes, numbered from `len(operations)`: so there are few edges instead of one for each pair.
    """
    moments = [(operation.sent_at, 1, place) for place, operation in enumerate(operations)]
    moments += [(o.answered_at, 0, place) for place, o in enumerate(operations) if o.answered_at != NEVER]
    moments.sort(key=lambda moment: (moment[0], -moment[1]))  # at the same time: sent before answered, so no edge
    first = len(operations)
    edges = [(node - 1, node) for node in range(first + 1, first + len(moments))]
    for node, (_, is_sent, place) in enumerate(moments, first):
        edges.append((node, place) if is_sent else (place, node))
    return edges


_KINDS: Final = (
    ("G0", Level.PL_0, ("ww",)),
    ("G1c", Level.PL_1, ("ww", "wr")),
    ("G-single", Level.PL_2, ("ww", "wr", "rw")),
    ("G2", Level.PL_2_PLUS, ("ww", "wr", "rw")),
    ("real time", Level.PL_3, ("ww", "wr", "rw", "rt")),
)


def gravest(operations: Sequence[Operation]) -> Anomaly | None:
    """The gravest kind of cycle that the history has; None if one order of all operations explains it."""
    edges: dict[str, list[Edge]] = {**dependencies(operations), "rt": real_time(operations)}
    for name, level, kinds in _KINDS:
        chosen = {kind: edges[kind] for kind in kinds}
        groups = _groups(chosen)
        if name == "G-single":
            groups = _with_one_rw(edges, groups)
        if groups:
            inside = sum(node < len(operations) for group in groups for node in group)
            return Anomaly(name, level, inside, _witness(operations, chosen, min(groups, key=len)))
    return None


def torn_holds(history: History, accounts: Collection[str]) -> Anomaly | None:
    """Reads that saw a hold's amount on its account but not the hold, or the reverse: the smallest fractured read."""
    torn = [
        (f"read #{number}", seen)
        for number, call in enumerate(history.calls)
        for name, seen in call.seen.items()
        if name in accounts and call.verb == "read" and seen.held_minor != seen.open_minor
    ]
    if not torn:
        return None
    label, seen = torn[0]
    return Anomaly(
        "G-single",
        Level.PL_2,
        len({label for label, _ in torn}),
        f"{label} told {seen.held_minor} held and open holds of {seen.open_minor}",
    )


def _matrix(edges: Iterable[Edge]) -> csr_array:
    pairs = np.array(list(edges), dtype=np.int64).reshape(-1, 2)
    size = int(pairs.max()) + 1 if len(pairs) else 1
    return csr_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))


def _groups(edges: Edges) -> list[list[int]]:
    """The strongly connected components with more than one node: each holds a cycle."""
    _, labels = connected_components(_matrix(edge for some in edges.values() for edge in some), connection="strong")
    members: dict[int, list[int]] = defaultdict(list)
    for node, label in enumerate(labels):
        members[int(label)].append(node)
    return [group for group in members.values() if len(group) > 1]


def _with_one_rw(edges: Edges, groups: Iterable[list[int]]) -> list[list[int]]:
    """Groups that have a cycle with a single rw edge: a way back without another one."""
    back = _matrix([*edges["ww"], *edges["wr"]])
    label = {node: number for number, group in enumerate(groups) for node in group}
    kept: dict[int, list[int]] = {}
    reached: dict[int, set[int]] = {}
    for before, after in edges["rw"]:
        number = label.get(before)
        if number is None or number != label.get(after) or number in kept or after >= back.shape[0]:
            continue
        if after not in reached:
            reached[after] = set(breadth_first_order(back, after, return_predecessors=False).tolist())
        if before in reached[after]:
            kept[number] = [node for node, its in label.items() if its == number]
    return list(kept.values())


def _witness(operations: Sequence[Operation], edges: Edges, group: Collection[int]) -> str:
    """One of the shortest cycles through the group's first node that has one, as text."""
    inside = set(group)
    onward: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for kind, some in edges.items():
        for before, after in some:
            if before in inside and after in inside:
                onward[before].append((after, kind))
    start = min(inside)
    came: dict[int, tuple[int, str]] = {}
    waiting = deque([start])
    while start not in came:
        node = waiting.popleft()
        for after, kind in onward[node]:
            if after not in came:
                came[after] = (node, kind)
                waiting.append(after)
    steps: list[str] = []
    node = start
    while not steps or node != start:
        node, kind = came[node]
        if node < len(operations):  # moments of real time are left out
            steps.append(f"{operations[node].label} -{kind}->")
    return " ".join([*reversed(steps), operations[start].label])
