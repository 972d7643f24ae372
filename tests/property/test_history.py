"""Reads of an account's past, compared with a brute-force computation over all entries."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wallet_gql.backends.memory import MemoryStore
from wallet_gql.domain.ids import OPERATOR, AccountId, make_account_id, make_user_id, slot_of
from wallet_gql.domain.model import Account, Entry, Transfer, TransferKind
from wallet_gql.storage import HistoryLine, JournalItem
from wallet_gql.transports.graphql import cursors
from wallet_gql.transports.rest import places
from wallet_gql.verbs import history
from wallet_gql.verbs import summary as summaries
from wallet_gql.verbs.history import HistoryFilter, Place, balance_at, page_of_histories, page_of_history, statement
from wallet_gql.verbs.summary import SummaryBy, summary

START = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = make_user_id(1, 1)
ACCOUNT = make_account_id(slot_of(OWNER), 1, 1)
OTHERS = [make_account_id(slot_of(OWNER), 1, n) for n in (2, 3)]
CURRENCIES = ("CHF", "JPY", "KWD", "USD")
KINDS = (TransferKind.TRANSFER, TransferKind.CAPTURE)


async def _filled(
    gaps: list[int], account_id: AccountId = ACCOUNT, store: MemoryStore | None = None, currency: str = "EUR"
) -> tuple[MemoryStore, Account, list[HistoryLine]]:
    """An account with one entry after each gap (in seconds), of growing amounts and changing kinds and payers."""
    store = store or MemoryStore()
    balance_minor, at = 0, START
    lines: list[HistoryLine] = []
    for n, gap in enumerate(gaps, start=1):
        at += timedelta(seconds=gap)
        balance_minor += n
        transfer = Transfer(
            f"trf{account_id}{n}",  # type: ignore[arg-type]  # short ids read better here
            KINDS[n % 2],
            OTHERS[n % 3 == 0],
            account_id,
            n,
            currency,
            at,
            OPERATOR,
            f"k{n}",
            reference="Rent" if n % 5 == 0 else "",
        )
        lines.append(HistoryLine(Entry(account_id, n, transfer.id, n, balance_minor, at), transfer))
    account = Account(account_id, OWNER, currency, START, at, posted_minor=balance_minor, sequence=len(gaps))
    await store.load_raw([account])
    node = store._node(account_id)
    for line in lines:
        node.put_transfer(line.transfer)
        node.put_entry(line.entry)
    return store, account, lines


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(-2, 60), st.integers(0, 30))
async def test_balances_and_statements_at_any_moment(gaps: list[int], second: int, length: int) -> None:
    """Bisection finds what folding the entries finds; opening plus lines is closing."""
    store, account, lines = await _filled(gaps)
    since, until = START + timedelta(seconds=second), START + timedelta(seconds=second + length)

    found = await statement(store, account, since, until)

    inside = [line.entry for line in lines if since <= line.entry.at < until]
    assert sum(line.entry.amount_minor for line in lines if line.entry.at <= since) == await balance_at(
        store, account, since
    )
    assert sum(line.entry.amount_minor for line in lines if line.entry.at < since) == found.opening_minor
    assert found.opening_minor + sum(entry.amount_minor for entry in inside) == found.closing_minor
    assert [entry.sequence for entry in inside] == list(range(found.first_sequence, found.last_sequence + 1))


filters = st.builds(
    HistoryFilter,
    kinds=st.none() | st.frozensets(st.sampled_from(KINDS)),
    counterparties=st.none() | st.frozensets(st.sampled_from(OTHERS)),
    since=st.none() | st.integers(0, 60).map(lambda s: START + timedelta(seconds=s)),
    until=st.none() | st.integers(0, 60).map(lambda s: START + timedelta(seconds=s)),
    amount_min_minor=st.none() | st.integers(0, 40),
    amount_max_minor=st.none() | st.integers(0, 40),
    reference=st.none() | st.just("rent"),
)


@given(st.lists(st.integers(0, 3), max_size=40), filters, st.integers(1, 7), st.integers(1, 50))
async def test_walking_filtered_pages_gives_each_wanted_line_once(
    gaps: list[int], where: HistoryFilter, limit: int, examined_max: int
) -> None:
    """Newest first, no gap, no double, whatever the page size and however few lines a page may look at."""
    store, account, lines = await _filled(gaps)
    walked: list[int] = []
    before: int | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "EXAMINED_MAX", examined_max)
        for _ in range(100):
            page = await page_of_history(store, account, limit, before=before, where=where)
            assert len(page.lines) <= limit
            walked += [line.entry.sequence for line in page.lines]
            before = page.next_sequence
            if before is None:
                break

    wanted = [line.entry.sequence for line in reversed(lines) if where.keeps(line) and _within(where, line)]
    assert wanted == walked


Through = Callable[[Place, Iterable[AccountId]], Place]
"""A place as a client gives it back, to somebody with these accounts."""


def as_it_is(place: Place, _: Iterable[AccountId]) -> Place:
    """Without any text."""
    return place


def by_rest(place: Place, account_ids: Iterable[AccountId]) -> Place:
    """As `/v1/entry` writes and reads it."""
    return places.place_of(places.text_of(place), account_ids)


def by_graphql(place: Place, account_ids: Iterable[AccountId]) -> Place:
    """As a cursor."""
    return cursors.place_of(cursors.cursor_of(place), account_ids)


@given(st.permutations(range(4)), st.permutations(range(4)), st.sampled_from([by_rest, by_graphql]))
def test_a_place_is_the_same_after_its_text(
    place_order: list[int], accounts_order: list[int], through: Through
) -> None:
    """Its parts, and which account comes first, whatever order the accounts are in."""
    place = {make_account_id(slot_of(OWNER), 1, n): n + 1 for n in place_order}
    told = through(place, [make_account_id(slot_of(OWNER), 1, n) for n in accounts_order])
    assert [*told.items()] == [*place.items()]


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=4), filters, st.integers(1, 7), st.integers(1, 20),
    st.sampled_from([as_it_is, by_rest, by_graphql]),
)  # fmt: skip
@example([[0, 1, 1], [0, 2, 1], [1, 1, 1]], HistoryFilter(), 2, 20, by_rest)
async def test_walking_several_accounts_gives_each_wanted_line_once(
    several: list[list[int]], where: HistoryFilter, limit: int, examined_max: int, through: Through
) -> None:
    """Newest first over all accounts, from any line on; what happens meanwhile comes on no later page."""
    store, accounts, lines = MemoryStore(), list[Account](), list[HistoryLine]()
    for n, gaps in enumerate(several):
        _, account, made = await _filled(gaps, make_account_id(slot_of(OWNER), 1, 10 + n), store, CURRENCIES[n])
        accounts.append(account)
        lines += made
    lines.sort(key=lambda line: (line.entry.at, line.entry.account_id, line.entry.sequence), reverse=True)
    wanted = [line for line in lines if where.keeps(line) and _within(where, line)]
    _, late, _ = await _filled([1], make_account_id(slot_of(OWNER), 1, 20), store, "EUR")
    walked: list[HistoryLine] = []
    place: Place | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "EXAMINED_MAX", examined_max)
        for turn in range(200):
            seen = [*accounts, late] if turn else accounts
            page = await page_of_histories(store, seen, limit, place=place, where=where)
            assert len(page.lines) <= limit
            taken = page.lines[: turn % limit + 1]  # as a client that goes on behind a line in the middle
            walked += [line for line, _ in taken]
            place = taken[-1][1] if len(taken) < len(page.lines) else page.goes_on
            if place is None:
                break
            place = through(place, [account.id for account in seen])
        assert walked == wanted
        await _walks_back(store, accounts, limit, where, wanted=wanted, through=through)


async def _walks_back(
    store: MemoryStore,
    accounts: list[Account],
    limit: int,
    where: HistoryFilter,
    *,
    wanted: list[HistoryLine],
    through: Through,
) -> None:
    """From the oldest line to the newest come the same lines; a place is the same in both directions."""
    walked: list[HistoryLine] = []
    place: Place | None = None
    for turn in range(200):
        page = await page_of_histories(store, accounts, limit, place=place, where=where, backward=True)
        assert len(page.lines) <= limit
        taken = page.lines[-(turn % limit + 1) :]
        walked = [*(line for line, _ in taken), *walked]
        place = taken[0][1] if len(taken) < len(page.lines) else page.goes_on
        if place is None:
            break
        place = through(place, [account.id for account in accounts])
        for line, at in page.lines[:1]:
            newer = [one for one, _ in (await page_of_histories(store, accounts, limit, place=at, where=where)).lines]
            older = wanted[wanted.index(line) + 1 :]
            assert newer == older[: len(newer)]
    assert walked == wanted


def _within(where: HistoryFilter, line: HistoryLine) -> bool:
    at = line.entry.at
    return (where.since is None or at >= where.since) and (where.until is None or at < where.until)


@given(
    st.lists(st.integers(0, 20), max_size=30), st.integers(-2, 300), st.integers(0, 300), st.sampled_from(SummaryBy),
    st.integers(1, 40),
)  # fmt: skip
async def test_summaries_add_up(days: list[int], begins: int, lasts: int, by: SummaryBy, examined_max: int) -> None:
    """All groups together are the entries of the span, or of its newest part; each has those that belong to it."""
    store, account, lines = await _filled([24 * 3600 * gap for gap in days])
    since = START + timedelta(days=begins)
    until = since + timedelta(days=lasts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summaries, "EXAMINED_MAX", examined_max)
        found = await summary(store, account, since, until, by)
    inside = [line for line in lines if since <= line.entry.at < until]
    assert found.complete == (len(inside) <= examined_max)
    wanted: dict[object, list[int]] = {}
    for line in inside[-examined_max:]:
        key = {SummaryBy.MONTH: f"{line.entry.at:%Y-%m}", SummaryBy.KIND: line.transfer.kind}.get(
            by, line.transfer.debit_account_id
        )
        sums = wanted.setdefault(key, [0, 0, 0])
        sums[0] += 1
        sums[1] += line.entry.amount_minor
    got = {one.month or one.kind or one.counterparty: [one.count, one.received_minor, one.spent_minor]
           for one in found.groups}  # fmt: skip
    assert got == wanted
    if by is SummaryBy.MONTH:
        assert list(got) == sorted(got, key=str, reverse=True)


async def test_journal_items_name_their_node() -> None:
    """A scan of a filled store gives one item a transfer."""
    store, _, lines = await _filled([1, 1])

    assert [line.transfer for line in lines] == [
        item.transfer for item in (await store.scan("journal", None, 10)).items if isinstance(item, JournalItem)
    ]
