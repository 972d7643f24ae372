"""One stream of everything of a user's that changes: accounts, entries, holds, top-ups and withdrawals.

An event has all that has changed since the one before; the first one has all there is. So a client that lost its
connection is right again after one event, and a client that reads slowly gets fewer events, not older ones. Entries
come each once and in order; a cursor names the last one of each account.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import strawberry

from ...domain import model
from ...domain.errors import InvariantViolated
from ...domain.ids import AccountId, HoldId, UserId
from ...storage import PAGE_MAX, HistoryLine
from ...verbs.whole import Whole, lines_above, whole_of
from ..catalogue.operations import FILTER_COST
from .accounts import Account
from .context import Context
from .cursors import not_a_cursor, sequences_cursor, sequences_of
from .describe import about, object_type
from .history import Entry
from .holds import Hold
from .payments import TopUp, Withdrawal


@object_type
class ViewerEvent:
    """What has changed since the event before. Replace what you have of the same id."""

    cursor: str = about("Resume with it as `after`: no entry is missed or comes twice.")
    snapshot: bool = about(
        "True in the first event of a subscription, which has all accounts, the newest hundred holds, the newest "
        "hundred open holds among the newest 2,000, and the newest 20 top-ups and withdrawals. With fewer than 100 "
        "open holds in it, and no open hold older than the newest 2,000, a hold that is not there is not open any "
        "more; otherwise read `holds`."
    )
    state: strawberry.Private[Whole]
    lines: strawberry.Private[list[tuple[HistoryLine, model.Account]]]
    viewer_id: strawberry.Private[UserId]

    @strawberry.field
    def accounts(self) -> list[Account]:
        """The accounts that have changed, as they are now."""
        return [Account.of(account) for account in self.state.accounts.values()]

    @strawberry.field
    def entries(self) -> list[Entry]:
        """The new entries, each account's in their order; of one account a hundred at most, the others follow."""
        return [Entry(line=line, owned=account) for line, account in self.lines]

    @strawberry.field
    def holds(self) -> list[Hold]:
        """The holds, of both directions, that are new or have closed."""
        return [Hold.of(hold, self.viewer_id, self.state.at) for hold in self.state.holds.values()]

    @strawberry.field
    def top_ups(self) -> list[TopUp]:
        """The top-ups that are new or have changed."""
        return [TopUp.of(top_up) for top_up in self.state.top_ups.values()]

    @strawberry.field
    def withdrawals(self) -> list[Withdrawal]:
        """The withdrawals that are new or have changed."""
        return [Withdrawal.of(withdrawal) for withdrawal in self.state.withdrawals.values()]


async def follow_viewer(context: Context, after: str | None) -> AsyncGenerator[ViewerEvent, None]:
    """The events of whoever is logged in, until the session ends.

    Raises:
        Unauthenticated: there is no session, or it has ended meanwhile.
        BadRequest: `after` is no cursor of these events. OverLimit: too many subscriptions.
        Unavailable: the store does not answer; subscribe again with the last cursor.
        RateLimited: the events cost more than the budget allows; subscribe again with the last cursor, later.
    """
    owner = (await context.caller.session()).user_id
    after = after if context.resume_from is None else context.resume_from

    async def read(watched: frozenset[HoldId]) -> Whole:
        return await whole_of(context.ledger, owner, watched)

    with context.live.place(owner):
        await context.caller.spend(FILTER_COST)  # the first read searches the holds for those that are open
        state = change = await whole_of(context.ledger, owner)
        told = _begin(state, after)
        cost, is_first = context.cost.requested, True
        while True:
            if not is_first:
                await context.caller.check_again()
            lines = await _new_lines(context, state, told)
            if change or lines or is_first:
                context.cost.requested = cost
                if not is_first:
                    await context.pay_again()
                await _count(context, change, len(lines))
                context.parties.clear_all()  # a subscription outlives what one request may remember
                context.event_id = sequences_cursor(told)
                yield ViewerEvent(
                    cursor=context.event_id, snapshot=is_first, state=change, lines=lines, viewer_id=owner
                )
                is_first = False
            if not any(account.sequence > told[AccountId(name)] for name, account in state.accounts.items()):
                before, state = state, await context.live.rounds.next(owner, state.open_holds, read)
                told |= {AccountId(name): told.get(AccountId(name), 0) for name in state.accounts}
                change = state.since(before)
            else:
                change = state.since(state)


async def _count(context: Context, change: Whole, entries: int) -> None:
    """Deduct the cost of long lists here, where it ends the stream: a field that failed would lose its items."""
    lengths = {
        "accounts": len(change.accounts),
        "entries": entries,
        "holds": len(change.holds),
        "topUps": len(change.top_ups),
        "withdrawals": len(change.withdrawals),
    }
    for name, length in lengths.items():
        await context.count_list(f"ViewerEvent.{name}", length)


def _begin(state: Whole, after: str | None) -> dict[AccountId, int]:
    """The sequence of each account's last entry that the client has. Raises BadRequest."""
    if after is None:
        return {account.id: account.sequence for account in state.accounts.values()}
    told = sequences_of(after, map(AccountId, state.accounts))
    if any(told[account.id] > account.sequence for account in state.accounts.values()):
        raise not_a_cursor()
    return told


async def _new_lines(
    context: Context, state: Whole, told: dict[AccountId, int]
) -> list[tuple[HistoryLine, model.Account]]:
    """The next entries of the accounts, at most a page of them; `told` goes on to them."""
    found: list[tuple[HistoryLine, model.Account]] = []
    for account in state.accounts.values():
        if len(found) >= PAGE_MAX:  # the rest comes with the next event
            break
        for line in await lines_above(context.wallet.store, account, told[account.id]):
            if line.entry.sequence != told[account.id] + 1:
                raise InvariantViolated(f"{account.id}: entry {line.entry.sequence} came after {told[account.id]}")
            told[account.id] += 1
            found.append((line, account))
    return found
