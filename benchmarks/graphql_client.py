"""Sends requests over many connections: the load for `graphql_http.py`, as a process of its own.

Reads one JSON object from standard input and writes one to standard output. Each connection sends its next request when
the answer to the last one is whole and right. With a `rate` requests are due at that pace instead, and a connection
sends the oldest that is due; how long an answer took is counted from when its request was due. `{KEY}` in a request
becomes a text that no other request has.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

KEY: Final = "{KEY}"
KEY_LENGTH: Final = 24
_PIECE: Final = 1 << 18
_LATE_SECONDS: Final = 10.0


class WrongAnswerError(Exception):
    """An answer that is no success."""


class Connection:
    """One connection, with at most one request in flight."""

    def __init__(self, port: int, marker: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.marker = marker
        self.sent_at = 0.0
        self._came = b""
        self._whole = 0

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what came; whether the answer is whole. Raises WrongAnswerError."""
        piece = self.socket.recv(_PIECE)
        if not piece:
            raise WrongAnswerError(f"the server closed the connection after {self._came[:500]!r}")
        self._came = self._came + piece if self._came else piece
        if not self._whole:
            self._whole = _length(self._came)
        if not self._whole or len(self._came) < self._whole:
            return False
        if not self._came.startswith(b"HTTP/1.1 200") or self.marker not in self._came or b'"errors"' in self._came:
            raise WrongAnswerError(repr(self._came[:500]))
        self._came, self._whole = b"", 0
        return True


def _length(came: bytes) -> int:
    """The bytes of a whole answer; 0 while its head is not whole. Raises WrongAnswerError."""
    end = came.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = came[:end].lower()
    place = head.find(b"\r\ncontent-length:")
    if place < 0:
        raise WrongAnswerError(f"an answer without a length: {came[:500]!r}")
    return end + 4 + int(head[place + 17 :].partition(b"\r\n")[0])


def requests_of(bodies: list[str], token_lines: list[str]) -> Iterator[bytes]:
    """The requests, over and over, each with a key of its own."""
    mark = KEY.encode()
    made = []
    for body, line in zip(bodies, token_lines, strict=True):
        length = len(body.encode()) + (KEY_LENGTH - len(KEY)) * body.count(KEY)
        lines = ["POST /graphql HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
        lines += ["accept: application/json", f"content-length: {length}", *([line] if line else []), "", body]
        made.append("\r\n".join(lines).encode().split(mark))
    run = f"{time.time_ns():x}-{os.getpid():x}"[-12:]
    for number, parts in enumerate(itertools.cycle(made)):
        yield f"{run}{number:012d}".encode().rjust(KEY_LENGTH, b"k").join(parts)


def closed(given: dict[str, Any], open_: list[Connection], todo: Iterator[bytes]) -> list[float]:
    """Keep all connections busy until the time is over, or so many requests are sent; the time of each answer."""
    poll, of = select.epoll(), {one.socket.fileno(): one for one in open_}
    took: list[float] = []
    ends, most = time.perf_counter() + given["seconds"], given.get("requests") or sys.maxsize
    for one in open_:
        poll.register(one.socket.fileno(), select.EPOLLIN)
        one.send(next(todo))
    busy = len(open_)
    while busy:
        for number, _ in poll.poll():
            one = of[number]
            if not one.receive():
                continue
            now = time.perf_counter()
            took.append(now - one.sent_at)
            if now < ends and len(took) + busy <= most:
                one.send(next(todo))
            else:
                busy -= 1
    return took


def paced(given: dict[str, Any], open_: list[Connection], todo: Iterator[bytes]) -> list[float]:
    """Send at a pace until the time is over; the time of each answer, from when its request was due."""
    poll, of = select.epoll(), {one.socket.fileno(): one for one in open_}
    for number in of:
        poll.register(number, select.EPOLLIN)
    idle, due, took = [*open_], deque[float](), list[float]()
    following = time.perf_counter()
    ends, between = following + given["seconds"], 1 / given["rate"]
    while following < ends or due or len(idle) < len(open_):
        now = time.perf_counter()
        while following <= min(now, ends):
            due.append(following)
            following += between
        while due and idle:
            one = idle.pop()
            one.send(next(todo))
            one.sent_at = due.popleft()
        if now > ends + _LATE_SECONDS:
            raise WrongAnswerError("the server does not keep up with the rate")
        for number, _ in poll.poll(max(following - time.perf_counter(), 0) if following < ends else 1):
            if of[number].receive():
                took.append(time.perf_counter() - of[number].sent_at)
                idle.append(of[number])
    return took


def run(given: dict[str, Any]) -> dict[str, Any]:
    """Send the load, and tell how it went. Raises WrongAnswerError."""
    todo = requests_of(given["bodies"], given["lines"])
    open_ = [Connection(given["port"], given["marker"].encode()) for _ in range(given["connections"])]
    began, used = time.perf_counter(), time.process_time()
    took = paced(given, open_, todo) if given.get("rate") else closed(given, open_, todo)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    took.sort()
    return {
        "requests": len(took),
        "seconds": seconds,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[int(len(took) * 0.99)] * 1e3,
        "client_share": cpu / seconds,
    }


def main() -> int:
    """One run; a wrong answer is told, too."""
    try:
        found = run(json.load(sys.stdin))
    except (WrongAnswerError, OSError) as error:
        found = {"error": str(error)}
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
