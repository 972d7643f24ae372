"""An answer leaves the server in one write, where its head does not have to go ahead."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.server import ServerState

from wallet_gql.testing.patience import turns
from wallet_gql.transports.http.heads import BoundedHeads, Times

ASKED: Final = b"GET / HTTP/1.1\r\nhost: x\r\n"
START: Final = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
BODY: Final = {"type": "http.response.body", "body": b"tail"}


class Wire:
    """A transport that notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.is_over = False

    def write(self, data: bytes) -> None:
        """One call of the system."""
        assert not self.is_over, "written to a connection that is closed"
        self.done.append(data)

    def close(self) -> None:
        """The end; a second one says nothing."""
        if not self.is_over:
            self.done.append(b"(closed)")
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self.is_over

    def get_extra_info(self, _name: str) -> None:
        """Nothing is known."""

    def pause_reading(self) -> None:
        """Nothing to pause."""

    resume_reading = pause_reading


def connected(app: Any) -> tuple[BoundedHeads, Wire]:
    """A connection to a server of this application."""
    config = uvicorn.Config(app, lifespan="off", access_log=False)
    protocol = BoundedHeads(config, ServerState(), {}, times=Times(60, 60))
    wire = Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def answered(app: Any, *requests: bytes) -> list[bytes]:
    """What the connection was told to do, once the application has answered."""
    protocol, wire = connected(app)
    protocol.data_received(b"".join(requests))
    while protocol.tasks:
        await asyncio.gather(*protocol.tasks)
    done = [*wire.done]
    protocol.connection_lost(None)
    return done


async def at_once(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer as usual."""
    await send(START)
    await send(BODY)


async def in_pieces(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer with a stream, whose pieces are long in coming."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await turns()
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


@pytest.mark.parametrize(("more", "ends"), [(b"", False), (b"connection: close\r\n", True)])
async def test_head_and_body_are_one_write(more: bytes, *, ends: bool) -> None:
    """Also of an answer that ends the connection: it is closed behind its body."""
    whole, *rest = await answered(at_once, ASKED, more, b"\r\n")
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\ntail")
    assert (b"connection: close" in whole) is ends
    assert rest == [b"(closed)"] * ends


async def test_pipelined_answers_come_in_order() -> None:
    """Each is one write."""
    done = await answered(at_once, ASKED, b"\r\n", ASKED, b"connection: close\r\n\r\n")
    assert [one[-4:] for one in done] == [b"tail", b"tail", b"sed)"]


async def test_the_head_of_a_stream_goes_ahead() -> None:
    """It does not wait for the first piece, and no piece waits for the next."""
    head, *pieces = await answered(in_pieces, ASKED, b"\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert pieces == [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


async def test_an_invitation_to_send_comes_before_the_answer() -> None:
    """`100 Continue` looks like a head, too."""

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await at_once(scope, receive, send)

    protocol, wire = connected(reads)
    protocol.data_received(ASKED + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    await turns()
    assert wire.done == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    protocol.data_received(b"{}")
    await turns()
    assert wire.done[1].endswith(b"tail")
    protocol.connection_lost(None)


async def test_nothing_is_written_behind_the_end() -> None:
    """Where the connection is cut while a head waits, the head is dropped."""
    asked = asyncio.Event()

    async def cut(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        wire.close()
        asked.set()
        await asyncio.Event().wait()

    protocol, wire = connected(cut)
    protocol.data_received(ASKED + b"\r\n")
    await asked.wait()
    await turns()
    assert wire.done == [b"(closed)"]
    protocol.connection_lost(None)
