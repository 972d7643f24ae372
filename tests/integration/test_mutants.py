"""The suite detects a broken product: a test that cannot fail proves nothing."""

import re
from pathlib import Path

import pytest

from tests.integration.mutants import MUTANTS
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.conformance import StoreConformance
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.trial, pytest.mark.backend("sqlite")]

KILLED = "test_outage_every_member_answers_in_time[killed]"
CONVICTED_BY = {
    "receipt_outside_the_commit": "test_trap_the_key_is_kept_inside_the_moneys_commit",
    "reply_before_commit": "test_g7_a_fetch_after_the_return_sees_the_write",
    "state_before_key": "test_trap_state_is_not_checked_before_the_key",
    "spending_counted_before_the_commit": "test_race_at_a_spending_limit",
    "lost_held_amount": "test_race_capture_capture",
    "gap_in_sequences": "test_read_every_page_of_history",
    "reads_from_a_cache": "test_g7_readers_see_what_others_have_just_written",
    "fetch_without_a_snapshot": "test_capability_snapshot_reads",
    "holds_read_without_the_lock": "test_g2_holds_of_one_owner_are_read_and_written_as_one",
    "commit_told_as_nothing_written": "test_g1_at_every_failpoint_a_command_without_a_receipt_runs_once",
    "unsynced": "test_g3_every_answer_has_waited_for_a_flush",
    "synced_at_checkpoints": "test_g3_every_answer_has_waited_for_a_flush",
    "drivers_errors_leave": KILLED,
    "ping_raises_the_drivers_error": KILLED,
    "reads_wait_for_ever": KILLED,
    "blind_to_case": "test_data_keys_that_differ_in_one_byte_are_two",
    "three_byte_text": "test_data_texts_of_the_greatest_length",
    "short_text": "test_data_texts_of_the_greatest_length",
    "whole_seconds": "test_data_times_to_the_microsecond",
    "numbers_as_floats": "test_data_sums_up_to_64_bits",
    "one_snapshot_for_all": "test_g7_reads_that_share_a_round_trip",
    "another_ones_page": "test_g7_reads_that_share_a_round_trip",
    "a_group_that_has_left": "test_g7_reads_that_share_a_round_trip",
}


async def run(test: str, folder: Path) -> None:
    """One test of the suite on SQLite, and the check of the books at its end; a parameter is in brackets."""
    name, _, given = test.partition("[")
    async with World(harness_for("sqlite"), folder) as world:
        await getattr(StoreConformance(), name)(world, *filter(None, [given.rstrip("]")]))


def named(mutant: str) -> str:
    """The mutant with the row of docs/faults.md that it belongs to, if any: `e2_reads_from_a_cache`."""
    row = re.search(r"\((E\d)\)", MUTANTS[mutant].__doc__ or "")
    return f"{row[1].lower()}_{mutant}" if row else mutant


@pytest.mark.parametrize("mutant", CONVICTED_BY, ids=named)
async def test_a_mutant_is_convicted(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named test fails, or finds the books wrong at its end, because of the mutation."""
    MUTANTS[mutant](monkeypatch)
    if mutant == "reads_wait_for_ever":
        monkeypatch.setattr(StoreConformance, "bound_seconds", 0.5)

    with pytest.raises((AssertionError, ExceptionGroup, WalletError)):
        await run(CONVICTED_BY[mutant], tmp_path)


@pytest.mark.parametrize("test", sorted(set(CONVICTED_BY.values())))
async def test_the_same_test_acquits_the_product(test: str, tmp_path: Path) -> None:
    """Without a mutation it passes."""
    await run(test, tmp_path)
