"""Spending limits: the rule against a plain list of payments, the user's own limits, and every money verb."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property._money_verbs import EUR, ROWS, Row, Town, open_town
from wallet_gql.domain.changes import Changes, ReadSet, Snapshot, State
from wallet_gql.domain.errors import SpendingLimitExceeded
from wallet_gql.domain.ids import (
    AccountId,
    make_account_id,
    make_hold_id,
    make_transfer_id,
    make_user_id,
    slot_of,
    system_account,
)
from wallet_gql.domain.model import Hold, Record, RecordKey, Transfer, TransferKind
from wallet_gql.domain.spending import RAISE_DELAY, Limits, Spending, SpendingLimitKind, keys_of, spend
from wallet_gql.setting_values import limits_of
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.keyed import Posted
from wallet_gql.verbs.ledger import To

START: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER: Final = make_user_id(1, 7)
OWN: Final = make_account_id(slot_of(USER), 1, 7)
PAYEES: Final = (*(make_account_id(n, 1, 7) for n in range(2)), system_account("cash", EUR))
LIMIT: Final = st.one_of(st.none(), st.integers(1, 60))
LIMITS: Final = st.builds(Limits, LIMIT, LIMIT, LIMIT)


class Books:
    """The records of one user, and all that was paid."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.records: dict[RecordKey, Record] = {}
        self.now = START
        self.paid: list[tuple[datetime, AccountId, int]] = []
        self.serial = count(1)

    def pay(self, parts: list[tuple[AccountId, int]], *, held: bool) -> None:
        """Run the rule on one payment, which may have several payees, or on a hold, and keep what it writes."""
        state = State("n", lambda _: None)
        for record in self.records.values():
            state.load_record(record)
        snapshot = Snapshot(state, ReadSet(records=keys_of(USER, EUR, PAYEES)))
        made = Changes()
        for payee, minor in parts:
            made += self.hold(payee, minor) if held else self.transfer(payee, minor)
        records = spend(snapshot, USER, EUR, self.limits, made, self.now)
        assert all(record.version == record.after(self.records.get(record.key)).version for record in records)
        self.records |= {record.key: record for record in records}
        self.paid += [(self.now, payee, minor) for payee, minor in parts]

    def transfer(self, payee: AccountId, minor: int) -> Changes:
        """A transfer of the user's."""
        moved_id = make_transfer_id(slot_of(USER), 1, next(self.serial))
        moved = Transfer(moved_id, TransferKind.TRANSFER, OWN, payee, minor, EUR, self.now, USER, "key")
        return Changes(transfers=(moved,))

    def hold(self, payee: AccountId, minor: int) -> Changes:
        """A hold of the user's."""
        hold_id = make_hold_id(slot_of(USER), 1, next(self.serial))
        return Changes(placed=(Hold(hold_id, OWN, payee, "closer", minor, EUR, self.now, None),))

    def refused(self, parts: list[tuple[AccountId, int]]) -> set[SpendingLimitKind]:
        """The limits that a payment would pass, from the list of all payments."""
        total = sum(minor for _, minor in parts)
        spent = sum(minor for at, _, minor in self.paid if at.date() == self.now.date())
        passed = {SpendingLimitKind.PAYMENT} if _over(total, self.limits.payment) else set()
        passed |= {SpendingLimitKind.DAY} if _over(spent + total, self.limits.day) else set()
        for payee in {payee for payee, _ in parts} - {PAYEES[-1]}:
            before = [(at, minor) for at, to, minor in self.paid if to == payee]
            first_at = before[0][0] if before else self.now
            sent = sum(minor for _, minor in before) + sum(minor for to, minor in parts if to == payee)
            if self.now < first_at + timedelta(hours=24) and _over(sent, self.limits.new_payee):
                passed.add(SpendingLimitKind.NEW_PAYEE)
        return passed


def _over(minor: int, limit: int | None) -> bool:
    return limit is not None and minor > limit


PARTS: Final = st.lists(st.tuples(st.sampled_from(PAYEES), st.integers(1, 40)), min_size=1, max_size=3)
STEPS: Final = st.lists(st.tuples(PARTS, st.booleans(), st.integers(0, 30)), max_size=12)


@given(LIMITS, STEPS)
def test_what_passes_is_what_fits(limits: Limits, steps: list[tuple[list[tuple[AccountId, int]], bool, int]]) -> None:
    """Refused are exactly the payments that would pass a limit, and a refused one counts for nothing."""
    books = Books(limits)
    for parts, held, hours in steps:
        books.now += timedelta(hours=hours)
        expected = books.refused(parts)
        if not expected:
            books.pay(parts, held=held)
            continue
        with pytest.raises(SpendingLimitExceeded) as caught:
            books.pay(parts, held=held)
        assert SpendingLimitKind(caught.value.limit) in expected


