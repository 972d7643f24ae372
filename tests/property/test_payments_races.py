"""Money in and out when steps of one flow overlap, Stripe refuses calls that it did or will do, or processes die."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.property._payments import Bench, open_bench
from wallet_gql import failpoints
from wallet_gql.domain.errors import Contended, Unavailable
from wallet_gql.domain.model import AccountStatus
from wallet_gql.domain.topups import TopUpState
from wallet_gql.domain.withdrawals import Withdrawal, WithdrawalState
from wallet_gql.failpoints import FailpointError
from wallet_gql.records import Swept, change

LEASE_SECONDS = 15


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty platform and two people with 1,000 each."""
    async with open_bench(tmp_path) as made:
        yield made


async def the_withdrawal(bench: Bench) -> Withdrawal:
    """The only one there is."""
    (only,) = (await bench.payments.withdrawals.list(bench.ann.id)).items
    return only


def sent_minor(bench: Bench) -> int:
    """What has left the platform's balance and has not come back."""
    transfers = [one for one in bench.fake.state.objects.values() if one["object"] == "transfer"]
    return sum(one["amount"] - one["amount_reversed"] for one in transfers)


async def test_a_repeated_request_makes_no_second_call(bench: Bench) -> None:
    """While one process waits for Stripe, neither the same request nor a sweep of another calls for the same money."""
    bench.fake.faults.append("refuse")

    async def others() -> None:
        calls = len(bench.fake.requests)
        assert (await bench.withdraw()).withdrawal.state is WithdrawalState.REQUESTED
        bench.world.clock.advance(LEASE_SECONDS - 1)
        assert await bench.payments.sweep() == Swept()
        assert len(bench.fake.requests) == calls

    bench.api.after_writing = others
    failed = (await bench.withdraw()).withdrawal
    assert (failed.state, failed.reason) == (WithdrawalState.FAILED, "account_invalid")
    assert (await bench.held(), sent_minor(bench)) == (0, 0)
    assert not await bench.payments.alarms()


async def test_a_refusal_is_void_when_another_call_was_carried_out(bench: Bench) -> None:
    """One process is refused and then slow; its lease ends, and another one sends: the money stays held."""
    bench.fake.faults.append("refuse")

    async def others() -> None:
        bench.world.clock.advance(LEASE_SECONDS)
        assert (await bench.withdraw()).withdrawal.state is WithdrawalState.IN_TRANSIT

    bench.api.after_writing = others
    await bench.withdraw()
    assert (await the_withdrawal(bench)).state is WithdrawalState.IN_TRANSIT
    assert (await bench.held(), sent_minor(bench)) == (100, 100)


async def test_a_refusal_is_void_while_another_call_is_out(bench: Bench) -> None:
    """The same, and the other call has no answer yet when the refusal is taken in."""
    bench.fake.faults.extend(["refuse", "ok", "lose_answer"])  # the first call; a question and the second call

    async def others() -> None:
        bench.world.clock.advance(LEASE_SECONDS)
        assert (await bench.withdraw()).withdrawal.state is WithdrawalState.REQUESTED

    bench.api.after_writing = others
    await bench.withdraw()
    assert ((await the_withdrawal(bench)).state, await bench.held()) == (WithdrawalState.REQUESTED, 100)
    await bench.later()
    assert ((await the_withdrawal(bench)).state, sent_minor(bench)) == (WithdrawalState.IN_TRANSIT, 100)


async def test_a_step_that_was_overtaken_after_its_question_makes_no_call(bench: Bench) -> None:
    """Nothing was sent when it asked; before it takes its lease, another one sends. It sees that and calls nothing."""
    bench.fake.faults.append("lose_request")
    await bench.withdraw()
    bench.world.clock.advance(LEASE_SECONDS)

    async def others() -> None:
        await bench.withdraw()
        bench.fake.forget_keys()

    bench.api.after_reading = others
    await bench.withdraw()
    calls = [path for method, path, _ in bench.fake.requests if method == "POST"]
    assert calls == ["/v1/transfers", "/v1/transfers", "/v1/payouts"]  # the first one was lost
    assert (sent_minor(bench), await bench.held()) == (100, 100)


