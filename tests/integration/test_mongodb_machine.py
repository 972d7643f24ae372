"""The state machine on MongoDB: drawn commands, alone and in crowds, answered as the model answers them."""

import pytest

from tests.integration._mongo import need_server
from wallet_gql.testing.machine import run_machine

pytestmark = [pytest.mark.backend("mongodb"), pytest.mark.slow]


def test_machine_on_mongodb() -> None:
    """Every answer is the model's, through restarts and kills of the server."""
    need_server()
    run_machine("mongodb", examples=5, steps=20)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_machine_on_mongodb_for_long() -> None:
    """Hundreds of random examples."""
    need_server()
    run_machine("mongodb", examples=200, steps=60)
