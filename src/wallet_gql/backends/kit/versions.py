"""Whether a ledger has the schema of this program, and what is said if not: the same for every backend."""

from __future__ import annotations

from typing import TypeVar

from ...domain.errors import ConfigurationError

V = TypeVar("V", int, str)


class NotMigrated(ConfigurationError):
    """There is no ledger, or one of an older version, and whoever opens it is not to change that."""

    stays_inside = True
    """Servers do change that: clients are never told so."""


class NoLedger(NotMigrated):
    """There is none at all."""


def is_due(where: object, found: V | None, known: V, *, migrates: bool) -> bool:
    """Whether a ledger of version `found` (None: there is none) has to be made or brought to version `known`.

    `where` names the ledger to people.

    Raises:
        NotMigrated: it has, and `migrates` says that this must not be done.
        ConfigurationError: the ledger is of a newer version.
    """
    if found is not None and found > known:
        raise ConfigurationError(f"{where} has schema version {found}, this program knows {known}; upgrade wallet-gql")
    if found == known or migrates:
        return found != known
    if found is None:
        raise NoLedger(f"there is no ledger at {where}; name another WALLET_STORAGE, or run: wallet-gql migrate")
    raise NotMigrated(
        f"{where} has schema version {found}, this program needs {known}: use the release that made it, or make a "
        "backup with that, and run: wallet-gql migrate"
    )
