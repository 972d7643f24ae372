"""The stand-in over HTTP: Stripe's API for the wallet, and a card page for people.

It honours `Idempotency-Key`: the same key and parameters get the first answer again, other parameters an error.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, urlsplit

from ...setting_checks import CARD_PATH
from ..stripe.signature import sign
from . import cards
from .state import Body, Refusal, StripeState

HOST: Final = "127.0.0.1"


class StandIn:
    """The server, in threads of its own. `lock` guards `state` while requests come in."""

    def __init__(self, secrets: Sequence[str], *, port: int = 0) -> None:
        """`secrets` sign the webhooks, all of them at once as Stripe does while one is being rotated.

        Raises:
            OSError: the port cannot be had.
        """
        self.state = StripeState()
        self.key = "sk_test_" + "standin0" * 3
        self.secrets = tuple(secrets)
        self.lock = threading.RLock()
        self._kept: dict[tuple[str, str], tuple[str, int, Body]] = {}
        self._server = _Server((HOST, port), _Handler)
        self._server.stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def now(self) -> int:
        """Unix time of what happens now."""
        return int(time.time())

    def signed(self, event: Body, *, at: int | None = None, secrets: Sequence[str] | None = None) -> tuple[bytes, str]:
        """An event as it is posted: the raw body and its `Stripe-Signature`."""
        raw = json.dumps(event, indent=2).encode()  # Stripe indents its JSON, and the signature is over the bytes
        moment = self.now() if at is None else at
        headers = [sign(raw, secret, moment) for secret in (self.secrets if secrets is None else secrets)]
        return raw, ",".join([headers[0], *(header.partition(",")[2] for header in headers[1:])])

    def handle(self, method: str, path: str, params: Body, headers: Any) -> tuple[int, Body] | None:
        """The status and body of a request to the API; None: hang up without an answer."""
        with self.lock:
            self.state.now = self.now()
            if headers.get("Authorization") != f"Bearer {self.key}":
                return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
            return self._once(method, path, params, headers)

    def pay(self, params: Body) -> cards.Shown:
        """The answer to a form of the card page, or to the form that leads to it."""
        with self.lock:
            self.state.now = self.now()
            return cards.answer(self.state, params)

    def _once(self, method: str, path: str, params: Body, headers: Any) -> tuple[int, Body]:
        key, account = headers.get("Idempotency-Key"), headers.get("Stripe-Account") or ""
        if method != "POST" or key is None:
            return self._answer(method, path, params, account)[:2]
        print_ = json.dumps([method, path, params], sort_keys=True)
        kept = self._kept.get((account, key))
        if kept is not None and kept[0] != print_:
            return 400, {"error": {"type": "idempotency_error", "message": "Keys can only be used with one request"}}
        if kept is not None:
            return kept[1:]
        status, body, stored = self._answer(method, path, params, account)
        if stored:
            self._kept[account, key] = (print_, status, body)
        return status, body

    def _answer(self, method: str, path: str, params: Body, account: str) -> tuple[int, Body, bool]:
        """Status, body, and whether a repeated key gets them again."""
        try:
            return 200, self.state.answer(method, path, params, account), True
        except Refusal as refused:
            return refused.status, refused.body, refused.stored


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: StandIn


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm: ClassVar[bool] = True
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        body = self.rfile.read(length).decode(errors="replace")
        params = unfold(parts.query or body)
        if parts.path == CARD_PATH and self.command == "POST":
            self._send(*self.server.stand_in.pay(params))
            return
        answer = self.server.stand_in.handle(self.command, parts.path, params, self.headers)
        if answer is None:
            self.close_connection = True
            return
        self._send(answer[0], json.dumps(answer[1]), {"Content-Type": "application/json"})

    def _send(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        raw = text.encode()
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(raw))}.items()]
        head = "\r\n".join([f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", ""])
        with suppress(ConnectionError):
            self.wfile.write(head.encode() + raw)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def unfold(form: str) -> Body:
    """`metadata[a]=b&expand[0]=c` as nested data."""
    found: Body = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        *way, last = name.replace("]", "").split("[")
        where = found
        for part in way:
            where = where.setdefault(part, {})
        where[last] = value
    return found
