"""What redis-py's errors mean. Leases come before the commit, so a failing Redis never leaves a commit in doubt."""

from __future__ import annotations

import logging

from redis.exceptions import ClusterError, DataError, RedisError, ResponseError

from ...domain.errors import Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed

log = logging.getLogger("wallet_gql.redis")


def meaning_of(error: BaseException) -> Meaning:
    """The meaning of a driver's error."""
    if isinstance(error, DataError):
        return Meaning.UNEXPECTED
    if isinstance(error, ResponseError | ClusterError):
        return Meaning.REFUSED  # NOAUTH, NOPERM, READONLY, MISCONF, OOM, BUSY, CLUSTERDOWN, TRYAGAIN and similar
    return Meaning.GONE if isinstance(error, RedisError | OSError | EOFError) else Meaning.UNEXPECTED


def translate(error: BaseException, address: str) -> WalletError:
    """The error to raise for a driver's error. Nothing was written, because leases come before every write."""
    if isinstance(error, WalletError):
        return error
    return Unavailable(store_failed(log, address, meaning_of(error), error))
