"""What is traced for operators: spans of OpenTelemetry, sent by OTLP over HTTP.

An operation of the API is a span. Below it is a span for each commit that its commands were in, and for each call to a
server outside. No span has a name, an amount, a user, an address or a secret.

Nothing of OpenTelemetry is imported before `exporting`. Until then `tracer` is None, and nothing is traced. Code that
runs in every request asks for that first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from .domain.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind, Tracer

PATH: Final = "/v1/traces"
"""Where a collector takes spans, below its URL."""

HEADERS: Final = ("traceparent", "tracestate")
"""How a caller says which span a request belongs to."""

STOP_SECONDS: Final = 2.0
"""How long a stopping server waits for a collector to take the last spans."""

tracer: Tracer | None = None
"""None: nothing is traced."""


def check_library(url: str) -> None:
    """Raise ConfigurationError if traces are wanted, and nothing is installed that makes them."""
    if url and find_spec("opentelemetry") is None:
        raise ConfigurationError("traces need the package opentelemetry-sdk: pip install 'wallet-gql[otel]'")


@asynccontextmanager
async def exporting(url: str) -> AsyncIterator[None]:
    """Trace, and send the spans to a collector; without a URL do nothing.

    The standard variables `OTEL_…` say what is sampled, what headers the collector wants, and the service's name.
    """
    global tracer  # noqa: PLW0603 - a process traces once
    if not url:
        yield
        return
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - only who traces needs it
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - same

    resource = Resource.create({"service.name": "wallet-gql"})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(url)))
    tracer = provider.get_tracer("wallet_gql")
    try:
        yield
    finally:
        tracer = None
        ending = Thread(target=provider.shutdown, name="wallet-traces", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_SECONDS)


def _exporter(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see above

    return OTLPSpanExporter(endpoint=f"{url.rstrip('/')}{PATH}")


def operation(headers: Mapping[str, str]) -> AbstractContextManager[Span | None]:
    """A span for one request, or one operation on a WebSocket. `headers` may name the caller's span."""
    if tracer is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only who traces needs it
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - same

    return _span(tracer, "request", SpanKind.SERVER, TraceContextTextMapPropagator().extract(headers))


def call(name: str) -> AbstractContextManager[Span | None]:
    """A span for one call to a server outside."""
    if tracer is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - see above

    return _span(tracer, name, SpanKind.CLIENT)


@contextmanager
def _span(made_by: Tracer, name: str, kind: SpanKind, context: Context | None = None) -> Iterator[Span]:
    """A span around what runs in the block. Of an exception it tells nothing but that there was one."""
    with made_by.start_as_current_span(
        name, context, kind, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception:
            fail(span)
            raise


def fail(span: Span) -> None:
    """What the span stands for went wrong."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - see above

    span.set_status(StatusCode.ERROR)


def current() -> Span | None:
    """The span that what runs now belongs to, if it is recorded."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415 - see above

    span = get_current_span()
    return span if span.is_recording() else None


def trace_id() -> str:
    """The trace that what runs now belongs to, in hexadecimal; empty if nothing is traced."""
    span = None if tracer is None else current()
    return "" if span is None else f"{span.get_span_context().trace_id:032x}"


def committed(commands: Iterable[tuple[Any, str]], seconds: float, size: int) -> None:
    """A commit of so many commands has ended; `commands` are the span and the outcome of each."""
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - see above

    now = time.time_ns()
    for parent, outcome in commands:
        if parent is not None and tracer is not None:
            told: dict[str, str | int] = {"wallet.batch_commands": size, "wallet.outcome": outcome}
            began = now - int(seconds * 1e9)
            tracer.start_span("commit", set_span_in_context(parent), attributes=told, start_time=began).end(now)
