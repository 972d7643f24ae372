"""Money in and out under random schedules of retries, lost answers, crashes and webhooks in any order."""

import pytest

from wallet_gql.testing.payments_machine import run_payments_machine


@pytest.mark.slow
def test_payments_on_memory() -> None:
    """At rest Stripe's stand-in and the ledger agree to the cent, and each intent happened once."""
    run_payments_machine("memory", examples=150, steps=40)
