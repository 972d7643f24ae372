"""REST's live stream: the events that GraphQL's `viewerEvents` tells, sent as GraphQL sends them, in REST's JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.types import ASGIApp

from ...domain.errors import Category, InvalidInput, RateLimited, WalletError, reasons
from ..graphql.context import Context
from ..graphql.failures import BadRequest, OverLimit
from ..graphql.sse import EventStream, last_event_id
from ..graphql.viewer_events import ViewerEvent, follow_viewer
from ..http.errors import problem
from ..http.logs import log_answer
from ..http.record import current
from ..rest.events import event_view
from ..rest.routing import Call

RETRY_SECONDS: Final = 30
"""After how long somebody with too many open streams may try again."""


class Stream(EventStream):
    """An ASGI response that sends events, which are made already."""

    end = b""

    def event(self, result: bytes) -> bytes:
        """The event as it is."""
        return result


async def streaming(call: Call, after: str | None) -> ASGIApp:
    """The stream of a request, from the cursor `after` on. What is refused is refused before it begins.

    Raises:
        Unauthenticated; InvalidInput: no cursor. RateLimited: too many streams, or they cost too much.
        Unavailable: the store does not answer.
    """
    context = Context(call.wallet, call.caller, live=call.request.app.state.live)
    context.resume_from = last_event_id(call.request)
    events = follow_viewer(context, after)
    try:
        first = await anext(events)
    except BadRequest as error:
        raise InvalidInput("after", reasons.CURSOR()) from error
    except OverLimit as error:
        raise RateLimited(RETRY_SECONDS) from error
    current().is_stream = True
    return Stream(_told(call, first, events), context)


async def _told(
    call: Call, first: ViewerEvent, events: AsyncGenerator[ViewerEvent, None]
) -> AsyncGenerator[bytes, None]:
    """Each event as it is sent; at the end why it ended."""
    try:
        async with aclosing(events):
            yield await _event(call, first)
            async for event in events:
                yield await _event(call, event)
    except WalletError as error:
        if error.category is Category.INTERNAL:
            raise
        log_answer("viewerEvents", error)
        yield b"event: problem\ndata: %b\n\n" % bytes(problem(error).body)


async def _event(call: Call, event: ViewerEvent) -> bytes:
    """An event with its id, paid for. Raises RateLimited, Unavailable."""
    lines = [line for line, _ in event.lines]
    made = await event_view(call.wallet, event.viewer_id, event.cursor, event.state, lines, snapshot=event.snapshot)
    await call.caller.spend(made.cost())
    return f"id: {event.cursor}\ndata: {made.model_dump_json(by_alias=True)}\n\n".encode()
