"""One request's turn, as the application sees it, and the response that the application sends in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..domain.changes import Decision, Scope, Snapshot
from ._http import Answer, Message, Send, Stored, has_body, send_stored
from .turns import Effects, Turn

JoinedDecide = Callable[[Snapshot], Decision[Answer | None]]


@dataclass(slots=True)
class HttpTurn:
    """One request's turn, for the application: with `join`, its effect commits together with its answer."""

    turn: Turn
    joined: tuple[Scope, JoinedDecide] | None = None
    ended: bool = False
    """Whether the response has ended or its answer is committed, so that nothing can be joined any more."""

    def join(self, scope: Scope, decide: JoinedDecide) -> None:
        """Commit these changes together with the answer; nothing is written before. At most once for each request.

        `scope.home` must be `slot`. `decide` is pure and may run several times. If it returns an `Answer`, that is sent
        instead of the application's own. A refusal is an `Answer`, too; an exception is an error of the server.

        Join before the response grows larger than `response_max`. After that its status has been sent: if `decide`
        returns an `Answer`, the response is broken off, and a retry gets the `Answer`.

        Raises RuntimeError, and `decide` will not run, if the response has ended, as in a background task, or if it has
        grown larger than `response_max` and effects are OUTSIDE.
        """
        if self.ended:
            raise RuntimeError("joined too late: the response has ended, or is too large to wait for")
        assert self.joined is None, "join was called twice in one request"
        self.joined = scope, decide

    @property
    def slot(self) -> int:
        """The slot in which the request commits."""
        return self.turn.ask.slot

    @property
    def key_outside(self) -> str:
        """An idempotency key for a service that the application calls: always the same for this request."""
        return self.turn.key_outside


class Ending(Protocol):
    """What a response needs of the middleware."""

    response_max: int

    async def end(self, http_turn: HttpTurn, stored: Stored, *, whole: bool = True) -> Stored:
        """Store the answer of a request; returns what to send."""
        ...


class Capture:
    """Collects the application's response, until it has ended and its answer is committed.

    One that grows larger than `response_max` is passed on as it comes. When it is committed depends on what is known:

    - Something is joined, or effects are OUTSIDE: at once.
    - Nothing is joined yet: later, because the application may still join. The last part is held back until then: if
      the commit fails, the client sees a response that is broken off, and asks again.
    """

    def __init__(self, owner: Ending, turn: HttpTurn, method: str, send: Send) -> None:
        self._owner = owner
        self._turn = turn
        self._method = method
        self._send = send
        self._begun = False
        self._left: int | None = None
        self.stored = Stored()
        """The response; once its passing on has begun, its body is the part that has not been sent."""
        self.ended = False
        self.committed = False

    async def send(self, message: Message) -> None:
        """Take one message from the application."""
        if self.committed:
            self.ended = self.ended or not message.get("more_body", False)
            await self._send(message)
            return
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self.stored = Stored(message["status"], headers)
            return
        if message["type"] != "http.response.body":
            return
        if has_body(self._method, self.stored.status):
            self.stored.body += message.get("body", b"")
        if not message.get("more_body", False):
            self.ended = self._turn.ended = True  # `finish` commits, when the application has returned
        elif self._begun or len(self.stored.body) > self._owner.response_max:
            await self._go_on()

    async def finish(self) -> None:
        """Commit the response that has ended, and send what of it was not sent."""
        if self.committed:
            return
        is_whole = not self._begun and len(self.stored.body) <= self._owner.response_max
        sent = await self._end(whole=is_whole and not self.stored.is_encoded)
        if not self._begun:
            await send_stored(self._send, sent, self._method)
            return
        if self._turn.joined is not None:  # else nothing is lost if it was not committed
            self._check_own(sent)
        await self._pass_on(more=False)

    async def _go_on(self) -> None:
        """Pass on what has come of a large response. More will come."""
        if self._turn.joined is not None or self._turn.turn.ask.effects is Effects.OUTSIDE:
            sent = await self._end(whole=False)
            if sent is not self.stored and not self._begun:
                await send_stored(self._send, sent, self._method)
            self._check_own(sent)
        elif self._completes_length():
            return
        await self._pass_on(more=True)

    def _check_own(self, sent: Stored) -> None:
        """Raise RuntimeError if another answer takes the place of the application's: it cannot send more of its own."""
        if sent is not self.stored:
            raise RuntimeError(f"a large response is broken off: another answer takes its place, {sent.status}")

    def _completes_length(self) -> bool:
        """Whether a client would have all that `content-length` tells, and so take the response for whole."""
        left = self._left if self._begun else self.stored.content_length
        return left is not None and len(self.stored.body) >= left

    async def _end(self, *, whole: bool) -> Stored:
        self._turn.ended = True
        sent = await self._owner.end(self._turn, self.stored, whole=whole)
        self.committed = True
        return sent

    async def _pass_on(self, *, more: bool) -> None:
        if not self._begun:
            self._begun, self._left = True, self.stored.content_length
            await self._send(
                {"type": "http.response.start", "status": self.stored.status, "headers": self.stored.headers}
            )
        body, self.stored.body = self.stored.body, b""
        if self._left is not None:
            self._left -= len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
