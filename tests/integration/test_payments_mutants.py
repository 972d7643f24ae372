"""The tests of top-ups and withdrawals fail on a broken product, and pass on the correct one."""

import pytest

from tests.integration._suite_runs import run_suite

SUITE = "tests/property/test_payments.py"
RACES = "tests/property/test_payments_races.py"
PLUGIN = ("-p", "tests.integration.payments_mutants")
CONVICTED_BY = {
    "done_before_its_effect": "test_a_crash_before_the_credit_loses_nothing",
    "dedupe_by_event_id": "test_one_payment_told_by_many_events_is_credited_once",
    "void_on_time_out": "test_a_time_out_voids_nothing",
    "credit_on_the_clients_word": "test_nobody_is_credited_on_a_clients_word",
    "call_inside_the_commit": "test_no_call_is_made_inside_a_commit",
}
CONVICTED_BY_RACES = {
    "call_without_a_lease": "test_a_refusal_is_void_while_another_call_is_out",
    "lease_whatever_was_written_since": "test_a_step_that_was_overtaken_after_its_question_makes_no_call",
    "forget_what_was_sent_late": "test_what_was_sent_for_a_failed_withdrawal_is_taken_back",
    "believe_a_refused_question": "test_a_refused_question_proves_nothing",
    "alarm_after_the_commit": "test_an_alarm_commits_with_what_it_is_about",
    "take_in_whatever_was_read": "test_an_older_look_at_a_refund_takes_nothing",
}
TESTS = {mutant: f"{SUITE}::{name}" for mutant, name in CONVICTED_BY.items()} | {
    mutant: f"{RACES}::{name}" for mutant, name in CONVICTED_BY_RACES.items()
}
BY_SCHEDULES = ("done_before_its_effect", "dedupe_by_event_id", "void_on_time_out", "credit_on_the_clients_word")


@pytest.mark.trial
@pytest.mark.parametrize("mutant", TESTS)
def test_a_mutant_is_convicted(mutant: str) -> None:
    """The named test fails because of the mutation, and it says so with an assertion."""
    name = TESTS[mutant].rpartition("::")[2]
    done = run_suite(TESTS[mutant], *PLUGIN, WALLET_MUTANT=mutant)

    assert done.returncode == 1, done.stdout[-2000:]
    assert any(line.startswith(("FAILED", "ERROR")) and name in line for line in done.stdout.splitlines())
    assert "AssertionError" in done.stdout or "assert " in done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("mutant", BY_SCHEDULES)
def test_random_schedules_convict_a_mutant(mutant: str) -> None:
    """The state machine finds the faults without hints."""
    done = run_suite(f"{SUITE}::test_schedules_on_memory", *PLUGIN, WALLET_MUTANT=mutant)

    assert done.returncode == 1, done.stdout[-2000:]


@pytest.mark.trial
def test_the_same_tests_acquit_the_product() -> None:
    """With the plugin loaded and no mutation chosen, all of them pass."""
    done = run_suite(*TESTS.values(), *PLUGIN, WALLET_MUTANT="")

    assert done.returncode == 0, done.stdout[-2000:]
