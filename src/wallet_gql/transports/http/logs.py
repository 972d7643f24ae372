"""Log lines that carry the id of the request they belong to; as text, or as JSON with more about the request."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from ... import traces
from ...domain.errors import InDoubt, RateLimited, Unavailable, WalletError
from ...settings import LogFormat
from .record import RECORD, RequestRecord

log = logging.getLogger(__name__)

REQUEST_ID_HEADER: Final = "X-Request-Id"

REQUEST_ID: Final[ContextVar[str]] = ContextVar("wallet_request_id", default="-")
"""The id of the request being answered; `-` outside of one."""

_TELL_URLS: Final = ("httpx", "httpcore")
"""Libraries that log every URL they call. A URL may hold a secret, such as a token in a merchant's webhook."""


class RequestIdFilter(logging.Filter):
    """Adds the field `request_id` to every log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the field; keep every record."""
        record.request_id = REQUEST_ID.get()
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line. What is not known, such as the user of a request without a session, is left out."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        request = RECORD.get() or RequestRecord()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "traceId": traces.trace_id(),
            "requestId": REQUEST_ID.get().removeprefix("-"),
            "userId": request.user_id,
            "verb": ",".join(dict.fromkeys(request.known)),
            "outcome": request.outcome,
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        told = {name: value for name, value in line.items() if value}
        try:
            return orjson.dumps(told).decode()
        except TypeError:  # a lone surrogate, as in a name of a file or in what a client sent
            return orjson.dumps(
                {name: value.encode(errors="backslashreplace").decode() for name, value in told.items()}
            ).decode()


def log_answer(verb: str, error: WalletError) -> None:
    """Log one line for an answer that is retryable or in doubt: the verb, the code and the reason.

    Refusals are not logged; exceeded rate limits are logged where they are counted.
    """
    if isinstance(error, Unavailable | InDoubt) and not isinstance(error, RateLimited):
        log.warning("%s is answered with %s: %s", verb, error.code, error.detail or error.message)


def log_config(level: str, form: LogFormat = LogFormat.TEXT) -> dict[str, Any]:
    """A `logging.config.dictConfig` for the server: everything from `level` (`info`, …) up goes to standard error."""
    text = {"format": "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}},
        "formatters": {"text": text, "json": {"()": JsonLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": form.value, "filters": ["request_id"]}},
        "loggers": {
            **{name: {"level": "WARNING"} for name in ("uvicorn", *_TELL_URLS)},
            "opentelemetry": {"level": "ERROR"},  # each new attempt to reach a collector is a warning
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
    }
