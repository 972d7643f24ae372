"""Hashes passwords in threads, with a bounded queue: one bound for all clients together, one for each client."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..domain.errors import Contended
from ..domain.text import opaque
from .strength import check_strength

R = TypeVar("R")

WAITING_MAX: Final = 64
"""How many hashes may wait or run at the same time."""

CLIENT_WAITING_MAX: Final = 16
"""The same for one client, so that one client cannot keep all others from logging in."""


@cache
def _hasher(*, is_test: bool) -> tuple[PasswordHasher, str]:
    """What makes argon2id hashes, and the hash of a password that nobody knows; once a process."""
    passes, memory_kib = (1, 8) if is_test else (2, 19_456)
    hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
    return hasher, hasher.hash(secrets.token_urlsafe())


class Passwords:
    """argon2id with 19 MiB, 2 passes, 1 lane (OWASP's minimum). `client` is the network that asks, "" for none.

    With `is_test` a hash costs hardly anything, and protects nobody.
    """

    def __init__(self, *, is_test: bool = False) -> None:
        self._hasher, self._dummy = _hasher(is_test=is_test)
        workers = max(1, (os.cpu_count() or 1) - 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="wallet-argon2")
        self._waiting: Counter[str] = Counter()

    async def choose(self, password: str, names: Sequence[str], client: str = "") -> str:
        """Hash a new password. Raises InvalidInput: it is easy to guess; Contended: too many are waiting."""
        await self._run(client, lambda: check_strength(opaque(password), names))
        return await self.hash(password, client)

    async def hash(self, password: str, client: str = "") -> str:
        """Hash a new password. Raises Contended when too many are waiting."""
        return await self._run(client, lambda: self._hasher.hash(opaque(password)))

    async def verify(self, stored: str | None, password: str, client: str = "") -> bool:
        """Check a password. An unknown user (None) costs the same work, and is False. Raises Contended."""
        return await self._run(client, lambda: self._verify(stored or self._dummy, password)) and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _verify(self, stored: str, password: str) -> bool:
        """The second try is for old hashes, whose passwords were not normalised."""
        return any(self._matches(stored, form) for form in dict.fromkeys((opaque(password), password)))

    def _matches(self, stored: str, form: str) -> bool:
        try:
            return self._hasher.verify(stored, form)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    async def _run(self, client: str, work: Callable[[], R]) -> R:
        if self._waiting.total() >= WAITING_MAX or (client and self._waiting[client] >= CLIENT_WAITING_MAX):
            raise Contended("too many log-ins are waiting")
        self._waiting[client] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]
