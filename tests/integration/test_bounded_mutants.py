"""Each bound is needed: with it taken out, the tests that are named after its row fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from tests.integration import test_cost_budgets as budgets
from tests.integration import test_lookups as lookups
from tests.integration import test_merchant_webhooks as webhooks
from wallet_gql import people
from wallet_gql.domain.merchants import Delivery
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import World
from wallet_gql.transports.graphql import cost, reading
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.http.rate_limits import Limits
from wallet_gql.transports.rest import routing

Patch = pytest.MonkeyPatch
Test = Callable[[], Awaitable[None]]


async def _nothing(*_: Any) -> None:
    return None


def lists_of_ten(patch: Patch) -> None:
    """Lists of what a user has count ten, however long they are."""
    patch.setattr(Context, "count_list", _nothing)


def batches_of_ten(patch: Patch) -> None:
    """So do the results of a batch."""
    patch.setattr(cost.Meter, "_items_of", lambda *_: None)


def filters_for_nothing(patch: Patch) -> None:
    """A filter costs what it answers with, not what it reads."""
    patch.setattr(cost.Meter, "_is_filtered", lambda *_: False)


def only_networks(patch: Patch) -> None:
    """Users have no budget."""
    real = Limits.spend
    patch.setattr(Limits, "spend", lambda self, _user, visitor, spent: real(self, None, visitor, spent))


def only_users(patch: Patch) -> None:
    """Networks have no budget."""
    real = Limits.spend
    patch.setattr(Limits, "spend", lambda self, user, _visitor, spent: real(self, user, None, spent))


def reading_for_nothing(patch: Patch) -> None:
    """Documents are paid for when they run, so nonsense never is."""
    patch.setattr(reading, "len", lambda _: 0, raising=False)


def values_for_nothing(patch: Patch) -> None:
    """So are values."""
    patch.setattr(cost.Price, "take", lambda self: self.requested or 0)


def events_for_nothing(patch: Patch) -> None:
    """Only the first event of a subscription is paid for."""
    patch.setattr(Context, "pay_again", _nothing)


def rest_for_nothing(patch: Patch) -> None:
    """REST costs nothing."""
    patch.setattr(routing, "cost_of", lambda *_: 0)


def payments_look_up_freely(patch: Patch) -> None:
    """Only queries count as look-ups."""
    patch.setattr(people, "LOOKING_UP", ContextVar[Any]("ELSEWHERE", default=None))


def every_name_is_new(patch: Patch) -> None:
    """A known name counts again."""

    async def count(self: Limits, user: Any, _visitor: Any, _name: str) -> None:
        await self._hit("lookup", user)

    patch.setattr(Limits, "count_lookup", count)


def nobody_counts(patch: Patch) -> None:
    """Look-ups are not counted."""
    patch.setattr(Caller, "look_up", _nothing)


def replays_at_any_rate(patch: Patch) -> None:
    """Nothing is counted."""
    patch.setattr(Delivery, "pause_seconds", lambda *_: 0.0)


def only_successes_count(patch: Patch) -> None:
    """A target that refuses is asked as often as somebody likes."""
    real = Delivery.repeated
    patch.setattr(Delivery, "repeated", lambda self, now: self if self.attempts or self.lease else real(self, now))


async def in_town(test: Callable[[webhooks.Town], Awaitable[None]]) -> None:
    """A test of webhooks, with its shop."""
    with TemporaryDirectory() as folder:
        async with World(harness_for("memory"), Path(folder)) as world:
            await test(await webhooks.town_in(world))


def replayed(answer: int) -> Test:
    """The test of replays, for a target that answers so."""
    return lambda: in_town(lambda town: webhooks.test_b3_replays_are_told_at_a_bounded_rate(town, answer))


ALL_ACCOUNTS: Final = "{ viewer { accounts { id currency posted { decimal } } } }"
MISTAKES: Final[list[tuple[Callable[[Patch], None], Test]]] = [
    (lists_of_ten, lambda: budgets.test_b2_lists_cost_as_much_as_they_have(ALL_ACCOUNTS)),
    (lists_of_ten, budgets.test_b2_a_log_in_costs_what_its_user_has),
    (lists_of_ten, budgets.test_b2_what_a_user_has_can_be_too_dear),
    (batches_of_ten, lambda: budgets.test_b2_a_batch_costs_what_its_items_do("variables")),
    (batches_of_ten, lambda: budgets.test_b2_a_batch_costs_what_its_items_do("document")),
    (filters_for_nothing, budgets.test_b2_filters_and_statements_cost_their_work),
    (only_networks, budgets.test_b2_a_user_has_a_budget),
    (only_users, budgets.test_b2_a_network_has_a_budget),
    (reading_for_nothing, budgets.test_b2_nonsense_is_paid_for_before_it_is_read),
    (values_for_nothing, budgets.test_b2_values_are_paid_for),
    (events_for_nothing, budgets.test_b2_events_of_a_subscription_are_paid_for),
    (rest_for_nothing, budgets.test_b2_pages_of_rest_come_from_the_same_budget),
    (payments_look_up_freely, lookups.test_b4_payments_do_not_tell_more_names_than_look_ups),
    (payments_look_up_freely, lambda: lookups.test_b4_a_batch_tells_no_more_names("INDEPENDENT")),
    (nobody_counts, lambda: lookups.test_b4_a_batch_tells_no_more_names("ATOMIC")),
    (replays_at_any_rate, replayed(200)),
    (replays_at_any_rate, replayed(500)),
    (only_successes_count, replayed(500)),
    (replays_at_any_rate, lambda: in_town(webhooks.test_b3_the_bound_outlives_processes)),
    (every_name_is_new, lookups.test_b4_a_known_name_is_no_look_up),
]


@pytest.mark.trial
@pytest.mark.parametrize(
    ("mistake", "test"), MISTAKES, ids=[f"{n}-{mistake.__name__}" for n, (mistake, _) in enumerate(MISTAKES)]
)
async def test_a_mistake_is_convicted(mistake: Callable[[Patch], None], test: Test) -> None:
    """With the mistake the test fails; without it, it runs in the suite."""
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        with pytest.raises((AssertionError, LookupError, pytest.fail.Exception)):
            await test()
