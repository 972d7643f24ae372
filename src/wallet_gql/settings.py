"""Settings: environment variables `WALLET_…` (and a `.env` file) to one frozen object; all faults are told at once."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import failpoints
from .domain.errors import ConfigurationError


class Mode(StrEnum):
    """`production` serves no GraphiQL and refuses a store that keeps nothing; `test` alone may arm failpoints."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"
    TEST = "test"


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
    sweep_seconds: float = Field(
        1.0, gt=0, le=3600, description="How often expired holds, claims and sessions are swept"
    )


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
    faults += _failpoint_faults(settings)
    if settings is not None and settings.workers > 1 and settings.storage.startswith("memory:"):
        faults.append("WALLET_WORKERS: memory:// lives in one process; use 1 worker, or a store such as sqlite://")
    if settings is not None and settings.mode is Mode.PRODUCTION and settings.storage.startswith("memory:"):
        faults.append("WALLET_STORAGE: memory:// keeps nothing; WALLET_MODE=production wants a durable store")
    if faults or settings is None:
        raise ConfigurationError("\n".join(faults))
    return settings


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
