"""A stand-in for Stripe over real HTTP that keeps state and simulates failures of Stripe and of the network.

```python
with FakeStripe() as fake:
    settings = load_settings(stripe_api_key=fake.key, stripe_api_base=fake.url, …)
    fake.state.pay(intent_id)
    raw, header = fake.signed(fake.state.events[-1])
```

It honours `Idempotency-Key`: the same key and parameters get the first answer again, other parameters an error.
`faults` says what happens to the next requests, in order:

| fault | what happens |
|---|---|
| `ok` | nothing unusual |
| `lose_request` | the connection ends before anything is done |
| `lose_answer` | it is done, and the connection ends without an answer |
| `error` | 500, and nothing is done; under a key the 500 is given again |
| `busy` | 429, and nothing is done |
| `conflict` | 409, as if the same key were in use; nothing is done |
| `refuse` | 400, unless the key has an answer already; nothing is done, and it is not given again |
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, urlsplit

from ..integrations.stripe.signature import sign
from .stripe_state import Body, Refusal, StripeState

FAULTS: Final = ("ok", "lose_request", "lose_answer", "error", "busy", "conflict", "refuse")


class FakeStripe:
    """The server, in threads of its own. `lock` guards `state` while requests come in."""

    def __init__(self, secrets: Sequence[str] = ("whsec_of_the_tests",)) -> None:
        """`secrets` sign the webhooks, all of them at once as Stripe does while one is being rotated."""
        self.state = StripeState()
        self.key = "sk_test_" + "standin0" * 3
        self.secrets = tuple(secrets)
        self.faults: deque[str] = deque()
        self.requests: list[tuple[str, str, Body]] = []
        """The requests so far: method, path, parameters."""
        self.versions: set[str | None] = set()
        self.lock = threading.RLock()
        self._kept: dict[tuple[str, str], tuple[str, int, Body]] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Start again with an empty platform at the same address."""
        with self.lock:
            self.state = StripeState()
            self.faults.clear()
            self.requests.clear()
            self._kept.clear()

    def forget_keys(self) -> None:
        """Forget all idempotency keys, as Stripe does after a day."""
        with self.lock:
            self._kept.clear()

    def signed(self, event: Body, *, at: int | None = None, secrets: Sequence[str] | None = None) -> tuple[bytes, str]:
        """An event as it is posted: the raw body and its `Stripe-Signature`."""
        raw = json.dumps(event, indent=2).encode()  # Stripe indents its JSON, and the signature is over the bytes
        moment = self.state.now if at is None else at
        headers = [sign(raw, secret, moment) for secret in (self.secrets if secrets is None else secrets)]
        return raw, ",".join([headers[0], *(header.partition(",")[2] for header in headers[1:])])

    def handle(self, method: str, path: str, params: Body, headers: Any) -> tuple[int, Body] | None:
        """The status and body of a request; None: hang up without an answer."""
        with self.lock:
            fault = self.faults.popleft() if self.faults else "ok"
            self.requests.append((method, path, params))
            self.versions.add(headers.get("Stripe-Version"))
            if headers.get("Authorization") != f"Bearer {self.key}":
                return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
            if fault == "lose_request":
                return None
            if fault in ("busy", "conflict"):
                status = 429 if fault == "busy" else 409
                return status, {"error": {"type": "api_error", "code": fault, "message": fault}}
            answer = self._once(method, path, params, headers, fault)
            return None if fault == "lose_answer" else answer

    def _once(self, method: str, path: str, params: Body, headers: Any, fault: str) -> tuple[int, Body]:
        key, account = headers.get("Idempotency-Key"), headers.get("Stripe-Account") or ""
        if method != "POST" or key is None:
            return _FAILING[fault] if fault in _FAILING else self._answer(method, path, params, account)[:2]
        print_ = json.dumps([method, path, params], sort_keys=True)
        kept = self._kept.get((account, key))
        if kept is not None and kept[0] != print_:
            return 400, {"error": {"type": "idempotency_error", "message": "Keys can only be used with one request"}}
        if kept is not None:
            return kept[1:]
        if fault in _FAILING:
            status, body, stored = *_FAILING[fault], fault == "error"
        else:
            status, body, stored = self._answer(method, path, params, account)
        if stored:
            self._kept[account, key] = (print_, status, body)
        return status, body

    def _answer(self, method: str, path: str, params: Body, account: str) -> tuple[int, Body, bool]:
        try:
            return 200, self.state.answer(method, path, params, account), True
        except Refusal as refused:
            return refused.status, refused.body, refused.stored


_FAILING: Final[dict[str, tuple[int, Body]]] = {
    "error": (500, {"error": {"type": "api_error", "message": "An unknown error occurred"}}),
    "refuse": (400, {"error": {"type": "invalid_request_error", "code": "account_invalid", "message": "not now"}}),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeStripe


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
        params = unfold(parts.query or self.rfile.read(length).decode())
        answer = self.server.fake.handle(self.command, parts.path, params, self.headers)
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        raw = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
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
