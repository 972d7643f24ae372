"""Which accounts count as hot, with a clock that the test controls."""

import pytest

from wallet_gql.backends.postgres import hot_accounts as _pg_hot
from wallet_gql.backends.postgres.hot_accounts import HOT_MAX, SECONDS, SIGHTINGS, HotAccounts
from wallet_gql.domain.ids import AccountId

A, B, C = (AccountId(f"acc_{letter * 32}") for letter in "abc")


class Clock:
    """Seconds, as set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


def test_hot_after_several_sightings_and_for_a_while(clock: Clock) -> None:
    """Not before, and not for longer than somebody looks again."""
    hot = HotAccounts(clock)
    assert hot.hottest([A]) is None
    for _ in range(SIGHTINGS - 1):
        hot.saw([A])
        assert hot.hottest([A, B]) is None
    clock.now += SECONDS * 0.9
    hot.saw([A])
    clock.now += SECONDS * 0.9
    assert hot.hottest([B, A]) == A
    assert hot.hottest([B]) is None
    clock.now += SECONDS * 0.2
    assert hot.hottest([A]) is None


def test_rare_sightings_never_add_up(clock: Clock) -> None:
    """Each begins anew when the last one's time is over."""
    hot = HotAccounts(clock)
    for _ in range(10 * SIGHTINGS):
        hot.saw([A])
        clock.now += SECONDS
        assert hot.hottest([A]) is None


def test_opposite_payments_wait_behind_the_same(clock: Clock) -> None:
    """The order in which a command names them does not matter."""
    hot = HotAccounts(clock)
    for _ in range(SIGHTINGS):
        hot.saw([B, C])
    assert hot.hottest([B, C]) == hot.hottest([C, B]) == hot.hottest([A, C, B]) == B


def test_in_a_crowd_none_is_hot(clock: Clock) -> None:
    """Many at once are no hot spots; when most have cooled down, the rest are."""
    hot = HotAccounts(clock)
    crowd = [AccountId(f"acc_{number:032x}") for number in range(HOT_MAX)]
    for _ in range(SIGHTINGS):
        hot.saw(crowd)
    assert hot.hottest(crowd) == crowd[0]
    for _ in range(SIGHTINGS):
        hot.saw([A])
    assert hot.hottest([A, *crowd]) is None
    clock.now += SECONDS
    for _ in range(SIGHTINGS):
        hot.saw([A])
    assert hot.hottest([A, *crowd]) == A


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many accounts known, all sightings are forgotten, and counted anew."""
    monkeypatch.setattr(_pg_hot, "_KNOWN_MAX", 10)
    hot = HotAccounts(clock)
    for _ in range(SIGHTINGS - 1):
        hot.saw([A])
    hot.saw([AccountId(f"acc_{number:032x}") for number in range(11)])
    hot.saw([A])
    assert hot.hottest([A]) is None
    assert len(hot._seen) == 1
