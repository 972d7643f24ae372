"""REST's live stream: `/v1/viewer/events`. Its events are those of GraphQL's `viewerEvents`, in the JSON of REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final

from pydantic import Field
from starlette.types import ASGIApp

from ...domain.ids import UserId
from ...runtime import Wallet
from ...storage import HistoryLine
from ...verbs.whole import Whole
from . import models as told
from .payments import TopUp, Withdrawal, top_up_view, withdrawal_view
from .routing import Call, Content, Operation, Reply
from .values import Given, Text, Told
from .views import View, account_view

MEDIA_TYPE: Final = "text/event-stream"
ITEM_COST: Final = 25
"""The cost of each account, entry, hold, top-up and withdrawal of an event."""


class StreamQuery(Given):
    """Where the stream goes on."""

    after: Text | None = Field(
        None,
        description="The `cursor` of the last event that you have; the header `Last-Event-ID` wins. Without it, only "
        "entries that are new from now on.",
    )


class ViewerEvent(Told):
    """What has changed since the event before. Replace what you have of the same id."""

    cursor: str = Field(description="Resume with it as `after`: no entry is missed or comes twice.")
    snapshot: bool = Field(
        description="True in the first event, which has all accounts, the newest hundred holds, the newest hundred "
        "open holds among the newest 2,000, and the newest 20 top-ups and withdrawals. With fewer than 100 open holds "
        "in it, and no open hold older than the newest 2,000, a hold that is not there is not open any more; otherwise "
        "read `/v1/hold`."
    )
    accounts: list[told.Account] = Field(description="The accounts that have changed, as they are now.")
    entries: list[told.Entry] = Field(
        description="The new entries, each account's in their order; at most a hundred of an account, others follow."
    )
    holds: list[told.Hold] = Field(description="The holds, of both directions, that are new or have closed.")
    top_ups: list[TopUp] = Field(description="The top-ups that are new or have changed.")
    withdrawals: list[Withdrawal] = Field(description="The withdrawals that are new or have changed.")

    def cost(self) -> int:
        """What it costs to send it."""
        items = *self.accounts, *self.entries, *self.holds, *self.top_ups, *self.withdrawals
        return 1 + ITEM_COST * len(items)


async def event_view(
    wallet: Wallet, viewer_id: UserId, cursor: str, state: Whole, lines: Iterable[HistoryLine], *, snapshot: bool
) -> ViewerEvent:
    """An event, as the viewer sees it. Raises Unavailable."""
    found = list(lines)
    view = await View.of(wallet, viewer_id, [*(line.transfer for line in found), *state.holds.values()])
    return ViewerEvent(
        cursor=cursor,
        snapshot=snapshot,
        accounts=[account_view(one) for one in state.accounts.values()],
        entries=[view.entry(line) for line in found],
        holds=[view.hold(one) for one in state.holds.values()],
        top_ups=[top_up_view(one) for one in state.top_ups.values()],
        withdrawals=[withdrawal_view(one) for one in state.withdrawals.values()],
    )


Streaming = Callable[[Call, str | None], Awaitable[ASGIApp]]
"""Makes the stream of a request. The application has it, as `state.streaming`: both APIs take part in it."""


async def viewer_events(call: Call, given: StreamQuery) -> Reply:
    """All that changes for you, as server-sent events: accounts, entries, holds, top-ups, withdrawals.

    The data of each event is a `ViewerEvent`; the first one has all as it is (see `snapshot`). Its id is its cursor, so
    an `EventSource` resumes by itself. What changes comes within about a second. A stream that has to end says why in
    an event called `problem`, for example `UNAUTHENTICATED` when your session has ended. Refused with `RATE_LIMITED`
    while you have too many open.
    """
    streaming: Streaming = call.request.app.state.streaming
    return Reply(None, stream=await streaming(call, given.after))


OPERATIONS: Final = (
    Operation(
        "GET", "/v1/viewer/events", viewer_events, {HTTPStatus.OK: Content(MEDIA_TYPE, ViewerEvent)}, query=StreamQuery
    ),
)
