"""Traces: what a request did becomes spans, which tell nothing of anybody, and cost nothing where nobody wants them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.integration._graphql import wallet_in
from tests.integration._live import talking
from tests.integration._server import Client, new_key, serving, settle, settle_all
from wallet_gql import traces
from wallet_gql.domain.ids import AccountId
from wallet_gql.integrations.webhooks.events import Event, HttpSender, SendFailed
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.transports.server.app import create_app

COLLECTOR: Final = "http://127.0.0.1:9"
CALLER: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE: Final = int(CALLER.split("-")[1], 16)
PAY: Final = "mutation($input: TransferInput!) { transfer(input: $input) { __typename } }"
LOG_IN: Final = """mutation($login: String!, $password: String!) {
  logIn(input: {login: $login, password: $password}) { __typename } }"""


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Gets the spans instead of a collector."""
    made = InMemorySpanExporter()
    monkeypatch.setattr(traces, "_exporter", lambda _: made)
    monkeypatch.setattr(traces, "STOP_SECONDS", patience(30))
    return made


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    """Those of a name, in the order in which they ended."""
    return [span for span in spans if span.name == name]


def told(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


async def test_a_transfer_is_an_operation_with_its_commit(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    """In the trace of the caller; over GraphQL and REST, paid or refused, by the short way and the long one."""
    async with wallet_in(tmp_path, rate_limits="off", traces_url=COLLECTOR) as wallet:
        ann, bob = await settle(wallet, 2_000), await settle(wallet)
        app = create_app(wallet)
        sent = {"Authorization": f"Bearer {ann.token}", "traceparent": CALLER}
        keys = [new_key() for _ in range(4)]
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=sent) as client,
        ):
            for key, amount_minor in zip(keys, (377, 378, 379, 99_999), strict=True):
                payment = ann.pay(bob.username, amount_minor, key)
                await client.post("/graphql", json={"query": PAY, "variables": {"input": payment}})
            who = {"login": bob.username, "password": "no such secret"}
            await client.post("/graphql", json={"query": LOG_IN, "variables": who})
            await client.get("/v1/account")
            await client.get("/readyz")
    spans = exporter.get_finished_spans()
    paid = named(spans, "transfer")
    assert [told(span) for span in paid] == [
        {"wallet.api": "graphql", "wallet.outcome": code} for code in ("OK", "OK", "OK", "INSUFFICIENT_FUNDS")
    ]
    assert {span.context.trace_id for span in spans} == {TRACE}
    commits = {span.parent.span_id: span for span in named(spans, "commit") if span.parent is not None}
    for span in paid:
        commit = commits[span.context.span_id]
        assert told(commit) == {"wallet.batch_commands": 1, "wallet.outcome": "OK"}  # a refusal is remembered
    assert [told(span)["wallet.outcome"] for span in named(spans, "logIn")] == ["INVALID_CREDENTIALS"]
    assert [span.name for span in spans if told(span).get("wallet.api") == "rest"] == ["listAccounts"]
    assert len(spans) - len(named(spans, "commit")) == 6
    text = "".join(repr((span.name, told(span), span.events, span.links, span.status.description)) for span in spans)
    for secret in (ann.token, ann.username, ann.account_id, bob.username, "example.org", who["password"], "377", *keys):
        assert secret not in text


async def test_a_call_outside_is_a_span_that_tells_no_address(exporter: InMemorySpanExporter) -> None:
    """Here of a merchant's server that refuses connections, at an address with a token in it."""
    event = Event("evt_1", AccountId("acc_1"), 1, "tr_1", "{}")
    async with traces.exporting(COLLECTOR):
        with pytest.raises(SendFailed):
            await HttpSender(allow_private=True)("http://127.0.0.1:9/hook/its-token", event, [], 0)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("webhook", SpanKind.CLIENT, StatusCode.ERROR)
    assert (told(span), span.events, span.status.description) == ({}, (), None)


class Deaf(InMemorySpanExporter):
    """A collector that takes spans for ever."""

    def export(self, spans: object) -> SpanExportResult:
        """Does not end."""
        threading.Event().wait()
        raise AssertionError(spans)


async def test_a_collector_that_does_not_answer_delays_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not taken by then is lost."""
    monkeypatch.setattr(traces, "_exporter", lambda _: Deaf())
    monkeypatch.setattr(traces, "STOP_SECONDS", 0.05)
    async with asyncio.timeout(patience(10)):
        async with traces.exporting(COLLECTOR):
            with traces.call("webhook"):
                pass


class Collector:
    """Takes spans over HTTP."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        """Spans, as OTLP has them."""
        self.services: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == traces.PATH
                asked = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                outer.take(asked)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, asked: Any) -> None:
        """A batch has come."""
        for group in asked.resource_spans:
            self.services |= {one.value.string_value for one in group.resource.attributes if one.key == "service.name"}
            self.found += [span for scope in group.scope_spans for span in scope.spans]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, until the end of the block."""
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def ask_on_a_socket(url: str, token: str) -> None:
    """A read over a WebSocket."""
    async with talking(url, token) as talk:
        await talk.ask("{ viewer { id } }")
        assert [(await talk.hear())["type"] for _ in range(2)] == ["next", "complete"]


def test_a_server_sends_its_spans_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of WebSockets, too. A stranger chooses no trace, and log lines name the trace that they belong to."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    ann, bob = settle_all(storage, 1_000, 0)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "wallet-north")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds
    names = {"transfer", "commit", "viewer"}
    with collecting() as collector:
        settings = {"traces_url": collector.url, "log_format": "json"}
        with serving(tmp_path, storage=storage, **settings) as server, Client(server.url, ann.token) as client:
            client.http.headers["traceparent"] = CALLER
            client.run(PAY, {"input": ann.pay(bob.username, 5, new_key())})
            asyncio.run(ask_on_a_socket(server.url, ann.token))
            wait_until(lambda: names <= {span.name for span in collector.found}, 30, "no spans come")
    assert {span.name for span in collector.found} == names
    assert collector.services == {"wallet-north"}
    found = {span.trace_id.hex() for span in collector.found}
    assert f"{TRACE:032x}" not in found
    assert any(f'"traceId":"{trace}"' in server.log for trace in found)


def test_without_a_collector_nothing_is_imported() -> None:
    """The library would cost memory and start time in every process."""
    asked = "import sys, wallet_gql.transports.server.app; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
