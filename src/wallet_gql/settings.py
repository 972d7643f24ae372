"""Settings: environment variables `WALLET_…` (and a `.env` file) to one frozen object; all faults are told at once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import failpoints
from .domain.errors import ConfigurationError

RATE_LIMITS: Final = (
    "address=6000/minute; user=3000/minute; money=600/minute; lookup=60/minute; logIn=60/minute; signUp=20/minute"
)

_RATE: Final = re.compile(
    r"(?P<name>[A-Za-z]+)=(?P<most>[1-9][0-9]{0,8})/(?P<span>[1-9][0-9]{0,3})?(?P<unit>second|minute|hour|day)"
)
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
STRIPE_API_BASE: Final = "https://api.stripe.com"
_STRIPE_KEY: Final = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)
_WEBHOOK_SECRETS_MAX: Final = 4
"""Two endpoints (the account's own and its connected accounts'), each with its successor."""

_HOST: Final = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.ASCII | re.IGNORECASE)
_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Mode(StrEnum):
    """`production` serves no GraphiQL and refuses a store that keeps nothing; `test` alone may arm failpoints."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"
    TEST = "test"


class GraphqlProfile(StrEnum):
    """Which status codes GraphQL answers with: those that clients expect, or those of the draft of August 2026."""

    DEFAULT = "default"
    DRAFT2026 = "draft2026"


class TrustedDocuments(StrEnum):
    """`off`: no document is looked up. `prefer`: by its id, or whole. `only`: nothing but those of the manifest."""

    OFF = "off"
    PREFER = "prefer"
    ONLY = "only"


class Settings(BaseSettings):
    """Everything that can be set. Every field is the environment variable `WALLET_` + its name in upper case."""

    model_config = SettingsConfigDict(env_prefix="WALLET_", env_file=".env", extra="ignore", frozen=True)

    storage: str = Field("sqlite:///wallet.db", description="Storage URL: memory://, sqlite:///wallet.db, …")
    mode: Mode = Field(Mode.DEVELOPMENT, description="development, production or test")
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=64, description="Server processes")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    timeout_seconds: float = Field(10.0, gt=0, le=60, description="How long one money command may take")
    transfer_fee_basis_points: int = Field(0, ge=0, le=5000, description="Fee on transfers, in 1/10,000 of the amount")
    merchant_fee_basis_points: int = Field(
        0, ge=0, le=5000, description="Fee of new merchants, in 1/10,000 of a payment"
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
    introspection: bool = Field(default=False, description="Whether the schema can be asked for in production, too")
    rate_limits: str = Field(RATE_LIMITS, description="Requests in a time, by name; off for none")
    rate_limit_storage: str = Field("memory://", description="Where they are counted: memory://, or redis://host")

    stripe_api_key: SecretStr = Field(SecretStr(""), description="Stripe's secret key; none: nothing is paid in or out")
    stripe_webhook_secrets: SecretStr = Field(
        SecretStr(""), description="Signing secrets of Stripe's webhooks, by spaces: today's and their successors"
    )
    stripe_api_base: str = Field(STRIPE_API_BASE, description="Where Stripe's API is; elsewhere for a stand-in")
    stripe_timeout_seconds: float = Field(10.0, gt=0, le=60, description="How long one call to Stripe may take")

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, text: str) -> str:
        for part in _parts(text):
            origin_of(part)
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, text: str) -> str:
        for part in _parts(text):
            if _HOST.fullmatch(part) is None:
                raise ValueError(f"{part!r} is no host; write for example wallet.example or [::1], and no port or *")
        return text

    @field_validator("allowed_headers")
    @classmethod
    def _check_headers(cls, text: str) -> str:
        for part in _parts(text):
            if _HEADER.fullmatch(part) is None:
                raise ValueError(f"{part!r} is no name of a header; write for example X-Tenant, and no patterns")
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, text: str) -> str:
        for part in _parts(text):
            ip_network(part)
        return text

    @field_validator("rate_limits")
    @classmethod
    def _check_rates(cls, text: str) -> str:
        rates_of(text)
        return text

    @field_validator("rate_limit_storage")
    @classmethod
    def _check_rate_storage(cls, url: str) -> str:
        if url != "memory://" and urlsplit(url).scheme not in ("redis", "rediss"):
            raise ValueError("memory://, or a URL that begins with redis:// or rediss://")
        return url

    @cached_property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets of Stripe's webhooks."""
        return tuple(_parts(self.stripe_webhook_secrets.get_secret_value()))

    @cached_property
    def origins(self) -> frozenset[str]:
        """The allowed origins, each in its one spelling."""
        return frozenset(map(origin_of, _parts(self.allowed_origins)))

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The allowed hosts, in lower case; empty for any."""
        return frozenset(part.lower() for part in _parts(self.allowed_hosts))

    @cached_property
    def more_headers(self) -> tuple[str, ...]:
        """The request headers that other sites may send besides the common ones."""
        return tuple(_parts(self.allowed_headers))

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """The trusted proxies."""
        return tuple(_parts(self.trusted_proxies))


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` in `seconds`."""

    most: int
    seconds: int