@given(LIMITS, LIMITS, LIMITS, st.integers(0, 47))
def test_own_limits_fall_at_once_and_rise_after_a_day(own: Limits, wanted: Limits, second: Limits, hours: int) -> None:
    """At no time does a limit hold that is higher than the one before, unless it was asked for a day earlier."""
    start = Spending(START.date(), own=own)
    chosen = start.choose(wanted, START)
    assert chosen.own == own.within(wanted)
    assert chosen.choose(wanted, START + timedelta(hours=1)) == chosen, "the same choice again changes nothing"
    later = START + timedelta(hours=hours)
    found = Spending.at(chosen.to_record(USER, EUR), later)
    assert found.own == (wanted if later >= START + RAISE_DELAY else own.within(wanted))
    again = found.choose(second, later)
    assert again.own == found.own.within(second)
    assert again.raised in {None, second}


def test_a_clock_that_goes_back_does_not_open_a_day_again() -> None:
    """What was spent on the later day still counts."""
    books = Books(Limits(day=50))
    books.pay([(PAYEES[0], 40)], held=False)
    books.now -= timedelta(days=1)
    with pytest.raises(SpendingLimitExceeded) as caught:
        books.pay([(PAYEES[0], 20)], held=False)
    assert caught.value.fields == {
        "limit": "day",
        "maximum_minor": 50,
        "remaining_minor": 10,
        "currency": EUR,
        "free_at": "2026-01-02T00:00:00Z",
    }


@pytest.mark.parametrize("text", ["EUR", "EUR:", "EUR:day", "EUR:day=0", "EUR:day=1.001", "XXX:day=1", "EUR:week=1"])
def test_a_malformed_setting_says_how_it_is_written(text: str) -> None:
    """So do a currency and a limit that come twice."""
    for wrong in (text, f"USD:day=1;{text}", "EUR:day=1;EUR:day=2", "EUR:day=1,day=2"):
        with pytest.raises(ValueError, match="write EUR:payment="):
            limits_of(wrong)
    assert limits_of("EUR:payment=10.00, newPayee=2 ; JPY:day=5;") == {
        "EUR": Limits(payment=1_000, new_payee=200),
        "JPY": Limits(day=5),
    }
    assert limits_of("") == {}


@pytest.fixture(params=[1, 3])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    """On one node and on three."""
    async with open_town(request.param) as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_every_money_verb_is_limited_or_is_not(town: Town, row: Row) -> None:
    """What spends is refused at the limit, and the refusal is remembered; all else is done, and nothing is counted."""
    await row.allow(town)
    town.limits[EUR] = Limits(payment=99)
    if not row.spends:
        await row.call(town, "key", "")
        assert await _spent(town) == {}
        return
    for _ in range(2):
        with pytest.raises(SpendingLimitExceeded):
            await row.call(town, "key", "")
        town.limits.clear()
    town.limits[EUR] = Limits(payment=100, day=100)
    await row.call(town, "another", "")
    await row.call(town, "another", "")
    assert await _spent(town) == {town.users["ann"]: 100}
    with pytest.raises(SpendingLimitExceeded):
        await row.call(town, "a third", "")


async def test_a_split_payment_and_its_splits_are_one(town: Town) -> None:
    """They count together for the payment's limit, and each for its payee."""
    row = next(one for one in ROWS if one.name == "payMerchant with a split")
    town.limits[EUR] = Limits(payment=100, new_payee=89)
    with pytest.raises(SpendingLimitExceeded) as caught:
        await row.call(town, "key", "")
    assert (caught.value.limit, caught.value.remaining_minor) == ("newPayee", 89)


@pytest.mark.parametrize("mode", BatchMode)
async def test_each_item_of_a_batch_sees_those_before(town: Town, mode: BatchMode) -> None:
    """An ATOMIC batch over the limit moves nothing; of an INDEPENDENT one as much is done as fits."""
    town.limits[EUR] = Limits(day=250)
    to = To(username="bob")
    items = [BatchItem(f"item-{n}", town.accounts["ann"], to, 100, EUR) for n in range(3)]
    outcomes = await transfer_batch(town.ledger, town.users["ann"], items, mode)
    done = sum(isinstance(one, Posted) for one in outcomes)
    refused = [one for one in outcomes if isinstance(one, SpendingLimitExceeded)]
    assert (done, len(refused)) == ((0, 1) if mode is BatchMode.ATOMIC else (2, 1))
    assert await _spent(town) == ({} if mode is BatchMode.ATOMIC else {town.users["ann"]: 200})


async def test_a_currency_without_limits_costs_nothing(town: Town) -> None:
    """No record is read or written."""
    town.limits["USD"] = Limits(day=1)
    await next(row for row in ROWS if row.spends).call(town, "key", "")
    assert await _spent(town) == {}


async def _spent(town: Town) -> dict[str, int]:
    """What is counted of each user."""
    found: dict[str, int] = {}
    for user_id in town.users.values():
        for record in (await town.store.list_records("spending", user_id)).items:
            found[user_id] = Spending.at(record, town.clock.now).spent_minor
    return found
