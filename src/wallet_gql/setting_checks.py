"""Checks of several settings together, and of secrets, whose values pydantic would repeat in its messages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import SecretStr

from . import failpoints, urls
from .domain.errors import ConfigurationError
from .setting_values import Mode

STRIPE_API_BASE: Final = "https://api.stripe.com"
CARD_PATH: Final = "/pay"
"""Where a stand-in for Stripe has its card page."""
_STRIPE_KEY: Final = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)
_PUBLISHABLE_KEY: Final = re.compile(r"pk_(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)
_WEBHOOK_SECRETS_MAX: Final = 4
"""Two endpoints (for the account and for connected accounts), each with a second secret while it is rotated."""
_SECRET_KEY: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=", re.ASCII)
_SECRET_KEYS_MAX: Final = 5
_REDIS_PARAMETERS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


class Given(Protocol):
    """The settings that are checked together: a part of `Settings`, which imports this file."""

    storage: str
    mode: Mode
    workers: int
    rate_limit_storage: str
    stripe_api_key: SecretStr
    stripe_publishable_key: str
    stripe_api_base: str

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets of Stripe's webhooks."""

    @property
    def sealing_keys(self) -> tuple[str, ...]:
        """The keys that encrypt merchants' webhook secrets."""

    @property
    def model_fields_set(self) -> set[str]:
        """The settings that somebody has set."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of settings. It is skipped while one of the settings it `needs` is wrong, to report no false faults."""

    needs: frozenset[str]
    faults: Callable[[Any], Iterable[str]]
    """Takes `Settings`; those below need only `Given`."""


def _storage_faults(settings: Given) -> list[str]:
    try:
        urls.parse_all(settings.storage)
    except ConfigurationError as error:
        return [f"WALLET_STORAGE: {error.message}"]
    return []


def _durability_faults(settings: Given) -> list[str]:
    faults: list[str] = []
    is_memory, is_production = settings.storage.startswith("memory:"), settings.mode is Mode.PRODUCTION
    if settings.workers > 1 and is_memory:
        faults.append("WALLET_WORKERS: memory:// lives in one process; use 1 worker, or a store such as sqlite://")
    if is_production and is_memory:
        faults.append("WALLET_STORAGE: memory:// keeps nothing; WALLET_MODE=production wants a durable store")
    if is_production and "storage" not in settings.model_fields_set:
        faults.append(
            "WALLET_STORAGE: WALLET_MODE=production has no default store; say where the money is kept, "
            "for example WALLET_STORAGE=sqlite:////var/lib/wallet/wallet.db"
        )
    return faults


def _rate_storage_faults(settings: Given) -> list[str]:
    if settings.rate_limit_storage == "memory://":
        return []
    try:
        url = urls.parse(settings.rate_limit_storage)
        if url.scheme not in ("redis", "rediss") or not url.host:
            raise ConfigurationError("write memory://, redis://host or rediss://host")  # noqa: TRY301 - told below
        url.check_parameters(_REDIS_PARAMETERS)
        if not re.fullmatch(r"(/[0-9]{0,5})?", url.path, re.ASCII):
            raise ConfigurationError("the database of a Redis is a number: redis://host/0")  # noqa: TRY301 - told below
    except ConfigurationError as error:
        return [f"WALLET_RATE_LIMIT_STORAGE: {error.message}"]
    return []


def _stripe_faults(settings: Given) -> list[str]:
    """The faults of Stripe's key and secrets, without repeating any."""
    key, secrets = settings.stripe_api_key.get_secret_value(), settings.webhook_secrets
    faults: list[str] = []
    if key and _STRIPE_KEY.fullmatch(key) is None:
        faults.append("WALLET_STRIPE_API_KEY: no secret key; it begins with sk_test_, rk_test_, sk_live_ or rk_live_")
    if len(secrets) > _WEBHOOK_SECRETS_MAX or not all(one.startswith("whsec_") for one in secrets):
        faults.append(f"WALLET_STRIPE_WEBHOOK_SECRETS: at most {_WEBHOOK_SECRETS_MAX}, each begins with whsec_")
    if secrets and not key:
        faults.append("WALLET_STRIPE_WEBHOOK_SECRETS: of no use without WALLET_STRIPE_API_KEY; set that, too")
    if _is_live(settings) and settings.stripe_api_base != STRIPE_API_BASE:
        faults.append(f"WALLET_STRIPE_API_BASE: a live key is sent to {STRIPE_API_BASE} alone; unset the variable")
    return faults


