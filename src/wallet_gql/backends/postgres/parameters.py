"""libpq's parameters in a node's URL: those that asyncpg takes, those with no effect here; all others are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ...domain.errors import ConfigurationError
from ...urls import Url

_TAKEN: Final = frozenset(
    {
        "application_name",
        "database",
        "dbname",
        "gsslib",
        "host",
        "krbsrvname",
        "options",
        "passfile",
        "password",
        "port",
        "service",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
        "user",
    }
)
"""The parameters that asyncpg takes from a URL with libpq's meaning."""

SESSION: Final = "target_session_attrs"
SESSION_WRITES: Final = "read-write"
"""Which server is wanted if the URL names several hosts."""

POOL: Final = "connections"
"""How many connections to the node a process has for commands; read by `PgNode`."""

POOL_DEFAULT: Final = 16
POOL_SIZES: Final = range(2, 1_001)

_OURS: Final = frozenset({"node"})
_IGNORED: Final = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
"""The parameters that change nothing: the wallet bounds its waits itself, and asyncpg always uses UTF-8 and SNI."""

_VALUES: Final = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "UTF8", "UTF-8", "utf-8"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslsni": ("1",),
    SESSION: ("any", "primary", "read-write"),
}
"""The allowed values: no demand that is not met (`channel_binding=require`), and no demand for a read-only server."""

_FILES: Final = ("sslcert", "sslcrl", "sslkey", "sslrootcert")


def for_driver(url: Url) -> str:
    """The URL of one node as asyncpg takes it, but for `connections`.

    Raises:
        ConfigurationError: a parameter is unknown or cannot be met.
    """
    url.check_parameters(_TAKEN | _OURS | _IGNORED | {POOL})
    pool_of(url)
    _check_hosts(url)
    for name, value in url.parameters.items():
        allowed = _VALUES.get(name)
        if allowed is not None and value not in allowed:
            raise ConfigurationError(f"{name}: this value cannot be used here; write {' or '.join(allowed)}")
        if name in _FILES and not Path(value).is_file():
            raise ConfigurationError(f"{name}: there is no such file, or it cannot be read")
    return url.without(_OURS | _IGNORED)


def _check_hosts(url: Url) -> None:
    """Several hosts are a primary and its standbys, of which only the primary can be used."""
    given = url.parameters
    if any("," in given.get(name, "") for name in ("host", "port")):
        raise ConfigurationError("write several hosts before the database: postgres://user@a:5432,b:5432/db")
    if "," in url.hosts and not all(url.hosts.split(",")):
        raise ConfigurationError("one of the hosts is missing: there is a comma too many")
    if "," in url.hosts and given.get(SESSION, SESSION_WRITES) == "any":
        raise ConfigurationError(f"{SESSION}: of several hosts only one can be written; write {SESSION_WRITES}")


def pool_of(url: Url) -> int:
    """How many connections for commands the URL asks for. Raises ConfigurationError."""
    asked = url.parameters.get(POOL, str(POOL_DEFAULT))
    if not re.fullmatch(r"[0-9]{1,4}", asked) or int(asked) not in POOL_SIZES:
        raise ConfigurationError(f"{POOL}: a whole number from {POOL_SIZES[0]} to {POOL_SIZES[-1]}")
    return int(asked)
