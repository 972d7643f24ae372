"""REST for the past of accounts: `/v1/entry`, and an account's entries, statements and summaries."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

from pydantic import Field

from ...domain.errors import InvalidInput, reasons
from ...domain.ids import AccountId
from ...domain.model import Account
from ...storage import PAGE_MAX, HistoryLine, PageRequest
from ...verbs import history as verbs
from ...verbs.parties import parties_of
from ...verbs.reading import account_ids_of
from ...verbs.summary import SummaryBy, summary
from ..catalogue.operations import CATEGORY_COST
from . import models as told
from .models import AllEntriesQuery, EntriesQuery, HistoryQuery
from .places import place_of, text_of
from .routing import Call, Content, Operation, Reply
from .values import BY_NAME, Count, Given, Moment, Money, Ordered, Told, TransferKindName
from .views import View

EXPORT_MAX: Final = 5_000
"""The most entries of a statement as CSV."""

EXPORT_COST: Final = 10
"""The cost of one of them."""

CSV: Final = "text/csv; charset=utf-8"
COLUMNS: Final = (
    "createdAt",
    "kind",
    "counterparty",
    "username",
    "reference",
    "amount",
    "currency",
    "balanceAfter",
    "transferId",
    "category",
    "metadata",
)

FORMULA: Final = re.compile(r"""(^|[;|\t\r\n])(?=[\s"]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])""")
"""Where a spreadsheet may run text as a formula, also if it splits rows at `;`; somebody else wrote the text."""


class SpanQuery(Given):
    """Which span of time."""

    since: Moment = Field(description="Where the span begins, inclusive.")
    until: Moment = Field(description="Where it ends, exclusive.")


class StatementQuery(SpanQuery, Ordered):
    """Which span of time, and which page of its entries."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many entries at most.")
    after: Annotated[Count, Field(ge=1, le=10**18 - 1)] | None = Field(
        None, description="Only entries behind this one: `next` of the page before."
    )


class SummaryQuery(SpanQuery):
    """Which span of time, and what to group its entries by."""

    by: Annotated[SummaryBy, BY_NAME] = Field(description="What the entries of a group have in common.")


class Statement(told.Entries):
    """An account over a span of time: `opening` and all entries together make `closing`."""

    since: datetime
    until: datetime
    opening: Money = Field(description="The posted balance just before the span.")
    closing: Money = Field(description="The posted balance at its end; as of now, if the span ends in the future.")


class SummaryGroup(Told):
    """Some entries of an account, added up."""

    count: int = Field(description="How many entries.")
    received: Money = Field(description="What came in.")
    spent: Money = Field(description="What went out; positive.")
    month: str | None = Field(description="The month, such as `2026-11` (UTC), if they are grouped by it.")
    kind: TransferKindName | None = Field(description="The kind, if they are grouped by it.")
    category: str | None = Field(description="Your category, if they are grouped by it; null for those without one.")
    counterparty: told.Party | None = Field(
        description="The other side, if they are grouped by it; null if it is not known any more."
    )


class Summary(Told):
    """What an account received and spent in a span of time."""

    complete: bool = Field(
        description="Whether all of the span was added up: at most its newest 5,000 entries are, and 100 groups shown."
    )
    groups: list[SummaryGroup] = Field(description="Months newest first; other groups with the most money first.")


async def list_entries(call: Call, given: EntriesQuery) -> Reply:
    """What happened on an account, newest first. Entries that arrive while you page shift nothing."""
    account = await _account(call)
    place = None if given.after is None else {account.id: given.after}
    page = await _page(call, given, [account], place)
    end = None if page.goes_on is None else page.goes_on[account.id]
    return Reply(told.Entries(entries=await _listed(call, given, page), next=_next(end)))


async def list_history(call: Call, given: AllEntriesQuery) -> Reply:
    """What happened on all your accounts together, newest first."""
    accounts = {account.id: account for account in await call.ledger.accounts(await call.user_id())}
    place = None if given.after is None else place_of(given.after, accounts)
    page = await _page(call, given, [*accounts.values()], place)
    end = None if page.goes_on is None else text_of(page.goes_on)
    return Reply(told.Entries(entries=await _listed(call, given, page), next=end))


async def read_statement(call: Call, given: StatementQuery) -> Reply:
    """An account over a span of time: what it held before and after, and its entries between, newest first."""
    account, span = await _span(call, given)
    above, below = span.first_sequence - 1, span.last_sequence + 1
    if given.after is not None:
        above, below = (max(given.after, above), below) if given.backward else (above, min(given.after, below))
    reach = PageRequest(given.first, before=below, after=above, newest_first=not given.backward)
    page = await call.ledger.history(account, reach)
    statement = Statement(
        since=given.since,
        until=given.until,
        opening=Money.of(span.opening_minor, account.currency),
        closing=Money.of(span.closing_minor, account.currency),
        entries=await _entries(call, page.items),
        next=_next(page.items[-1].entry.sequence) if page.has_more else None,
    )
    return Reply(statement)


async def export_statement(call: Call, given: SpanQuery) -> Reply:
    """The entries of an account over a span of time as CSV, oldest first, at most 5,000."""
    account, span = await _span(call, given)
    count = span.last_sequence + 1 - span.first_sequence
    if count > EXPORT_MAX:
        raise InvalidInput("until", reasons.SPAN_ENTRIES(most=EXPORT_MAX, count=count))
    await call.caller.spend(count * EXPORT_COST)
    name = f"statement-{account.currency}-{given.since:%Y-%m-%d}-{given.until:%Y-%m-%d}.csv"
    headers = {"Content-Type": CSV, "Content-Disposition": f'attachment; filename="{name}"'}
    return Reply(await _csv(call, account, span), headers=headers)


async def read_summary(call: Call, given: SummaryQuery) -> Reply:
    """What an account received and spent in a span of time, in groups: a chart in one request."""
    _check_span(given)
    account = await _account(call)
    if given.by is SummaryBy.CATEGORY:
        await call.caller.spend(CATEGORY_COST)
    found = await summary(call.wallet.store, account, given.since, given.until, given.by)
    others = [one.counterparty for one in found.groups if one.counterparty is not None]
    view = View(await call.user_id(), call.ledger.clock(), await parties_of(call.wallet.store, others))
    groups = [
        SummaryGroup(
            count=one.count,
            received=Money.of(one.received_minor, account.currency),
            spent=Money.of(one.spent_minor, account.currency),
            month=one.month,
            kind=one.kind,
            category=one.category,
            counterparty=None if one.counterparty is None else view.party(one.counterparty),
        )
        for one in found.groups
    ]
    return Reply(Summary(complete=found.complete, groups=groups))


async def _account(call: Call) -> Account:
    return await call.ledger.account(await call.user_id(), AccountId(call.path("account_id")))


async def _page(
    call: Call, given: HistoryQuery, accounts: list[Account], place: verbs.Place | None
) -> verbs.MergedPage:
    where = await _filter(call, given)
    return await verbs.page_of_histories(
        call.wallet.store, accounts, given.first, place=place, where=where, backward=given.backward
    )


async def _listed(call: Call, given: HistoryQuery, page: verbs.MergedPage) -> list[told.Entry]:
    return await _entries(call, [line for line, _ in given.turned(page.lines)])


async def _entries(call: Call, lines: tuple[HistoryLine, ...] | list[HistoryLine]) -> list[told.Entry]:
    view = await View.of(call.wallet, await call.user_id(), [line.transfer for line in lines])
    return [view.entry(line) for line in lines]


def _next(sequence: int | None) -> str | None:
    return None if sequence is None else str(sequence)


def _check_span(given: SpanQuery) -> None:
    if given.since > given.until:
        raise InvalidInput("since", reasons.SPAN_ORDER())


async def _span(call: Call, given: SpanQuery) -> tuple[Account, verbs.Statement]:
    _check_span(given)
    account = await _account(call)
    return account, await verbs.statement(call.wallet.store, account, given.since, given.until)


async def _filter(call: Call, given: HistoryQuery) -> verbs.HistoryFilter:
    counterparties = None
    if given.counterparty is not None:
        user = await call.wallet.identity.called(given.counterparty)
        counterparties = frozenset() if user is None else await account_ids_of(call.wallet.store, user.id)
    return verbs.HistoryFilter(
        kinds=frozenset(given.kind) or None,
        counterparties=counterparties,
        since=given.since,
        until=given.until,
        amount_min_minor=given.min_minor_units,
        amount_max_minor=given.max_minor_units,
        reference=given.reference,
    )


async def _csv(call: Call, account: Account, span: verbs.Statement) -> str:
    """The rows of a statement. Each balance follows from the one above."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    above = span.first_sequence - 1
    while above < span.last_sequence:
        reach = PageRequest(PAGE_MAX, before=span.last_sequence + 1, after=above, newest_first=False)
        page = await call.ledger.history(account, reach)
        for entry in await _entries(call, page.items):
            rows.writerow(_row(entry))
        if not page.items:  # a store behind its accounts
            break
        above = page.items[-1].entry.sequence
    return text.getvalue()


def inert(text: str) -> str:
    """Text of which a spreadsheet runs no part."""
    return FORMULA.sub(r"\1'", text)


def _row(entry: told.Entry) -> tuple[str, ...]:
    transfer, other = entry.transfer, entry.transfer.counterparty
    names = (other.name, other.username or "") if other else ("", "")
    texts = map(inert, (*names, transfer.reference))
    notes = map(inert, (transfer.category or "", json.dumps(transfer.metadata or {}, ensure_ascii=False)))
    money = entry.amount.decimal, entry.amount.currency, entry.balance_after.decimal
    return (entry.created_at.isoformat(), transfer.kind.name, *texts, *money, transfer.id, *notes)


_OK: Final = HTTPStatus.OK

OPERATIONS: Final = (
    Operation("GET", "/v1/entry", list_history, {_OK: told.Entries}, query=AllEntriesQuery),
    Operation("GET", "/v1/account/{account_id}/entry", list_entries, {_OK: told.Entries}, query=EntriesQuery),
    Operation("GET", "/v1/account/{account_id}/statement", read_statement, {_OK: Statement}, query=StatementQuery),
    Operation("GET", "/v1/account/{account_id}/statement.csv", export_statement, {_OK: Content(CSV)}, query=SpanQuery),
    Operation("GET", "/v1/account/{account_id}/summary", read_summary, {_OK: Summary}, query=SummaryQuery),
)
