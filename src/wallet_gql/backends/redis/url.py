"""The storage URL of `redis+postgres://`: a Redis, a comma, and the URL of a sharded Postgres store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...domain.errors import ConfigurationError
from ...urls import parse_all

LEASE_SECONDS: Final = 2.0
"""How long a lease lasts without a renewal, in seconds, if the URL does not say."""

LEASE_SECONDS_MIN: Final = 0.02
LEASE_SECONDS_MAX: Final = 60.0
_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SCHEMES: Final = {"redis+postgres": False, "rediss+postgres": True}
_FORM: Final = "redis+postgres://USER:PASSWORD@host:6379/0,postgres://user@host/database?node=n1,…"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The Redis's address and credentials, and how long its leases last. `tls_files` are arguments of the driver."""

    host: str
    port: int = _PORT
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()
    lease_seconds: float = LEASE_SECONDS

    def __repr__(self) -> str:
        """Without the password."""
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> tuple[RedisAddress, str]:
    """The Redis's address, and the Postgres URL behind it. Raises ConfigurationError."""
    first, *nodes = parse_all(url)
    if not nodes or first.scheme not in _SCHEMES:
        raise ConfigurationError(f"a Redis and the nodes are needed: write {_FORM}")
    if not first.host:
        raise ConfigurationError(f"the Redis has no host: write {_FORM}")
    db = first.file.rstrip("/") or "0"
    if re.fullmatch(r"[0-9]{1,5}", db) is None:
        raise ConfigurationError(f"the Redis of {_FORM}: its database is a number")
    tls = _SCHEMES[first.scheme]
    first.check_parameters(frozenset({"lease_seconds", *_FILES}))
    given = first.parameters
    lease_seconds = _lease_seconds(given.pop("lease_seconds", str(LEASE_SECONDS)))
    files = _tls_files(given, tls=tls)
    names = (first.user or None, first.password or None)
    address = RedisAddress(first.host, first.port or _PORT, int(db), *names, tls, files, lease_seconds)
    return address, ",".join(node.text for node in nodes)


def _lease_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEASE_SECONDS_MIN <= seconds <= LEASE_SECONDS_MAX:
        raise ConfigurationError(f"lease_seconds={text}: give {LEASE_SECONDS_MIN} to {LEASE_SECONDS_MAX:.0f}")
    return seconds


def _tls_files(given: dict[str, str], *, tls: bool) -> tuple[tuple[str, str], ...]:
    if given and not tls:
        raise ConfigurationError(f"{', '.join(sorted(given))}: only with rediss+postgres://")
    for name, path in given.items():
        if not Path(path).is_file():
            raise ConfigurationError(f"{name}={path}: there is no such file")
    return tuple(sorted(given.items()))