async def test_what_was_sent_for_a_failed_withdrawal_is_taken_back(bench: Bench) -> None:
    """A call is so slow that another is refused meanwhile, and is carried out nevertheless: it is reversed."""

    async def others() -> None:
        bench.world.clock.advance(LEASE_SECONDS)
        bench.fake.faults.extend(["ok", "refuse"])
        sent.update(bench.fake.state.objects)
        bench.fake.state.objects.clear()  # to the others it is not there yet
        bench.fake.forget_keys()
        assert (await bench.withdraw()).withdrawal.state is WithdrawalState.FAILED
        assert await bench.held() == 0
        bench.fake.state.objects.update(sent)

    sent: dict[str, Any] = {}
    bench.api.after_writing = others
    await bench.withdraw()
    await bench.later()
    after = await the_withdrawal(bench)
    assert (after.state, sent_minor(bench), await bench.held()) == (WithdrawalState.FAILED, 0, 0)
    assert (await bench.posted(), await bench.agrees()) == (1_000, True)
    (alarm,) = await bench.payments.alarms()
    assert alarm.alarm.about == after.sent_id


async def test_the_reconciler_finds_what_nobody_knows_to_be_sent(bench: Bench) -> None:
    """The same, and the process that sent it has died: the daily comparison finds it and takes it back."""
    bench.fake.faults.append("lose_answer")
    asked = (await bench.withdraw()).withdrawal
    world = dict(bench.fake.state.objects)
    bench.fake.state.objects.clear()
    bench.fake.forget_keys()
    bench.world.clock.advance(LEASE_SECONDS)
    bench.fake.faults.extend(["ok", "refuse"])
    assert (await bench.withdraw()).withdrawal.state is WithdrawalState.FAILED
    bench.fake.state.objects.update(world)
    report = await bench.payments.reconciler.run()
    assert (report.settled, report.clean) == (1, True)
    assert (sent_minor(bench), await bench.posted()) == (0, 1_000)
    assert [one.alarm.flow_id for one in await bench.payments.alarms()] == [asked.id]


@pytest.mark.parametrize("step", ["transfer", "payout", "reversal"])
async def test_a_refused_question_proves_nothing(bench: Bench, step: str) -> None:
    """The call was carried out and its answer lost; then Stripe will not be asked. The money stays held."""
    if step == "reversal":
        bench.fake.state.refuse_payouts = True
    before = {"transfer": 0, "payout": 1, "reversal": 3}[step]  # a reversal comes after a question
    bench.fake.faults.extend(["ok"] * before + ["lose_answer"])
    asked = (await bench.withdraw()).withdrawal
    held = WithdrawalState.UNDOING if step == "reversal" else asked.state
    for _ in range(3):
        bench.fake.faults.append("refuse")
        await bench.later()
        bench.fake.faults.clear()
        assert ((await the_withdrawal(bench)).state, await bench.held()) == (held, 100)
    assert any("account_invalid" in one.alarm.reason for one in await bench.payments.alarms())
    await bench.later()
    ends = WithdrawalState.FAILED if step == "reversal" else WithdrawalState.IN_TRANSIT
    assert ((await the_withdrawal(bench)).state, await bench.agrees()) == (ends, step == "reversal")


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_refused_question_about_a_refund_is_asked_again(bench: Bench, before: int) -> None:
    """Nobody polls for refunds, so a hint whose question is refused is not done with: Stripe tells it again."""
    started = await bench.top_up()
    bench.fake.state.pay(started.top_up.intent_id)
    await bench.tell("payment_intent.succeeded")
    posted = await bench.posted()
    bench.fake.state.refund(started.top_up.intent_id, 30)
    bench.fake.faults.extend(["ok"] * before + ["refuse"])
    with pytest.raises(Unavailable):
        await bench.tell("charge.refunded")
    bench.fake.faults.clear()
    await bench.tell("charge.refunded")
    assert await bench.posted() == posted - 30


async def test_a_top_up_that_was_refused_too_late_can_be_paid(bench: Bench) -> None:
    """Its intent was made and the answer lost; a second call is refused; then Stripe tells of the intent."""
    bench.fake.faults.append("lose_answer")
    asked = (await bench.top_up()).top_up
    bench.fake.forget_keys()
    bench.fake.faults.append("refuse")
    await bench.later()
    assert (await bench.payments.top_ups.get(bench.ann.id, asked.id)).state is TopUpState.FAILED
    await bench.tell("payment_intent.created")
    found = await bench.payments.top_ups.get(bench.ann.id, asked.id)
    assert (found.state, found.reason) == (TopUpState.AWAITING_PAYMENT, "")
    assert (await bench.top_up()).client_secret is not None


