"""Idempotency keys: one effect, one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property._world import START
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot, State, post
from wallet_gql.domain.errors import IdempotencyKeyReused, InvalidInput, InvariantViolated, PayeeNotFound
from wallet_gql.domain.ids import OPERATOR, TransferId, actor_slot
from wallet_gql.domain.model import Receipt
from wallet_gql.idempotency import (
    Answer,
    Attempt,
    Effect,
    Fresh,
    Refused,
    Replayed,
    check_key,
    claim,
    fingerprint,
    once,
)

ATTEMPT = Attempt(actor_slot(OPERATOR), OPERATOR, "key", "deposit", fingerprint("deposit", {"amount": 1}))
SCOPE = Scope(ATTEMPT.slot, receipts=(ATTEMPT.name,))


def _effect(changes: Changes) -> Effect[str]:
    return Effect(changes, "done", {"n": 1}, TransferId("trf"))


class Guarded:
    """A state with one receipt slot, and an effect that counts its runs."""

    def __init__(self) -> None:
        self.state = State("n1", lambda _: None)
        self.runs = 0
        self.error: Exception | None = None

    def rule(self, _: Snapshot) -> Changes:
        """Do it, or refuse."""
        self.runs += 1
        if self.error is not None:
            raise self.error
        return Changes()

    def call(self, attempt: Attempt = ATTEMPT) -> Answer[str]:
        """One request."""
        decision: Decision[Answer[str]] = once(Snapshot(self.state, SCOPE), attempt, START, self.rule, _effect)
        post(self.state, SCOPE, decision.changes)
        return decision.result


@pytest.fixture
def guarded() -> Guarded:
    """Nothing called yet."""
    return Guarded()


def test_the_second_call_replays_the_first(guarded: Guarded) -> None:
    """The effect runs once; the answer and the link come back."""
    assert Fresh("done") == guarded.call()
    assert Replayed({"n": 1}, TransferId("trf"), START) == guarded.call()
    assert guarded.runs == 1


def test_refusals_are_remembered(guarded: Guarded) -> None:
    """A no stays a no, word for word, although the reason is gone."""
    guarded.error = PayeeNotFound("bert")
    first = guarded.call()
    guarded.error = None
    second = guarded.call()

    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.replayed, second.replayed) == (False, True)
    assert (first.error.code, first.error.message) == (second.error.code, second.error.message)


def test_malformed_input_and_faults_are_not_remembered(guarded: Guarded) -> None:
    """They raise, and the key stays free."""
    for error in (InvalidInput("x", "y"), RuntimeError("disk")):
        guarded.error = error
        with pytest.raises(type(error)):
            guarded.call()
    guarded.error = None

    assert Fresh("done") == guarded.call()


def test_another_input_under_the_key_is_refused(guarded: Guarded) -> None:
    """Also after a refusal, and without running the effect."""
    guarded.call()
    other = Attempt(ATTEMPT.slot, OPERATOR, "key", "deposit", fingerprint("deposit", {"amount": 2}))

    with pytest.raises(IdempotencyKeyReused):
        guarded.call(other)
    assert guarded.runs == 1


def test_a_pruned_answer_still_blocks_a_second_effect(guarded: Guarded) -> None:
    """The response may be forgotten, the link never."""
    guarded.state.load_receipt(
        Receipt(ATTEMPT.slot, OPERATOR, "key", "deposit", ATTEMPT.fingerprint, START, TransferId("trf"))
    )

    assert Replayed(None, TransferId("trf"), START) == guarded.call()
    assert guarded.runs == 0


def test_a_damaged_receipt_is_told(guarded: Guarded) -> None:
    """It is not taken for an answer."""
    guarded.state.load_receipt(
        Receipt(ATTEMPT.slot, OPERATOR, "key", "deposit", ATTEMPT.fingerprint, START, outcome="{}")
    )
    with pytest.raises(InvariantViolated):
        guarded.call()


def test_a_claim_is_permanent_and_proves_nothing(guarded: Guarded) -> None:
    """The same input finds its leader again, another one is refused, and the claim is never taken for an outcome."""
    state = guarded.state
    away = Attempt(7, OPERATOR, "key", "deposit", ATTEMPT.fingerprint)
    for _ in range(2):
        decision = claim(Snapshot(state, SCOPE), away, ATTEMPT.slot, START)
        post(state, SCOPE, decision.changes)
        assert decision.result == 7
    with pytest.raises(IdempotencyKeyReused):
        claim(Snapshot(state, SCOPE), Attempt(7, OPERATOR, "key", "deposit", "other"), ATTEMPT.slot, START)
    with pytest.raises(IdempotencyKeyReused):
        guarded.call()


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.text(max_size=5), st.integers(), st.booleans())))
def test_the_fingerprint_ignores_order_and_absent_values(values: dict[str, str | int | bool | None]) -> None:
    """Only what was given counts, in any order."""
    shuffled = dict(reversed(values.items()))
    given = {name: value for name, value in values.items() if value is not None}

    assert fingerprint("op", values) == fingerprint("op", shuffled) == fingerprint("op", given)
    assert fingerprint("op", values) != fingerprint("other", values)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t", "nül", "new\nline"])
def test_keys_are_short_and_printable(key: str) -> None:
    """1 to 255 printable ASCII characters."""
    assert check_key("k" * 255)
    with pytest.raises(InvalidInput):
        check_key(key)
