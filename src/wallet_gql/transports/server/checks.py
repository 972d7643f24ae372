"""The checks that `serve` makes before it listens, in addition to the settings' own. `config check` makes the same."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from ...backends import open_store
from ...domain.errors import ConfigurationError
from ...integrations.stripe.payments import check_library
from ...integrations.webhooks.sealing import check_library as check_sealing_library
from ...settings import Check, Mode, Settings
from ...traces import check_library as check_tracing_library
from ...urls import hidden
from ..catalogue.operations import NAMES
from ..graphql.documents import Documents
from ..http.origins import is_loopback
from ..http.rate_limits import check_names, check_storage
from ..http.tls import check_transport


def _check(variable: str, *fields: str, by: Callable[[Settings], object]) -> Check:
    """Turn a check that raises into one that returns faults; `variable` is named if the fault names none."""

    def faults(settings: Settings) -> list[str]:
        try:
            by(settings)
        except ConfigurationError as error:
            return [_named(variable, hidden(line)) for line in error.message.splitlines()]
        return []

    return Check(frozenset(fields), faults)


def _named(variable: str, line: str) -> str:
    return line if line.startswith("WALLET_") else f"{variable}: {line}"


def _check_host(host: str) -> None:
    """Refuse a host that is not valid, or not an address of this machine. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, 0), family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise ConfigurationError(
            f"cannot listen on {host!r}: {reason}; name an address of this machine, such as 127.0.0.1"
        ) from error


def _check_metrics(settings: Settings) -> None:
    if settings.metrics_at is not None:
        _check_host(settings.metrics_at.host)


TRANSPORT: Final = _check("WALLET_HOST", "tls_cert", "tls_key", "insecure_http", "host", by=check_transport)
"""Skipped for `serve --tls-self-signed`, whose certificate does not exist yet."""

CHECKS: Final = (
    _check("WALLET_STORAGE", "storage", by=lambda settings: open_store(settings.storage)),
    TRANSPORT,
    _check("WALLET_HOST", "host", by=lambda settings: _check_host(settings.host)),
    _check("WALLET_METRICS_ADDRESS", "metrics_address", by=_check_metrics),
    _check("WALLET_TRACES_URL", "traces_url", by=lambda settings: check_tracing_library(settings.traces_url)),
    _check("WALLET_TRUSTED_DOCUMENTS_FILE", "trusted_documents", "trusted_documents_file", by=Documents.load),
    _check("WALLET_RATE_LIMITS", "rate_limits", by=lambda settings: check_names(settings, NAMES)),
    _check("WALLET_RATE_LIMIT_STORAGE", "rate_limit_storage", by=check_storage),
    _check("WALLET_STRIPE_API_KEY", "stripe_api_key", by=check_library),
    _check("WALLET_SECRET_KEYS", "secret_keys", by=check_sealing_library),
)


def warnings_of(settings: Settings) -> list[str]:
    """What is allowed, and most likely not wanted."""
    if settings.mode is Mode.DEVELOPMENT and not is_loopback(settings.host):
        warning = f"it is development on {settings.host}, which others can reach"
        return [f"WALLET_MODE: warning: {warning}; set it to production, or listen on 127.0.0.1"]
    return []
