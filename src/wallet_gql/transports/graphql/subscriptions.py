"""What can be watched: an account's events, resumable by sequence number.

First comes the account as it is, also when a client resumes: a hold or a freeze meanwhile has no entry. Then every
entry comes once, in order, whichever process wrote it, and between them changes of the account's state. Whose
account it is, which never changes, is checked at the beginning; the session before each event, and at least every
second: a revoked session sees nothing more. All who watch an account share what is read (`feeds`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import strawberry

from ...domain import model
from ...domain.errors import InvariantViolated
from ...domain.ids import AccountId
from ...storage import HistoryLine
from .accounts import Account
from .context import Context, Info
from .describe import about, argument, object_type
from .failures import BadRequest
from .history import Entry
from .scalars import BigInt, refuse_unreadable
from .viewer_events import ViewerEvent, follow_viewer

_SEQUENCE: Final = re.compile("[0-9]{1,18}", re.ASCII)


@object_type
class AccountEvent:
    """Something that happened on an account."""

    sequence: BigInt = about(
        "The newest entry that has come so far. Resume with it as `afterSequence`: nothing is missed or comes twice."
    )
    entry: Entry | None = about(
        "The new entry; null where only the account's state changed, and in the first event of every subscription."
    )
    account: Account = about("The account as it is now; it may already have entries whose events are still to come.")


@object_type
class Subscription:
    """Everything that can be watched, over WebSockets (`graphql-transport-ws`) or server-sent events."""

    @strawberry.subscription
    async def account_events(
        self,
        info: Info,
        account_id: Annotated[strawberry.ID, argument("One of your accounts.")],
        after_sequence: Annotated[
            BigInt | None,
            argument("Send every entry above this sequence, then each new one. Without it: from now on."),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[AccountEvent, None]:
        """What happens on one of your accounts, as it is committed: each entry exactly once and in order.

        The first event has no entry, but the account as it is: with what was held or frozen meanwhile. Keep the
        `sequence` of the last event. When the connection is lost, subscribe again with it as `afterSequence`. It ends
        with `UNAUTHENTICATED` when your session does.
        """
        after = None if after_sequence is strawberry.UNSET else after_sequence
        events = follow(info.context, AccountId(account_id), after)
        async with aclosing(events):
            async for event in events:
                yield event

    @strawberry.subscription
    async def viewer_events(
        self,
        info: Info,
        after: Annotated[
            str | None,
            argument("The cursor of the last event that you have. Without it, only entries that are new from now on."),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[ViewerEvent, None]:
        """All that changes for the viewer, in one stream: accounts, entries, holds, top-ups, withdrawals.

        The first event has all as it is (see `snapshot`). Keep the `cursor` of the last event; when the connection is
        lost, subscribe again with it. What changes comes within about a second. It ends with `UNAUTHENTICATED` when
        your session does.
        """
        events = follow_viewer(info.context, None if after is strawberry.UNSET else after)
        async with aclosing(events):
            async for event in events:
                yield event


async def follow(
    context: Context, account_id: AccountId, after_sequence: int | None
) -> AsyncGenerator[AccountEvent, None]:
    """The events of an account, until the session ends.

    Raises:
        Unauthenticated: there is no session, or it has ended meanwhile.
        AccountNotFound: the user has no such account; other people's look the same.
        BadRequest: `after_sequence` is none of this account's. OverLimit: too many subscriptions.
        Unavailable: the store does not answer; subscribe again with the last sequence.
        RateLimited: the events cost more than the budget allows; subscribe again with the last sequence, later.
    """
    refuse_unreadable("afterSequence", after_sequence)
    session = await context.caller.session()
    with context.live.place(session.user_id):
        shown = await context.ledger.account(session.user_id, account_id)
        resumed = context.resume_from or ""
        after = int(resumed) if _SEQUENCE.fullmatch(resumed) else after_sequence
        if after is not None and not 0 <= after <= shown.sequence:
            raise BadRequest(f"afterSequence must be 0 to {shown.sequence} on this account, not {after}")
        sent = shown.sequence if after is None else after
        async with context.live.feeds.of(context.ledger, shown) as feed:
            turn: int | None = feed.number
            account = shown
            yield _event(context, sent, None, shown)
            while turn is not None:
                lines = await feed.lines_above(account, sent)
                for line in lines:
                    await context.caller.check_again()
                    await context.pay_again()
                    if line.sequence != sent + 1:
                        raise InvariantViolated(f"{account_id}: entry {line.sequence} came after {sent}")
                    sent, shown = sent + 1, account
                    yield _event(context, sent, line, account)
                if lines:
                    continue
                if account.sequence == sent and _state(account) != _state(shown):
                    await context.pay_again()
                    shown = account
                    yield _event(context, sent, None, account)
                turn = await feed.turn_after(turn)
                await context.caller.check_again()
                account = max(shown, feed.account, key=_version)


def _event(context: Context, sequence: int, line: HistoryLine | None, account: model.Account) -> AccountEvent:
    context.parties.clear_all()  # a subscription outlives what one request may remember
    context.event_id = str(sequence)
    return AccountEvent(
        sequence=BigInt(sequence),
        entry=None if line is None else Entry(line=line, owned=account),
        account=Account.of(account),
    )


def _version(account: model.Account) -> int:
    return account.version


def _state(account: model.Account) -> tuple[object, ...]:
    """What of an account changes without an entry."""
    return account.held_minor, account.status
