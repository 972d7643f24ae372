"""Money in and out: random schedules, and one test for each way of losing or doubling money."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration._evidence import write_evidence
from tests.property._payments import Bench, open_bench
from wallet_gql import failpoints
from wallet_gql.domain.errors import Contended, InDoubt
from wallet_gql.domain.topups import TopUpState
from wallet_gql.domain.withdrawals import WithdrawalState
from wallet_gql.failpoints import FailpointError
from wallet_gql.testing.payments_machine import run_payments_machine
from wallet_gql.testing.world import CURRENCY
from wallet_gql.verbs.ledger import To

SOAK_SCHEDULES = 2_000
SOAK_STEPS = 40


@pytest.mark.trial
@pytest.mark.backend("memory")
def test_schedules_on_memory() -> None:
    """At rest Stripe's stand-in and the ledger agree to the cent, and each intent happened once."""
    run_payments_machine("memory", examples=80, steps=25)


@pytest.mark.trial
@pytest.mark.backend("memory-3")
def test_schedules_on_memory_of_three_nodes() -> None:
    """The same over three nodes."""
    run_payments_machine("memory-3", examples=50, steps=25)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_schedules_for_long() -> None:
    """Thousands of random schedules; the counts are evidence."""
    rows = ["| backend | schedules | steps each, at most | minutes |", "|---|---:|---:|---:|"]
    for backend, schedules in (("memory", SOAK_SCHEDULES // 2), ("memory-3", SOAK_SCHEDULES // 2), ("sqlite", 100)):
        began = time.monotonic()
        run_payments_machine(backend, examples=schedules, steps=SOAK_STEPS, profile="soak")
        rows.append(f"| `{backend}` | {schedules:,} | {SOAK_STEPS} | {(time.monotonic() - began) / 60:.0f} |")
    text = (
        "Top-ups, withdrawals, refunds and disputes at random, with repeated requests, lost requests and answers,\n"
        "crashes between the phases, webhooks dropped, doubled and out of turn, and forgotten idempotency keys.\n"
        "At the end of each schedule the ledger and the stand-in for Stripe agreed to the cent, each intent had\n"
        "happened once, and the books were clean.\n\n"
    )
    command = "make soak ARGS='-k schedules_for_long'"
    write_evidence("payments-schedules", "Money in and out, at random", command, text + "\n".join(rows))


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty platform and two people with 1,000 each."""
    async with open_bench(tmp_path) as made:
        yield made


async def test_no_call_is_made_inside_a_commit(bench: Bench) -> None:
    """Top-up, withdrawal, refund and their events: while a decision runs, Stripe hears nothing."""
    await bench.earn()
    await bench.tell("payment_intent.succeeded")
    asked = await bench.withdraw()
    bench.fake.state.settle_payout(asked.withdrawal.payout_id, "paid")
    await bench.tell("payout.paid")
    assert len(bench.fake.requests) > 5
    assert bench.store.calls == 0


async def test_a_crash_before_the_credit_loses_nothing(bench: Bench) -> None:
    """The process dies while it takes an event in, at every point there is; the event comes again and credits."""
    for number, point in enumerate(("topup.event", "payments.folded")):
        await bench.earn(100, f"in-{number}")
        before = await bench.posted()
        failpoints.arm(f"{point}=fail@1")
        with pytest.raises(FailpointError):
            await bench.tell("payment_intent.succeeded")
        failpoints.arm("")
        await bench.tell("payment_intent.succeeded")
        assert await bench.posted() <= before + 100
        await bench.later()
        assert await bench.posted() == 1_100 + 100 * number
    assert await bench.agrees()


async def test_one_payment_told_by_many_events_is_credited_once(bench: Bench) -> None:
    """The same event twice, the same news under other ids, and a poll: one credit."""
    await bench.earn()
    for event_id in ("evt_a", "evt_a", "evt_b", "evt_c"):
        await bench.tell("payment_intent.succeeded", event_id)
    await bench.later()
    assert await bench.posted() == 1_100
    assert await bench.agrees()


@pytest.mark.parametrize("fault", ["lose_answer", "lose_request", "error", "busy", "conflict"])
async def test_a_time_out_voids_nothing(bench: Bench, fault: str) -> None:
    """Without an answer the hold stays; asked again, Stripe makes one transfer and one payout in all."""
    for number, faults in enumerate(([fault], ["ok", fault])):
        bench.fake.faults.extend(faults)
        asked = await bench.withdraw(f"out-{number}")
        assert asked.withdrawal.state in (WithdrawalState.REQUESTED, WithdrawalState.SENT)
        assert await bench.held() == 100 * (number + 1)
    bench.world.clock.advance(25 * 3_600)
    bench.fake.forget_keys()
    for _ in range(2):
        await bench.later()
    objects = [one["object"] for one in bench.fake.state.objects.values()]
    assert (objects.count("transfer"), objects.count("payout")) == (2, 2)
    assert await bench.held() == 200


async def test_a_store_that_fails_after_the_hold_is_not_told_as_nothing_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The money is held, so the answer is the withdrawal; a repeated request is InDoubt meanwhile."""

    async def busy(*_: Any, **__: Any) -> None:
        raise Contended

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.payments.desk), "fold", busy)
        asked = await bench.withdraw()
        assert (asked.withdrawal.state, asked.replayed, await bench.held()) == (WithdrawalState.REQUESTED, False, 100)
        started = await bench.top_up()
        assert (started.top_up.state, started.client_secret) == (TopUpState.CREATED, None)
        for again in (bench.withdraw, bench.top_up):
            with pytest.raises(InDoubt):
                await again()
    await bench.later()
    assert (await bench.withdraw()).withdrawal.state is WithdrawalState.IN_TRANSIT
    assert (await bench.top_up()).top_up.state is TopUpState.AWAITING_PAYMENT


