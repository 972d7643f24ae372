"""Security headers and CORS: what browsers may do with an answer, and which other sites may read it."""

from __future__ import annotations

from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from ...settings import Settings
from .logs import REQUEST_ID_HEADER

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
"""Headers of every answer, unless it sets them itself."""

STRICT_TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""In production over TLS: browsers use only TLS for a year. In development this would lock people out."""

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
ASKED_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", REQUEST_ID_HEADER)
TOOL_HEADERS: Final = (
    "traceparent",  # W3C Trace Context, OpenTelemetry
    "tracestate",
    "baggage",
    "sentry-trace",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-trace-id",
    "newrelic",
    "b3",  # Zipkin
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "apollographql-client-name",
    "apollographql-client-version",
    "apollo-require-preflight",
    "x-apollo-operation-id",
    "x-apollo-operation-name",
    "x-apollo-operation-type",
    "x-apollo-cache-key",
    "x-requested-with",
    "graphql-preflight",
    "cache-control",
    "pragma",
)
"""Headers that tracing and GraphQL clients add by themselves. The wallet ignores them."""

_TOLD_HEADERS: Final = ("Idempotent-Replayed", "Location", "Retry-After", REQUEST_ID_HEADER)
_PREFLIGHT_SECONDS: Final = 600


def cross_origin(settings: Settings) -> list[Middleware]:
    """CORS for the allowed origins, with cookies. Without any, no other site has access."""
    if not settings.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.origins),
            allow_credentials=True,
            allow_methods=_METHODS,
            allow_headers=(*ASKED_HEADERS, *TOOL_HEADERS, *settings.more_headers),
            expose_headers=_TOLD_HEADERS,
            max_age=_PREFLIGHT_SECONDS,
        )
    ]
