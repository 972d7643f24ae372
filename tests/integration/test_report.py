"""The report of the suite tells how often something was tried, and never takes what was not tried for what holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallet_gql.testing import conformance
from wallet_gql.testing.conformance import StoreConformance
from wallet_gql.testing.conformance.suite import record
from wallet_gql.testing.harness import Harness, SqliteHarness
from wallet_gql.testing.report import GROUPS, OTHER, Cell, group_of, zero_of
from wallet_gql.testing.world import World

AT_FAILPOINTS = {
    "test_g1_at_every_failpoint_all_or_none": False,
    "test_g1_at_every_failpoint_a_command_without_a_receipt_runs_once": False,
    "test_g6_no_drivers_exception_leaves": True,
    "test_trap_the_key_is_kept_inside_the_moneys_commit": True,
}
"""The tests that arm failpoints, and whether they try something without any, too."""


class Without(SqliteHarness):
    """SQLite, whose author has named no failpoints."""

    failpoints = ()


@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("test", AT_FAILPOINTS)
async def test_e8_a_store_without_failpoints_is_not_said_to_hold_there(test: str, tmp_path: Path) -> None:
    """The test passes, for nothing went wrong; the report says that nothing was tried."""
    said: dict[str, str] = {}
    async with World(Without("sqlite:///{tmp}/wallet.db"), tmp_path) as world:
        await getattr(StoreConformance(), test)(world)
    record(world, lambda name, value: said.update({name: str(value)}))
    cell = Cell()
    cell.add("passed", said)
    assert "not tried: a fault at each failpoint" in cell.text
    assert ("0 of" in cell.text) == AT_FAILPOINTS[test]


def test_every_test_at_failpoints_says_if_there_are_none() -> None:
    """No test of the suite looks at a harness's failpoints by itself: the one place that does tells the report."""
    folder = Path(conformance.__file__).parent
    found = [path.name for path in folder.glob("*.py") if "harness.failpoints" in path.read_text(encoding="utf-8")]
    assert found == ["suite.py"]


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (1, "0 of 1 independent, at most 95 % (95 %)"),
        (20, "0 of 20 independent, at most 14 % (95 %)"),
        (59, "0 of 59 independent, at most 5 % (95 %)"),
        (3_000, "0 of 3,000 independent, at most 0.1 % (95 %)"),
    ],
)
def test_the_bound_is_that_of_95_percent(trials: int, words: str) -> None:
    """About 3 / n."""
    assert zero_of(trials) == words


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([("passed", {"trials": "19"}), ("passed", {})], "0 of 20 independent, at most 14 % (95 %)"),
        ([("passed", {"trials": "0", "not_tried": "a; b"})], "not tried: a, b"),
        (
            [("passed", {"trials": "20"}), ("passed", {"trials": "0", "not_tried": "a"})],
            "0 of 20 independent, at most 14 % (95 %); not tried: a",
        ),
        ([("passed", {"trials": "20"}), ("failed", {})], "**1 of 2 tests fail**"),
        ([("skipped", {})], "not tested"),
        ([("passed", {"trials": "0"})], "not tried"),
        ([], "-"),
    ],
)
def test_e8_a_cell_says_what_was_tried(outcomes: list[tuple[str, dict[str, str]]], words: str) -> None:
    """What failed, what was tried how often, and what was not tried."""
    cell = Cell()
    for outcome, said in outcomes:
        cell.add(outcome, said)
    assert cell.text == words


def test_every_test_of_the_suite_belongs_to_a_group() -> None:
    """None is left over."""
    tests = [name for name in dir(StoreConformance) if name.startswith("test_")]
    assert [name for name in tests if group_of(name) == OTHER] == []
    assert {group_of(name) for name in tests} <= GROUPS.keys()


@pytest.mark.backend("sqlite")
@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("test_g3_what_was_answered_survives_the_end", "a kill, for the harness only opens the ledger again"),
        ("test_g3_every_answer_has_waited_for_a_flush", "a loss of power, for flushes cannot be counted"),
        ("test_outage_every_member_answers_in_time[killed]", "servers that are killed"),
        ("test_outage_every_member_answers_in_time[stopped]", "servers that are stopped"),
    ],
)
async def test_e8_a_harness_that_cannot_do_harm_says_so(test: str, words: str, tmp_path: Path) -> None:
    """The default harness: what it gives no means to try is told, and does not count as tried."""
    said: dict[str, str] = {}
    name, _, given = test.partition("[")
    async with World(Harness("sqlite:///{tmp}/wallet.db"), tmp_path) as world:
        await getattr(StoreConformance(), name)(world, *filter(None, [given.rstrip("]")]))
    record(world, lambda what, value: said.update({what: str(value)}))
    assert said["not_tried"].startswith(words)
    assert ("survives" in test) == (said["trials"] != "0")