def rates_of(text: str) -> dict[str, Rate]:
    """`name=100/minute; other=5/15minute` as rates by name; nothing for `off`. Raises ValueError."""
    if text.strip() == "off":
        return {}
    found: dict[str, Rate] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        match = _RATE.fullmatch(part)
        if match is None or match["name"] in found:
            raise ValueError(f"{part!r}: write name=100/minute, each name once, with ; between them; or off")
        found[match["name"]] = Rate(int(match["most"]), int(match["span"] or 1) * _SECONDS[match["unit"]])
    return found


def origin_of(text: str) -> str:
    """An origin in its one spelling: `HTTPS://App.Example:443` is `https://app.example`. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(f"{text!r} is no origin; write for example https://app.example or http://localhost:5173")
    if "*" in parts.hostname:
        raise ValueError(f"{text!r} is a pattern, and matches nothing; name each origin in full")
    if parts.path or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is more than an origin; leave out what follows host and port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; `overrides` win (command-line options).

    Raises:
        ConfigurationError: names every variable that is wrong, with the reason.
    """
    faults: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        faults = [f"WALLET_{str(e['loc'][0]).upper()}: {e['msg']} (it is {e['input']!r})" for e in error.errors()]
    faults += _failpoint_faults(settings) + _stripe_faults(settings)
    if settings is not None and settings.workers > 1 and settings.storage.startswith("memory:"):
        faults.append("WALLET_WORKERS: memory:// lives in one process; use 1 worker, or a store such as sqlite://")
    if settings is not None and settings.mode is Mode.PRODUCTION and settings.storage.startswith("memory:"):
        faults.append("WALLET_STORAGE: memory:// keeps nothing; WALLET_MODE=production wants a durable store")
    if faults or settings is None:
        raise ConfigurationError("\n".join(faults))
    return settings


def _stripe_faults(settings: Settings | None) -> list[str]:
    """What is wrong with Stripe's settings; no fault repeats a secret."""
    if settings is None:
        return []
    key, base, secrets = settings.stripe_api_key.get_secret_value(), settings.stripe_api_base, settings.webhook_secrets
    faults: list[str] = []
    if key and _STRIPE_KEY.fullmatch(key) is None:
        faults.append("WALLET_STRIPE_API_KEY: no secret key; it begins with sk_test_, rk_test_, sk_live_ or rk_live_")
    is_live = key.startswith(("sk_live_", "rk_live_"))
    if is_live and settings.mode is not Mode.PRODUCTION:
        faults.append("WALLET_STRIPE_API_KEY: a live key is for WALLET_MODE=production only; else use a test key")
    parts = urlsplit(base)
    is_near = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or parts.scheme not in (("http", "https") if is_near else ("https",)):
        faults.append("WALLET_STRIPE_API_BASE: write an https URL; http is for this machine only")
    if is_live and base != STRIPE_API_BASE:
        faults.append(f"WALLET_STRIPE_API_BASE: a live key is sent to {STRIPE_API_BASE} alone; unset the variable")
    if len(secrets) > _WEBHOOK_SECRETS_MAX or not all(one.startswith("whsec_") for one in secrets):
        faults.append(f"WALLET_STRIPE_WEBHOOK_SECRETS: at most {_WEBHOOK_SECRETS_MAX}, each begins with whsec_")
    if secrets and not key:
        faults.append("WALLET_STRIPE_WEBHOOK_SECRETS: of no use without WALLET_STRIPE_API_KEY; set that, too")
    return faults


def _failpoint_faults(settings: Settings | None) -> list[str]:
    text = os.environ.get(failpoints.VARIABLE)
    if not text:
        return []
    if settings is not None and settings.mode is not Mode.TEST:
        return [f"{failpoints.VARIABLE}: failpoints are for WALLET_MODE=test only; unset the variable"]
    try:
        failpoints.arm(text)
    except ValueError as error:
        return [f"{failpoints.VARIABLE}: {error}"]
    return []


def env_file() -> Path:
    """Where `.env` is looked for: the working directory."""
    return Path(".env").absolute()
