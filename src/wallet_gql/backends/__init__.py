"""Backends by URL scheme: `open_store(url)`. A backend is imported only when it is used.

A package outside this one adds a scheme by an entry point in the group `wallet_gql.backends`: its name is the scheme,
its value a callable `(url: str) -> Store`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, cast

from ..domain.errors import ConfigurationError
from ..storage import Store
from ..urls import parse_all
from .kit.store import GroupStore

ENTRY_POINTS: Final = "wallet_gql.backends"

_SCHEMES: Final = {
    "memory": "memory:MemoryStore",
    "sqlite": "sqlite.store:SqliteStore",
    "postgres": "postgres.store:PostgresStore",
    "postgresql": "postgres.store:PostgresStore",
    "redis+postgres": "redis.store:RedisStore",
    "rediss+postgres": "redis.store:RedisStore",
    "mongodb": "mongodb.store:MongoStore",
    "mongodb+srv": "mongodb.store:MongoStore",
    "cassandra": "cassandra.store:CassandraStore",
}


def schemes() -> tuple[str, ...]:
    """Every URL scheme that can be opened here, built-in ones first."""
    outside = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
    return (*_SCHEMES, *(name for name in outside if name not in _SCHEMES))


def open_store(url: str, *, migrates: bool = True, production: bool = False) -> Store:
    """The store that a URL such as `sqlite:///wallet.db` names; open it with `async with`.

    Opening it makes a ledger where there is none, and brings an older one up to date; without `migrates` it raises
    NotMigrated instead. With `production` it also raises ConfigurationError for servers that are fit for trials only.

    Raises:
        ConfigurationError: unknown scheme, a missing driver (says which extra to install), or a malformed URL.
    """
    store = _factory(parse_all(url)[0].scheme)(url)
    if isinstance(store, GroupStore):
        store.migrates, store.production = migrates, production
    return store


def _factory(scheme: str) -> Callable[[str], Store]:
    try:
        if scheme in _SCHEMES:
            module, _, name = _SCHEMES[scheme].partition(":")
            return cast("Callable[[str], Store]", getattr(import_module(f".{module}", __name__), name))
        for point in entry_points(group=ENTRY_POINTS, name=scheme):
            return cast("Callable[[str], Store]", point.load())
    except ImportError as error:
        extra = _SCHEMES.get(scheme, "").partition(".")[0]
        remedy = f"pip install 'wallet-gql[{extra}]'" if extra else "install what the package of this backend needs"
        raise ConfigurationError(f"{scheme}:// needs a driver that is not installed ({error}); {remedy}") from error
    raise ConfigurationError(f"no backend for {scheme}://; known are {', '.join(schemes())}")
