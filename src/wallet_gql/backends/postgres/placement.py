"""Which node has each slot: what every node says of itself, and what follows from all of that.

Each node's row in the table `node` says which slots it has (`here`), which batch of slots is leaving it (`leaving`),
and which nodes the ledger has (`members`). Each change of it raises the node's own *epoch*. A process sends the epoch
that it knows with every commit and every read, and the node refuses another one in the same statement. So what a
process has concluded about a node holds whenever that node answers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Final

from ...domain.changes import Scope
from ...domain.errors import Unavailable
from ...domain.frozen import frozen
from ...domain.ids import SLOTS, is_system, slot_of
from ..kit.nodes import NodeMap

ALL: Final = (1 << SLOTS) - 1
"""All slots. Sets of slots are numbers: bit n stands for slot n."""

_BITS: Final = bytes.maketrans(b"01", b"\0\1")
"""What a digit says. Every process builds a placement at each step of a move, so it goes over slots with few steps."""

SERVING: Final = "serving"
DRAINING: Final = "draining"
GONE: Final = "gone"
_STATES: Final = (SERVING, DRAINING, GONE)
"""A node's states, in their order: it never goes back."""

OF_NODE: Final = """
SELECT cluster_id, name, nodes, epoch, to_jsonb(node) ->> 'here' AS here, to_jsonb(node) ->> 'leaving' AS leaving,
       to_jsonb(node) ->> 'members' AS members
FROM node
"""
"""What a node says of itself; also on a schema that has no such columns yet."""


class OtherEpoch(Unavailable):
    """The node's slots are not those that this process knows. Nothing was written; read the placement again."""

    stays_inside = True


class SlotMoving(OtherEpoch):
    """The slot has left its node and is not yet on its new one: for a moment nobody serves it."""


class Unsettled(Exception):
    """The nodes were asked at different moments, and their answers do not fit together."""


@frozen
class Member:
    """A node of the ledger. `address` is its URL, without a password; empty if only the settings know it."""

    address: str = ""
    state: str = SERVING


@frozen
class Leaving:
    """A batch of slots that nobody may write on this node: `peer` has them, or will have them, or never gets them.

    The commit on `peer` that takes them over is named `attempt`.
    """

    attempt: str
    peer: str
    slots: int


@frozen
class Told:
    """What one node says."""

    cluster_id: str
    name: str
    epoch: int
    here: int
    leaving: Leaving | None
    members: Mapping[str, Member]


def told_by(row: Mapping[str, Any]) -> Told:
    """What a row of `OF_NODE` says. The slots are those of the hash while no release has stored them."""
    members = {name: Member() for name in json.loads(row["nodes"])}
    if row["members"]:
        members = {name: Member(*values) for name, values in json.loads(row["members"]).items()}
    leaving = None
    if row["leaving"]:
        attempt, peer, slots = json.loads(row["leaving"])
        leaving = Leaving(attempt, peer, int(slots, 16))
    here = hashed(list(members)).get(row["name"], 0) if row["here"] is None else int(row["here"], 16)
    return Told(row["cluster_id"], row["name"], row["epoch"], here, leaving, members)


def members_text(members: Mapping[str, Member]) -> str:
    """The column `members`."""
    return json.dumps({name: [member.address, member.state] for name, member in sorted(members.items())})


def leaving_text(leaving: Leaving) -> str:
    """The column `leaving`."""
    return json.dumps([leaving.attempt, leaving.peer, f"{leaving.slots:x}"])


def all_members(told: Iterable[Told]) -> dict[str, Member]:
    """The members that any node knows, each with its last state: while the list changes, not all nodes know it."""
    found: dict[str, Member] = {}
    for one in told:
        for name, member in one.members.items():
            known = found.get(name, member)
            state = max(known.state, member.state, key=_STATES.index)
            found[name] = Member(known.address or member.address, state)
    return found


def not_yet(known: Mapping[str, Told | None]) -> list[str]:
    """The blank ones among the nodes that are listed, of which a ledger of several nodes does not know.

    They are about to be added. If no node tells of a ledger, or one of a single node, which gets no others, there are
    none.
    """
    members = all_members(one for one in known.values() if one is not None)
    return [name for name, one in known.items() if one is None and name not in members and len(members) > 1]


def slots_of(nodes: NodeMap, name: str) -> int:
    """The slots whose home a node is."""
    return int("".join(["1" if home == name else "0" for home in reversed(nodes.homes)]), 2)


def listed(slots: int) -> list[int]:
    """The members of a set of slots, in order."""
    return list(compress(range(SLOTS), f"{slots:b}"[::-1].encode().translate(_BITS)))


class Placement(NodeMap):
    """The home of each slot, and the epochs of the nodes at which that holds."""

    def __init__(self, told: Mapping[str, Told], silent: Collection[str] = ()) -> None:
        """`silent` nodes do not answer: what they have `told` is old, if there is anything.

        Raises:
            Unsettled: a slot is on two nodes or on none.
        """
        members = all_members(told.values())
        names = [name for name in told if members.get(name, Member()).state != GONE]
        homes: list[str] = [names[0]] * SLOTS
        owned = 0
        for name in sorted(names, key=lambda name: name in silent):
            here = told[name].here
            if name in silent:
                here &= ~owned
            elif owned & here:
                raise Unsettled(f"node {name} has slots that another node has, too")
            owned |= here
            _put(homes, here, name)
        self.moving = 0
        """Slots that nobody may read or write now: they have left their homes, or their node is not known."""
        self.left: dict[str, Leaving] = {}
        """What a node still stores of slots that another one has by now."""
        for name in names:
            leaving = told[name].leaving
            if leaving is not None and leaving.slots & owned:
                self.left[name] = leaving
            elif leaving is not None:
                self.moving |= leaving.slots
                _put(homes, leaving.slots, name)
        self.unowned = ALL & ~(owned | self.moving)
        """Slots of which nobody has said who has them: a node that may have them does not answer."""
        if self.unowned and not silent:
            raise Unsettled("there are slots that no node has")
        self.moving |= self.unowned
        super().__init__(names, homes)
        self.told = dict(told)
        self.members = members
        self.unmet = sorted(name for name, one in members.items() if one.state != GONE and name not in told)
        """Nodes that were added to the ledger, and that this process has never reached."""
        self.epochs: dict[str, int] = {name: told[name].epoch for name in names}

    def is_moving(self, slots: Iterable[int]) -> bool:
        """Whether one of the slots is served by nobody now."""
        return any(self.moving >> slot & 1 for slot in slots)

    def is_at(self, slot: int, node: str) -> bool:
        """Whether the node may write the slot now."""
        return self.home(slot) == node and not self.is_moving((slot,))

    def awaits(self, scope: Scope) -> bool:
        """Whether a command writes a slot that is served by nobody now."""
        if not self.moving:
            return False
        return self.is_moving([scope.home, *(slot_of(name) for name in scope.credits if not is_system(name))])

    def served(self, slot: int) -> str:
        """The node that reads of a slot go to. Raises SlotMoving."""
        if self.moving >> slot & 1:
            raise SlotMoving(f"slot {slot} is moving to another node")
        return self.home(slot)


def _put(homes: list[str], slots: int, name: str) -> None:
    for slot in listed(slots):
        homes[slot] = name


def hashed(names: Sequence[str]) -> dict[str, int]:
    """The slots that each of the named nodes gets by the hash."""
    nodes = NodeMap(names)
    return {name: slots_of(nodes, name) for name in names}