async def test_an_alarm_commits_with_what_it_is_about(bench: Bench) -> None:
    """The process dies right after the commit that put a payment aside; the operator is told all the same."""
    started = await bench.top_up()
    await bench.withdraw("all", 1_000)
    bench.fake.state.settle_payout((await the_withdrawal(bench)).payout_id or "", "paid")
    await bench.tell("payout.paid")
    await bench.world.ledger.set_account_status(bench.ann.id, bench.ann.account, AccountStatus.CLOSED)
    bench.fake.state.pay(started.top_up.intent_id)
    failpoints.arm("payments.folded=fail@1")
    with pytest.raises(FailpointError):
        await bench.tell("payment_intent.succeeded")
    failpoints.arm("")
    found = await bench.payments.top_ups.get(bench.ann.id, started.top_up.id)
    assert found.state is TopUpState.QUARANTINED
    assert [one.alarm.about for one in await bench.payments.alarms()] == [started.top_up.intent_id]


@pytest.mark.parametrize("place", range(3))
async def test_one_flow_that_cannot_be_settled_keeps_no_other_from_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Reconciling looks at every difference; what it could not settle stays one."""
    intents = [await bench.earn(100, key) for key in ("a", "b", "c")]
    observe = bench.payments.top_ups.observe

    async def refusing(intent_id: str, **values: Any) -> str:
        if intent_id == intents[place]:
            raise Contended
        return await observe(intent_id, **values)

    monkeypatch.setattr(bench.payments.top_ups, "observe", refusing)
    report = await bench.payments.reconciler.run()
    assert [one.about for one in report.differences] == [intents[place]]
    assert report.settled == 2


async def test_what_is_over_is_not_due(bench: Bench) -> None:
    """A top-up is credited while a sweep gets no answer about it; a payout fails for good likewise."""
    started = await bench.top_up()
    bench.fake.faults.append("lose_answer")

    async def credited() -> None:
        bench.fake.state.pay(started.top_up.intent_id)
        await bench.tell("payment_intent.succeeded")

    bench.api.after_reading = credited
    await bench.payments.top_ups.advance(started.top_up.id)
    found = await bench.payments.top_ups.get(bench.ann.id, started.top_up.id)
    assert (found.state, found.due_at) == (TopUpState.SUCCEEDED, None)
    failed = replace(found, state=TopUpState.FAILED, due_at=bench.world.clock())
    await _store(bench, failed)
    assert await bench.payments.sweep() == Swept(done=1)
    assert (await bench.payments.top_ups.get(bench.ann.id, started.top_up.id)).due_at is None


async def test_one_flow_that_always_fails_keeps_no_other_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it raises what nobody expected, and even if a sweep looks at one flow only."""
    poison, sound = [(await bench.top_up(key)).top_up for key in ("poison", "sound")]
    bench.fake.state.pay(sound.intent_id)
    advance = bench.payments.top_ups.advance

    async def poisoned(top_up_id: Any) -> Any:
        if top_up_id == poison.id:
            raise ZeroDivisionError
        return await advance(top_up_id)

    monkeypatch.setattr(bench.payments.top_ups, "advance", poisoned)
    bench.world.clock.advance(4_000)
    assert await bench.payments.top_ups.sweep(limit=1) == Swept(failed=1)
    assert await bench.payments.top_ups.sweep(limit=1) == Swept(done=1)
    assert (await bench.payments.top_ups.get(bench.ann.id, sound.id)).state is TopUpState.SUCCEEDED
    bench.world.clock.advance(4_000)
    assert (await bench.payments.sweep()).failed == 1
    assert await bench.posted() == 1_100


async def test_an_older_look_at_a_refund_takes_nothing(bench: Bench) -> None:
    """One process sees a refund; before it takes that in, the refund fails and another process has looked."""
    intent_id = await bench.earn()
    await bench.tell("payment_intent.succeeded")
    refund_id = bench.fake.state.refund(intent_id, 60)
    assert refund_id is not None

    async def others() -> None:
        bench.fake.state.fail_refund(refund_id)
        await bench.tell("refund.failed")
        assert await bench.posted() == 1_100

    async def first() -> None:  # the intent has been read, its refunds come next
        bench.api.after_reading = others

    bench.api.after_reading = first
    await bench.tell("charge.refunded")
    assert (await bench.posted(), await bench.agrees()) == (1_100, True)
    assert not await bench.payments.alarms()


