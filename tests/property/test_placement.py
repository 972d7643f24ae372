"""What follows from what the nodes say of their slots: one home each, or nobody serves the slot."""

from __future__ import annotations

import pytest

from wallet_gql.backends.postgres.placement import (
    ALL,
    GONE,
    Leaving,
    Member,
    OtherEpoch,
    Placement,
    SlotMoving,
    Told,
    Unsettled,
    hashed,
    leaving_text,
    listed,
    members_text,
    told_by,
)
from wallet_gql.backends.postgres.reading import check_whole

NAMES = ("n1", "n2", "n3")
MEMBERS = {name: Member() for name in NAMES}


def told(name: str, here: int, leaving: Leaving | None = None, epoch: int = 1) -> Told:
    """What a node says."""
    return Told("0" * 16, name, epoch, here, leaving, MEMBERS)


def three(**others: Told) -> dict[str, Told]:
    """A ledger of three nodes, as placed by the hash, but for some."""
    return {name: told(name, here) for name, here in hashed(NAMES).items()} | others


def test_each_slot_has_one_home() -> None:
    """As the nodes say; answers of different moments do not fit together."""
    placed = hashed(NAMES)
    homes = Placement(three())
    assert all(homes.home(slot) == "n1" and homes.served(slot) == "n1" for slot in listed(placed["n1"]))
    with pytest.raises(Unsettled):
        Placement(three(n1=told("n1", placed["n1"] | placed["n2"])))
    with pytest.raises(Unsettled):
        Placement(three(n1=told("n1", 0)))


def test_slots_on_their_way_are_served_by_nobody() -> None:
    """Until the target has them; then they are there, and the source only has what it must forget."""
    placed = hashed(NAMES)
    slot = listed(placed["n1"])[0]
    leaving = Leaving("a" * 32, "n2", 1 << slot)
    source = told("n1", placed["n1"] & ~(1 << slot), leaving)
    frozen = Placement(three(n1=source))
    assert frozen.is_moving([slot])
    assert not frozen.is_moving(listed(placed["n2"]))
    with pytest.raises(SlotMoving):
        frozen.served(slot)
    active = Placement(three(n1=source, n2=told("n2", placed["n2"] | 1 << slot)))
    assert (active.home(slot), active.moving, active.left) == ("n2", 0, {"n1": leaving})


def test_a_silent_node_does_not_hide_the_others() -> None:
    """What it said before may be old: others win; what nobody has is served by nobody."""
    placed = hashed(NAMES)
    slot = listed(placed["n1"])[0]
    newer = three(n2=told("n2", placed["n2"] | 1 << slot))
    assert Placement(newer, {"n1"}).home(slot) == "n2"
    given_away = three(n2=told("n2", placed["n2"] & ~(1 << listed(placed["n2"])[0])))
    homes = Placement(given_away, {"n1"})
    assert homes.moving == 1 << listed(placed["n2"])[0]
    known = {name: one for name, one in three().items() if name != "n3"}
    assert Placement(known, {"n3"}).moving == placed["n3"]


def test_a_drained_node_is_no_member() -> None:
    """Whoever says so is believed."""
    members = {**MEMBERS, "n3": Member("", GONE)}
    placed = hashed(("n1", "n2"))
    first = Told("0" * 16, "n1", 1, placed["n1"], None, members)
    homes = Placement({"n1": first, "n2": told("n2", placed["n2"]), "n3": told("n3", 0)})
    assert homes.names == ("n1", "n2")


def test_a_read_of_all_nodes_needs_all_of_them() -> None:
    """Slots that are frozen are still read where they were; those of a node that is not known are not left out."""
    placed = hashed(NAMES)
    slot = 1 << listed(placed["n1"])[0]
    check_whole(Placement(three(n1=told("n1", placed["n1"] & ~slot, Leaving("a" * 32, "n2", slot)))))
    for silent, known in (
        ("n3", {name: one for name, one in three().items() if name != "n3"}),  # never reached
        ("n3", three(n1=told("n1", placed["n1"] & ~slot))),  # has the slot by now, and last said that it had not
    ):
        with pytest.raises(OtherEpoch):
            check_whole(Placement(known, {silent}))


def test_what_a_node_says_is_stored_as_text() -> None:
    """The row gives back what was put in; as long as no release has stored the slots they are those of the hash."""
    leaving = Leaving("b" * 32, "n2", 1 << 4095 | 1)
    members = {"n1": Member(), "n4": Member("postgres://w@h/d", "draining")}
    row = {"cluster_id": "c", "name": "n1", "nodes": '["n1"]', "epoch": 7}
    full = {**row, "here": f"{ALL:x}", "leaving": leaving_text(leaving), "members": members_text(members)}
    assert told_by(full) == Told("c", "n1", 7, ALL, leaving, members)
    older = {**row, "nodes": '["n1", "n2"]', "here": None, "leaving": None, "members": None}
    assert told_by(older).here == hashed(["n1", "n2"])["n1"] != ALL
