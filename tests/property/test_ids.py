"""Ids: typed, time-ordered, routable."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.domain import ids
from wallet_gql.domain.errors import InvalidInput

slots = st.integers(0, ids.SLOTS - 1)
times = st.integers(0, 2**48 - 1)
entropy = st.integers(0, 2**62 - 1)

MAKERS = {
    "acc": (ids.make_account_id, ids.parse_account_id),
    "trf": (ids.make_transfer_id, ids.parse_transfer_id),
    "hld": (ids.make_hold_id, ids.parse_hold_id),
}


@given(st.sampled_from(sorted(MAKERS)), slots, times, entropy)
def test_an_id_is_a_uuid7_that_carries_its_slot(prefix: str, slot: int, at_ms: int, bits: int) -> None:
    """The digits are a valid UUIDv7 with the slot in rand_a, and parse as themselves."""
    make, parse = MAKERS[prefix]
    text = make(slot, at_ms, bits)
    digits = uuid.UUID(text.removeprefix(f"{prefix}_"))

    assert (digits.version, digits.variant) == (7, uuid.RFC_4122)
    assert at_ms == digits.int >> 80
    assert slot == ids.slot_of(text)
    assert text == parse(text)


@given(times, entropy)
def test_a_user_id_carries_the_hash_of_the_rest_of_it(at_ms: int, bits: int) -> None:
    """A user's slot is a fixed hash, so nobody can choose it freely."""
    user_id = ids.make_user_id(at_ms, bits)
    other_slot = f"{(ids.slot_of(user_id) + 1) % ids.SLOTS:03x}"
    forged = user_id[:17] + other_slot + user_id[20:]

    assert user_id == ids.parse_user_id(user_id)
    assert ids.slot_of(user_id) == ids.actor_slot(user_id)
    assert not ids.is_id("usr", forged)


@given(slots, times, times, entropy, entropy)
def test_ids_sort_by_time(slot: int, first: int, second: int, a: int, b: int) -> None:
    """The text order of ids of one slot follows the milliseconds."""
    if first < second:
        assert ids.make_transfer_id(slot, first, a) < ids.make_transfer_id(slot, second, b)


@pytest.mark.parametrize(
    "text", ["", "acc_", "acc_" + "0" * 32, "trf_019300000000700080000000000000000", "sys:cash:EUR"]
)
def test_malformed_ids_are_refused_with_the_name_of_the_thing(text: str) -> None:
    """Nothing that was not made by `make_…` passes."""
    for parse in (ids.parse_account_id, ids.parse_transfer_id, ids.parse_hold_id, ids.parse_user_id):
        with pytest.raises(InvalidInput, match=r"^[a-z]+Id: .* id such as"):
            parse(text)
    with pytest.raises(InvalidInput, match=r"^fromAccountId: "):
        ids.parse_account_id(text, "fromAccountId")


def test_users_spread_over_the_slots() -> None:
    """Ten thousand users hit most slots, and none very often."""
    hits = [ids.slot_of(ids.make_user_id(1_700_000_000_000 + i, i * 7919)) for i in range(10_000)]

    assert len(set(hits)) > 0.8 * ids.SLOTS
    assert max(hits.count(slot) for slot in set(hits)) < 20


def test_names_without_a_slot_hash_to_one() -> None:
    """Operators and jobs have a home too, always the same."""
    assert ids.actor_slot(ids.OPERATOR) == ids.slot_of_text(ids.OPERATOR) == ids.actor_slot("op:operator")


def test_system_accounts_name_their_currency() -> None:
    """A system account's id tells what it is."""
    clearing = ids.clearing_account("n2", "EUR")

    assert ids.is_system(clearing)
    assert ids.is_clearing(clearing)
    assert not ids.is_clearing(ids.system_account("cash", "EUR"))
    assert ids.system_currency(clearing) == "EUR"