def _publishable_key_faults(settings: Given) -> list[str]:
    """The faults of the key that browsers get. It is not repeated: it may be the secret one by mistake."""
    key, secret = settings.stripe_publishable_key, settings.stripe_api_key.get_secret_value()
    name = "WALLET_STRIPE_PUBLISHABLE_KEY"
    if not key:
        return []
    if _PUBLISHABLE_KEY.fullmatch(key) is None:
        return [f"{name}: no publishable key; it begins with pk_test_ or pk_live_"]
    if not secret:
        return [f"{name}: of no use without WALLET_STRIPE_API_KEY; set that, too"]
    if key.startswith("pk_live_") is not _is_live(settings):
        return [f"{name}: it and WALLET_STRIPE_API_KEY must both be test keys, or both live keys"]
    return []


def _secret_key_faults(settings: Given) -> list[str]:
    keys = settings.sealing_keys
    faults: list[str] = []
    if not all(map(_SECRET_KEY.fullmatch, keys)):
        faults.append(
            "WALLET_SECRET_KEYS: a key is 32 random bytes in URL-safe base64, 44 characters: "
            "openssl rand -base64 32 | tr +/ -_"
        )
    if len(keys) > _SECRET_KEYS_MAX or len(set(keys)) < len(keys):
        faults.append(f"WALLET_SECRET_KEYS: at most {_SECRET_KEYS_MAX} keys, each once; leave out what seals no secret")
    return faults


def _live_key_faults(settings: Given) -> list[str]:
    if _is_live(settings) and settings.mode is not Mode.PRODUCTION:
        return ["WALLET_STRIPE_API_KEY: a live key is for WALLET_MODE=production only; else use a test key"]
    return []


def _stripe_base_faults(settings: Given) -> list[str]:
    try:
        url = urls.parse(settings.stripe_api_base)
        schemes = ("http", "https") if url.host in ("127.0.0.1", "::1", "localhost") else ("https",)
        well = bool(url.host) and url.scheme in schemes and url.user is None and not url.query
    except ConfigurationError:
        well = False
    remedy = "write an https URL without a user or parameters; http is for this machine only"
    return [] if well else [f"WALLET_STRIPE_API_BASE: {remedy}"]


def _is_live(settings: Given) -> bool:
    return settings.stripe_api_key.get_secret_value().startswith(("sk_live_", "rk_live_"))


def _failpoint_faults(settings: Given) -> list[str]:
    """The faults of the failpoints; they may be armed in mode `test` only."""
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    except ValueError as error:
        return [f"{failpoints.VARIABLE}: {error}"]
    if settings.mode is not Mode.TEST:
        failpoints.arm("")
    return []


def _armed_faults(settings: Given) -> list[str]:
    if os.environ.get(failpoints.VARIABLE) and settings.mode is not Mode.TEST:
        return [f"{failpoints.VARIABLE}: failpoints are for WALLET_MODE=test only; unset the variable"]
    return []


CHECKS: Final = (
    Check(frozenset({"storage"}), _storage_faults),
    Check(frozenset({"storage", "mode", "workers"}), _durability_faults),
    Check(frozenset({"rate_limit_storage"}), _rate_storage_faults),
    Check(frozenset({"stripe_api_key", "stripe_webhook_secrets", "stripe_api_base"}), _stripe_faults),
    Check(frozenset({"stripe_api_key", "stripe_publishable_key"}), _publishable_key_faults),
    Check(frozenset({"secret_keys"}), _secret_key_faults),
    Check(frozenset({"stripe_api_key", "mode"}), _live_key_faults),
    Check(frozenset({"stripe_api_base"}), _stripe_base_faults),
    Check(frozenset(), _failpoint_faults),
    Check(frozenset({"mode"}), _armed_faults),
)
