"""The suite convicts the product when the product is broken: a test that cannot fail proves nothing."""

import pytest

from tests.integration._suite_runs import run_suite

SUITE = "tests/integration/test_conformance_sqlite.py"
CONVICTED_BY = {
    "receipt_outside_the_commit": "test_trap_the_key_is_kept_inside_the_moneys_commit",
    "reply_before_commit": "test_g7_a_fetch_after_the_return_sees_the_write",
    "state_before_key": "test_trap_state_is_not_checked_before_the_key",
    "lost_held_amount": "test_race_capture_capture",
    "gap_in_sequences": "test_read_every_page_of_history",
}


@pytest.mark.trial
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("mutant", CONVICTED_BY)
def test_a_mutant_is_convicted(mutant: str) -> None:
    """The named test fails, or finds the books wrong at its end, because of the mutation."""
    name = CONVICTED_BY[mutant]
    done = run_suite(f"{SUITE}::TestSqlite::{name}", "-p", "tests.integration.mutants", WALLET_MUTANT=mutant)

    assert done.returncode == 1, done.stdout[-2000:]
    assert any(line.startswith(("FAILED", "ERROR")) and name in line for line in done.stdout.splitlines())


@pytest.mark.trial
@pytest.mark.backend("sqlite")
def test_the_same_tests_acquit_the_product() -> None:
    """With the plugin loaded and no mutation chosen, all of them pass."""
    chosen = [f"{SUITE}::TestSqlite::{name}" for name in CONVICTED_BY.values()]
    done = run_suite(*chosen, "-p", "tests.integration.mutants", WALLET_MUTANT="")

    assert done.returncode == 0, done.stdout[-2000:]