async def test_nobody_is_credited_on_a_clients_word(bench: Bench) -> None:
    """A client that asks again and again, as after a payment, gets nothing while Stripe has nothing."""
    for _ in range(3):
        assert (await bench.top_up()).top_up.state is TopUpState.AWAITING_PAYMENT
        await bench.later()
    assert await bench.posted() == 1_000
    await bench.later(25 * 3_600)
    (only,) = (await bench.payments.top_ups.list(bench.ann.id)).items
    assert only.state is TopUpState.CANCELED


async def test_paid_may_become_failed(bench: Bench) -> None:
    """Paid: the hold is captured. Given back by the bank: a linked reversal brings it. Old news change nothing."""
    asked = await bench.withdraw()
    payout_id = asked.withdrawal.payout_id
    bench.fake.state.settle_payout(payout_id, "paid")
    await bench.tell("payout.paid")
    paid = await bench.payments.withdrawals.get(bench.ann.id, asked.withdrawal.id)
    assert (paid.state, await bench.posted(), await bench.held()) == (WithdrawalState.PAID, 900, 0)
    bench.fake.state.settle_payout(payout_id, "failed")
    await bench.later(7 * 3_600)  # the webhook is lost
    for kind in ("payout.paid", "payout.failed", "payout.created"):
        await bench.tell(kind)
    back = await bench.payments.withdrawals.get(bench.ann.id, asked.withdrawal.id)
    assert (back.state, await bench.posted()) == (WithdrawalState.RETURNED, 1_000)
    books = await bench.world.books()
    assert any(one.reverses == paid.transfer_id for one in books.transfers.values())
    assert await bench.agrees()


