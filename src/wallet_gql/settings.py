"""Reads environment variables `WALLET_…` and `.env` into one frozen object; reports all faults at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from ipaddress import ip_network
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import environment
from .domain.errors import ConfigurationError
from .domain.spending import Limits
from .setting_checks import CARD_PATH, CHECKS, STRIPE_API_BASE, Check
from .setting_values import (
    Address,
    GraphqlProfile,
    LogFormat,
    Mode,
    TrustedDocuments,
    address_of,
    collector_of,
    limits_of,
    listed,
    origin_of,
    rates_of,
)

__all__ = [
    "FROM_FILES",
    "Check",
    "GraphqlProfile",
    "LogFormat",
    "Mode",
    "Settings",
    "TrustedDocuments",
    "check_names",
    "load_settings",
]

RATE_LIMITS: Final = (
    "address=6000/minute; user=3000/minute; addressCost=600000/minute; cost=300000/minute; "
    "money=600/minute; lookup=60/minute; logIn=60/minute; signUp=20/minute; "
    "updateMerchant=20/hour; replayEvents=10/hour"
)
_HOST: Final = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.ASCII | re.IGNORECASE)
_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)

MAY_BE_SECRET: Final = frozenset(
    {
        "storage",
        "rate_limit_storage",
        "stripe_api_key",
        "stripe_webhook_secrets",
        "stripe_publishable_key",
        "stripe_api_base",
        "allowed_origins",
        "traces_url",
        "secret_keys",
    }
)
"""Settings whose values never appear in a message."""

FROM_FILES: Final = ("storage", "rate_limit_storage", "stripe_api_key", "stripe_webhook_secrets", "secret_keys")
"""Settings that may also be in a file, which `WALLET_STORAGE_FILE` and so on name."""


class Settings(BaseSettings):
    """All settings. Each field is set by the environment variable `WALLET_` + its name in upper case."""

    model_config = SettingsConfigDict(env_prefix=environment.PREFIX, env_file=".env", extra="ignore", frozen=True)

    storage: str = Field(
        "sqlite:///wallet.db", repr=False, description="Storage URL: memory://, sqlite:///wallet.db, …"
    )
    mode: Mode = Field(Mode.DEVELOPMENT, description="development, production or test")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=64, description="Server processes")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    log_format: LogFormat = Field(LogFormat.TEXT, description="How log lines look: text, or json for programs")
    metrics_address: str = Field(
        "",
        description="Where Prometheus metrics are served: 127.0.0.1:9464; none: nothing is measured",
    )
    traces_url: str = Field(
        "",
        repr=False,
        description="Where traces are sent by OTLP over HTTP: http://127.0.0.1:4318; none: nothing is traced",
    )
    survey_seconds: float = Field(
        5.0, gt=0, le=3600, description="How often the store is looked at for the metrics: overdue, unsettled, writable"
    )
    books_seconds: float = Field(
        300.0, ge=0, le=86_400, description="How often the metrics sum the whole books of every node; 0: never"
    )
    timeout_seconds: float = Field(10.0, gt=0, le=60, description="How long one money command may take")
    session_cache_seconds: float = Field(
        1.0,
        ge=0,
        le=60,
        description="How long reads trust a session that another process ended; 0: not at all",
    )
    transfer_fee_basis_points: int = Field(0, ge=0, le=5000, description="Fee on transfers, in 1/10,000 of the amount")
    merchant_fee_basis_points: int = Field(
        0, ge=0, le=5000, description="Fee of new merchants, in 1/10,000 of a payment"
    )
    spending_limits: str = Field(
        "",
        description="What a user may spend: EUR:payment=1000.00,day=2000.00,newPayee=200.00; USD:day=500.00; none: all",
    )
    webhook_private_targets: bool = Field(
        default=False, description="Whether merchants' webhooks may go to http and to private addresses"
    )
    webhook_retry_seconds: float = Field(
        5.0, gt=0, le=3600, description="The first wait after a merchant's webhook failed; it doubles"
    )
    sweep_seconds: float = Field(
        1.0, gt=0, le=3600, description="How often expired holds, claims and sessions are swept"
    )
    drain_seconds: float = Field(0.0, ge=0, le=300, description="How long it serves on after a stop signal, not ready")
    head_seconds: float = Field(
        10.0, gt=0, le=300, description="How long a client may take to send the address and headers of a request"
    )
    body_seconds: float = Field(
        30.0, gt=0, le=600, description="How long a client may take to send a body, or to read a piece of the answer"
    )
    keep_alive_seconds: int = Field(
        75, ge=1, le=3600, description="How long a connection without requests is kept; longer than the proxy keeps it"
    )
    graphql_profile: GraphqlProfile = Field(GraphqlProfile.DEFAULT, description="Status codes: default or draft2026")
    graphql_compile_after: int = Field(
        2, ge=0, le=1000, description="From which time on a GraphQL document runs compiled; 0: never"
    )
    trusted_documents: TrustedDocuments = Field(TrustedDocuments.OFF, description="off, prefer or only")
    trusted_documents_file: str = Field("", description="The manifest of trusted documents (JSON, id to document)")
    subscriptions_max: int = Field(20, ge=1, le=1000, description="Open subscriptions of one user in one process")
    allowed_hosts: str = Field(
        "", description="Hosts that requests may be for, without ports: wallet.example …; none: any host"
    )
    allowed_origins: str = Field("", description="Other sites whose pages may use the wallet: https://app.example …")
    allowed_headers: str = Field(
        "", description="More request headers that those sites may send, besides common ones: X-Tenant …"
    )
    trusted_proxies: str = Field("", description="Addresses or networks of proxies whose X-Forwarded-For counts")
    insecure_http: bool = Field(default=False, description="Whether plain HTTP may be served beyond this machine")
    tls_cert: str = Field("", description="File with the TLS certificate and its chain (PEM)")
    tls_key: str = Field("", description="File with the certificate's key (PEM)")
    example_page: bool = Field(default=False, description="Whether the page for people is at / in production, too")
    introspection: bool = Field(default=False, description="Whether the schema can be asked for in production, too")
    secret_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys that encrypt merchants' webhook secrets, by spaces: the first encrypts, all decrypt",
    )
    rate_limits: str = Field(RATE_LIMITS, description="Requests in a time, by name; off for none")
    rate_limit_storage: str = Field(
        "memory://", repr=False, description="Where they are counted: memory://, or redis://host"
    )

    stripe_api_key: SecretStr = Field(SecretStr(""), description="Stripe's secret key; none: nothing is paid in or out")
    stripe_webhook_secrets: SecretStr = Field(
        SecretStr(""), description="Signing secrets of Stripe's webhooks, by spaces: today's and their successors"
    )
    stripe_publishable_key: str = Field("", description="Stripe's key for browsers; with one the page takes cards")
    stripe_api_base: str = Field(
        STRIPE_API_BASE, repr=False, description="Where Stripe's API is; elsewhere for a stand-in"
    )
    stripe_timeout_seconds: float = Field(10.0, gt=0, le=60, description="How long one call to Stripe may take")

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, text: str) -> str:
        for part in listed(text):
            origin_of(part)
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, text: str) -> str:
        for part in listed(text):
            if _HOST.fullmatch(part) is None:
                raise ValueError(f"{part!r} is no host; write for example wallet.example or [::1], and no port or *")
        return text

    @field_validator("allowed_headers")
    @classmethod
    def _check_headers(cls, text: str) -> str:
        for part in listed(text):
            if _HEADER.fullmatch(part) is None:
                raise ValueError(f"{part!r} is no name of a header; write for example X-Tenant, and no patterns")
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, text: str) -> str:
        for part in listed(text):
            ip_network(part)
        return text

    @field_validator("metrics_address")
    @classmethod
    def _check_metrics_address(cls, text: str) -> str:
        address_of(text)
        return text

    @field_validator("traces_url")
    @classmethod
    def _check_traces_url(cls, text: str) -> str:
        collector_of(text)
        return text

    @field_validator("rate_limits")
    @classmethod
    def _check_rates(cls, text: str) -> str:
        rates_of(text)
        return text

    @field_validator("spending_limits")
    @classmethod
    def _check_limits(cls, text: str) -> str:
        limits_of(text)
        return text

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, text: object) -> object:
        return text.lower() if isinstance(text, str) else text

    @cached_property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets of Stripe's webhooks."""
        return tuple(listed(self.stripe_webhook_secrets.get_secret_value()))

    @cached_property
    def card_page(self) -> str | None:
        """The card page of the stand-in for Stripe; None if there is no stand-in."""
        is_stand_in = self.stripe_api_key.get_secret_value() and self.stripe_api_base != STRIPE_API_BASE
        return self.stripe_api_base.rstrip("/") + CARD_PATH if is_stand_in else None

    @cached_property
    def sealing_keys(self) -> tuple[str, ...]:
        """The keys that encrypt merchants' webhook secrets; the first encrypts."""
        return tuple(listed(self.secret_keys.get_secret_value()))

    @cached_property
    def origins(self) -> frozenset[str]:
        """The allowed origins, each in canonical form."""
        return frozenset(map(origin_of, listed(self.allowed_origins)))

    @cached_property
    def limits_by_currency(self) -> dict[str, Limits]:
        """The spending limits of every user, by currency."""
        return limits_of(self.spending_limits)

    @cached_property
    def metrics_at(self) -> Address | None:
        """Where metrics are served; None: nothing is measured."""
        return address_of(self.metrics_address)

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The allowed hosts, in lower case; empty for any."""
        return frozenset(part.lower() for part in listed(self.allowed_hosts))

    @cached_property
    def more_headers(self) -> tuple[str, ...]:
        """Request headers that other sites may send in addition to the common ones."""
        return tuple(listed(self.allowed_headers))

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """The trusted proxies."""
        return tuple(listed(self.trusted_proxies))


def load_settings(checks: Sequence[Check] = (), /, **overrides: Any) -> Settings:
    """Read the environment and `.env`. `overrides` (command-line options) win; `checks` are made in addition.

    Raises:
        ConfigurationError: names every variable that is wrong, with the reason and without secrets.
    """
    faults = _name_faults()
    values, unread = environment.in_files(FROM_FILES)
    settings, wrong = _read({**values, **{name: value for name, value in overrides.items() if value is not None}})
    wrong = {**wrong, **unread}
    faults += wrong.values()
    for check in (*CHECKS, *checks):
        if not check.needs & wrong.keys():
            faults += check.faults(settings)
    if faults:
        raise ConfigurationError("\n".join(dict.fromkeys(faults)))
    return settings


def check_names() -> None:
    """Refuse unknown names, as `load_settings` does. Raises ConfigurationError."""
    if faults := _name_faults():
        raise ConfigurationError("\n".join(faults))


def _name_faults() -> list[str]:
    fields = [*Settings.model_fields, *(f"{field}{environment.IN_FILE}" for field in FROM_FILES)]
    return environment.name_faults(fields, environment.read_names())


def _read(given: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    """The settings, and the faults by field. A wrong setting gets its default, so that the others can be checked."""
    try:
        return Settings(**given), {}
    except ValidationError as error:
        wrong = {str(one["loc"][0]): _fault(str(one["loc"][0]), one) for one in error.errors()}
    return Settings(**{**given, **{name: Settings.model_fields[name].default for name in wrong}}), wrong


def _fault(field: str, error: ErrorDetails) -> str:
    value = "" if field in MAY_BE_SECRET else f" (it is {error['input']!r})"
    described = Settings.model_fields[field]
    default = described.default
    shown = default.get_secret_value() if isinstance(default, SecretStr) else default
    return (
        f"{environment.variable(field)}: {error['msg']}{value}. It sets: {described.description}; "
        f"the default is {'empty' if shown == '' else shown}"
    )
