"""Errors that a client of top-ups and withdrawals may get, and what must hold at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..domain.errors import Rejected, WalletError
from ..domain.model import Transfer, TransferKind
from ..domain.payments import PROVIDER, Alarm
from ..domain.topups import TopUp, TopUpState
from ..domain.withdrawals import Withdrawal, WithdrawalState
from ..failpoints import FailpointError
from ..integrations.stripe.api import TOP_UP_ID, WITHDRAWAL_ID
from ..integrations.stripe.provider import NoAnswer
from ..integrations.stripe_stand_in.state import StripeState
from .world import Person


@contextmanager
def unanswered() -> Iterator[None]:
    """Swallow the errors of a request that may fail, get no answer, or die at a failpoint."""
    try:
        yield
    except (FailpointError, NoAnswer, Rejected):
        pass
    except WalletError as error:
        if not error.retryable:
            raise


def moved_minor(state: StripeState, ins: Sequence[TopUp], outs: Sequence[Withdrawal], person: Person) -> int:
    """By Stripe's objects: a person's money in, less money out and money taken back, in minor units."""
    intents = {one.intent_id for one in ins if one.owner == person.id}
    flows = {one.id for one in outs if one.owner == person.id}
    total: int = sum(one["amount_received"] for one in state.of_kind("payment_intent") if one["id"] in intents)
    for one in state.of_kind("refund"):
        total -= one["amount"] if one["payment_intent"] in intents and one["status"] == "succeeded" else 0
    for one in state.of_kind("dispute"):
        total -= one["amount"] if one["payment_intent"] in intents and one["status"] != "won" else 0
    for one in state.of_kind("transfer"):
        left = one["amount"] - one["amount_reversed"]
        total -= left if one["metadata"].get(WITHDRAWAL_ID) in flows else 0
    return total


def check_each_once(state: StripeState, ins: Sequence[TopUp], outs: Sequence[Withdrawal]) -> None:
    """Check that no top-up was paid twice and no withdrawal sent twice, and that the books show what was paid."""
    paid = [one for one in state.of_kind("payment_intent") if one["status"] == "succeeded"]
    assert max(Counter(one["metadata"][TOP_UP_ID] for one in paid).values(), default=0) <= 1
    assert {one["id"] for one in paid} == {one.intent_id for one in ins if one.state is TopUpState.SUCCEEDED}
    for kind in ("transfer", "payout"):
        counts = Counter(one["metadata"][WITHDRAWAL_ID] for one in state.of_kind(kind))
        assert max(counts.values(), default=0) <= 1, kind
    standing = {one["metadata"][WITHDRAWAL_ID] for one in state.of_kind("payout") if one["status"] == "paid"}
    assert standing == {one.id for one in outs if one.state is WithdrawalState.PAID}


def check_alarms(transfers: Iterable[Transfer], alarms: Sequence[Alarm]) -> None:
    """Check that each clawback of more than its top-up raised an alarm, whichever processes died.

    No alarm may say that money was sent for a failed withdrawal, because each call was known before it failed.
    """
    told = {one.about for one in alarms}
    assert not [one for one in alarms if one.reason.startswith("it was sent although")], alarms
    for one in transfers:
        if one.actor == PROVIDER and one.kind is TransferKind.WITHDRAWAL and "/taken/" in one.idempotency_key:
            assert one.idempotency_key.partition("/")[0] in told, one