async def test_a_refused_withdrawal_frees_the_money(bench: Bench) -> None:
    """Refused at once: failed. Refused after the transfer: that is reversed first, and only then is it failed."""
    bench.fake.state.accounts.clear()
    refused = (await bench.withdraw("a")).withdrawal
    assert (refused.state, refused.reason, await bench.held()) == (WithdrawalState.FAILED, "resource_missing", 0)
    bench.fake.state.connect("acct_ann1")
    bench.fake.state.refuse_payouts = True
    bench.fake.faults.extend(["ok", "ok", "lose_request"])  # transfer, payout, and then the reversal is lost
    undoing = (await bench.withdraw("b")).withdrawal
    assert (undoing.state, await bench.held()) == (WithdrawalState.UNDOING, 100)
    await bench.later()
    failed = await bench.payments.withdrawals.get(bench.ann.id, undoing.id)
    assert (failed.state, failed.reason) == (WithdrawalState.FAILED, "payouts_not_allowed")
    assert (await bench.posted(), await bench.held()) == (1_000, 0)
    assert await bench.agrees()


async def test_a_refused_reversal_is_asked_for_again(bench: Bench) -> None:
    """The connected account has no money yet. Stripe repeats a refusal under its key, so each attempt has another."""
    paid = (await bench.withdraw()).withdrawal
    assert paid.payout_id is not None
    bench.fake.state.settle_payout(paid.payout_id, "failed")
    place = (paid.destination, paid.currency.lower())
    bench.fake.state.balances[place] -= 100
    await bench.tell("payout.failed")
    for _ in range(2):
        await bench.later(3_700)
        assert await bench.held() == 100
    bench.fake.state.balances[place] += 100
    await bench.later(3_700)
    failed = await bench.payments.withdrawals.get(bench.ann.id, paid.id)
    assert (failed.state, await bench.held(), await bench.posted()) == (WithdrawalState.FAILED, 0, 1_000)
    assert await bench.agrees()


async def test_a_dispute_leaves_a_receivable_and_no_negative_balance(bench: Bench) -> None:
    """What the customer has is taken, the rest is owed; a dispute that is won brings both back where they were."""
    intent_id = await bench.earn(500)
    await bench.tell("payment_intent.succeeded")
    pay: dict[str, Any] = {"source": bench.ann.account, "to": To(bench.bob.account), "currency": CURRENCY}
    await bench.world.ledger.transfer(bench.ann.id, "spend", amount_minor=1_400, **pay)
    dispute_id = bench.fake.state.dispute(intent_id, 500)
    for kind in ("charge.dispute.funds_withdrawn", "charge.dispute.created"):
        await bench.tell(kind)
    (top_up,) = (await bench.payments.top_ups.list(bench.ann.id)).items
    assert (await bench.posted(), top_up.receivable_minor, top_up.taken_back_minor) == (0, 400, 500)
    assert await bench.agrees()
    bench.fake.state.close_dispute(dispute_id, won=True)
    for _ in range(2):
        await bench.tell("charge.dispute.funds_reinstated")
    (top_up,) = (await bench.payments.top_ups.list(bench.ann.id)).items
    assert (await bench.posted(), top_up.receivable_minor) == (100, 0)
    assert await bench.agrees()


async def test_refunds_in_parts_and_a_refund_that_fails(bench: Bench) -> None:
    """Each is a reversal linked to what it reverses; lost webhooks are made good by reconciling."""
    intent_id = await bench.earn(300)
    await bench.tell("payment_intent.succeeded")
    first, second = bench.fake.state.refund(intent_id, 100), bench.fake.state.refund(intent_id, 50)
    assert first is not None
    assert second is not None
    assert not await bench.agrees()
    report = await bench.payments.reconciler.run()
    assert (report.settled, report.clean) == (2, True)
    assert await bench.posted() == 1_150
    bench.fake.state.fail_refund(first)
    await bench.tell("refund.failed")
    assert await bench.posted() == 1_250
    bench.fake.state.refund(intent_id, 250)
    await bench.tell("charge.refunded")
    assert (await bench.posted(), await bench.agrees()) == (1_000, True)
    assert not await bench.payments.alarms()