async def test_a_dispute_that_is_given_back_in_part_needs_an_operator(bench: Bench) -> None:
    """What is gone when it is seen first is taken; what comes back in part, or goes once more, is an alarm."""
    intent_id = await bench.earn(100)
    await bench.tell("payment_intent.succeeded")
    dispute_id = bench.fake.state.dispute(intent_id, 100)
    bench.fake.state.reinstate(dispute_id, 30)
    await bench.tell("charge.dispute.funds_withdrawn")
    assert (await bench.posted(), await bench.agrees()) == (1_030, True)
    told = []
    for amount, posted in ((20, 1_030), (50, 1_100), (-10, 1_100)):
        bench.fake.state.reinstate(dispute_id, amount)
        for _ in range(2):
            await bench.tell("charge.dispute.funds_reinstated")
        assert await bench.posted() == posted
        told.append(len(await bench.payments.alarms()))
    assert told == [1, 1, 2]
    assert {one.alarm.about for one in await bench.payments.alarms()} == {dispute_id}


async def test_payments_of_other_products_are_no_difference(bench: Bench) -> None:
    """They, their refunds and their disputes use the same account; the reconciler lists them apart."""
    foreign = bench.fake.state.answer("POST", "/v1/payment_intents", {"amount": 700, "currency": "eur"}, "")
    bench.fake.state.pay(foreign["id"])
    bench.fake.state.refund(foreign["id"], 200)
    ours = await bench.earn(300)
    bench.fake.state.refund(ours, 100)
    report = await bench.payments.reconciler.run(settle=False)
    assert {(one.about, one.stripe_minor) for one in report.differences} >= {(ours, 300)}
    assert report.stripe_minor["EUR"] == 200
    assert (report.others["charge", "EUR"], report.others["refund", "EUR"]) == (700, -200)
    assert (await bench.payments.reconciler.run()).clean


@pytest.mark.parametrize("cause", ["no flow", "a clawback", "a payment", "a withdrawal"])
async def test_an_alarm_that_was_settled_stays_so(bench: Bench, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever raised it, and although the same is reported again: it is not open, and not logged again."""

    async def happen() -> None:
        if cause == "a withdrawal":
            await bench.later()
        else:
            await bench.tell("charge.dispute.created" if cause == "a clawback" else "payment_intent.succeeded")

    if cause == "a withdrawal":
        bench.fake.faults.append("lose_answer")
        await bench.withdraw()
        bench.api.is_live = True
    else:
        intent = bench.fake.state.objects[await bench.earn()]
        if cause == "a clawback":
            await bench.tell("payment_intent.succeeded")
            bench.fake.state.objects[bench.fake.state.dispute(intent["id"], 50)]["currency"] = "usd"
        elif cause == "no flow":
            intent["metadata"] = {"wallet_top_up": "top_0193a1b2c3d47f00812345678abcdef0"}
        else:
            intent["currency"] = "usd"
    await happen()
    (raised,) = await bench.payments.alarms()
    assert (raised.alarm.flow_id == "") == (cause == "no flow")
    done = await bench.payments.desk.settle(raised.id, "seen to")
    assert done is not None
    stored, is_new = done
    assert (is_new, replace(stored, settlement=None)) == (True, raised)
    caplog.clear()
    await happen()
    assert await bench.payments.alarms() == []
    assert await bench.payments.alarms(with_settled=True) == [stored]
    assert "payments need an operator" not in caplog.text


@pytest.mark.parametrize("flow", ["top-up", "withdrawal"])
async def test_a_key_of_the_other_mode_makes_no_call(bench: Bench, flow: str) -> None:
    """What was asked for in test mode is not gone on with by a live key: an alarm, once, and it waits."""
    bench.fake.faults.append("lose_answer")
    await (bench.top_up() if flow == "top-up" else bench.withdraw())
    calls = len(bench.fake.requests)
    bench.api.is_live = True
    for _ in range(3):
        await bench.later()
    assert len(bench.fake.requests) == calls
    (alarm,) = await bench.payments.alarms()
    assert "test mode" in alarm.alarm.reason
    bench.api.is_live = False
    await bench.later()
    assert len(bench.fake.requests) > calls


async def test_a_payout_is_found_although_our_clock_is_ahead(bench: Bench) -> None:
    """By hours: the payout was made before the withdrawal was asked for, by its time."""
    bench.fake.state.now = int(bench.world.clock().timestamp()) - 10 * 3_600
    bench.fake.faults.extend(["ok", "lose_answer"])
    await bench.withdraw()
    bench.fake.forget_keys()
    await bench.later()
    assert (await the_withdrawal(bench)).state is WithdrawalState.IN_TRANSIT
    assert len([one for one in bench.fake.state.objects.values() if one["object"] == "payout"]) == 1


async def _store(bench: Bench, flow: Any) -> None:
    await change(bench.store, flow.key, lambda _: flow.to_record())
