"""What redis-py's errors mean. Leases are advice, so a Redis never leaves a commit in doubt: it fails before one."""

from __future__ import annotations

import logging

from redis.exceptions import ClusterError, DataError, RedisError, ResponseError

from ...domain.errors import Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed

log = logging.getLogger("wallet_gql.redis")


def meaning_of(error: BaseException) -> Meaning:
    """What an error of the driver tells."""
    if isinstance(error, DataError):
        return Meaning.UNEXPECTED
    if isinstance(error, ResponseError | ClusterError):
        return Meaning.REFUSED  # NOAUTH, NOPERM, READONLY, MISCONF, OOM, BUSY, CLUSTERDOWN, TRYAGAIN and their like
    return Meaning.GONE if isinstance(error, RedisError | OSError | EOFError) else Meaning.UNEXPECTED


def translate(error: BaseException, address: str) -> WalletError:
    """What a driver's error means to the caller: nothing was written, for leases come before everything."""
    if isinstance(error, WalletError):
        return error
    return Unavailable(store_failed(log, address, meaning_of(error), error))
