"""Leases on rows, in one Redis: taken for a whole batch by one call, renewed during the work, released at its end.

A lease only lowers contention. It can expire while its process is stopped, and a Redis that restarts empty grants it
twice. Money is kept safe by the fencing token that comes with the lease: the database compares it (see `claim.py`).

Keys, all of one node under one hash tag: `wgql:{cluster/node}:token` counts tokens, `wgql:{cluster/node}:ROW` is a
lease, with its owner as the value, and `…:next:ROW` names the waiter that gets the row next.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from ...background import attempt, run_for_ever
from ...domain.errors import ConfigurationError, Contended, Unavailable
from ...domain.ids import AccountId
from .errors import translate
from .url import RedisAddress

log = logging.getLogger("wallet_gql.redis")

ANSWER_SECONDS: Final = 1.0
"""How long one call may take before the Redis counts as down."""

OPEN_SECONDS: Final = 2.0
"""How long to wait at the start for a Redis that does not answer."""

RELEASE_SECONDS: Final = 0.25
"""How long a batch waits at its end for the release. A lease that is not released expires."""

SILENT_SECONDS: Final = 0.25
"""After two calls in a row without an answer, the Redis is not asked for this long: commands fail at once."""

CONNECTIONS_MAX: Final = 16

PAUSE_SECONDS_MIN: Final = 0.002
PAUSE_SECONDS_MAX: Final = 0.025
"""The pause before the next attempt on a leased row. Each pause is drawn between half of it and twice as much."""

_NEXT_MS: Final = 250
"""How long a row is reserved for the next waiter, in milliseconds."""

_RENEWALS: Final = 3
"""How many times a lease is renewed within its lifetime."""


def account_row(account_id: AccountId) -> str:
    """The name of an account's lease."""
    return f"a:{account_id}"


def _script(name: str) -> str:
    """The text of one of the Lua scripts. Each reads and changes several keys in one atomic step."""
    return Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")


_TAKE, _RELEASE, _RENEW, _RAISE = map(_script, ("take", "release", "renew", "raise"))


@dataclass(slots=True, eq=False)
class Held:
    """Leases on some rows of one node under one fencing token.

    For each wish, `busy` has the first row that another process holds, or None if all rows of the wish are held here.
    """

    node: str
    owner: str
    token: int = 0
    keys: tuple[str, ...] = ()
    busy: list[str | None] = field(default_factory=list)
    renew_at: float = 0.0
    lost: bool = False
    """Whether a renewal found that the leases had expired. This is only counted: the token decides who may write the
    rows, so a slow machine whose leases expire early still gets its work done.
    """


@dataclass(slots=True)
class LeaseCounters:
    """For benchmarks and trials: round trips, refused attempts, seconds waited, and leases that expired while held."""

    calls: int = 0
    refused: int = 0
    waited_seconds: float = 0.0
    expired: int = 0
    behind: int = 0
    """How often the token counter was lower than a token that a row had seen."""


class Leases:
    """The leases of one process on the rows of one cluster."""

    def __init__(self, address: RedisAddress) -> None:
        """Connects nothing; `open` does."""
        self.address = address
        self.cluster = ""
        self.counters = LeaseCounters()
        self._ttl_ms = max(int(address.lease_seconds * 1000), 1)
        self._client = _client(address)
        self._scripts = {text: self._client.register_script(text) for text in (_TAKE, _RELEASE, _RENEW, _RAISE)}
        self._silent_until = 0.0
        self._missed_at = math.inf
        self._held: set[Held] = set()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._forgetting: set[asyncio.Task[None]] = set()

    async def open(self, cluster: str) -> None:
        """Use the keys of that cluster, and start to renew leases.

        Raises:
            ConfigurationError: the Redis did not answer within `OPEN_SECONDS`, or refuses a command that leases need.
        """
        self.cluster = cluster
        until = asyncio.get_running_loop().time() + OPEN_SECONDS
        told = ""
        while True:
            try:
                await self._rehearse()
                break
            except Unavailable as error:
                refused = isinstance(error.__cause__, ResponseError | AuthenticationError)
                told = str(error.__cause__ or "") or told or str(error)  # a time-out tells nothing: keep what was told
                if refused or asyncio.get_running_loop().time() > until:
                    raise ConfigurationError(f"{self.address}: {told}; start it, or correct the URL") from error
            await asyncio.sleep(PAUSE_SECONDS_MAX)  # it may be restarting
        self._renewing = asyncio.create_task(self._renew_for_ever())

    async def _rehearse(self) -> None:
        """Make every kind of call once, on a row of no node. Raises Unavailable."""
        async with self.hold("", [["rehearsal"]]) as held:
            await self._renew(held)
            await self._call(_RAISE, [self._key("", "token")], [held.token + 1])

    async def close(self) -> None:
        """Stop renewing and disconnect."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await asyncio.gather(*self._forgetting, return_exceptions=True)
        with suppress(Exception):  # every error of the driver: after `close` nothing can be done about it
            await self._client.aclose()

    async def ping(self) -> None:
        """Take a lease on a row of no node and release it. Raises Unavailable if that fails."""
        async with self.hold("", [[f"ping:{secrets.token_hex(8)}"]]):
            pass

    # Taking and releasing

    @asynccontextmanager
    async def hold(self, node: str, wishes: Sequence[Sequence[str]], waiter: str = "") -> AsyncIterator[Held]:
        """Lease the rows of every wish that is free. A wish gets all of its rows or none.

        A `waiter` that was refused rows is first in line for them if it asks again within `_NEXT_MS`. Raises
        Unavailable: no Redis.
        """
        held = await self._take(node, wishes, waiter)
        self._held.add(held)
        try:
            yield held
        finally:
            self._held.discard(held)
            await self._release(held)

    @asynccontextmanager
    async def wait(self, node: str, wishes: Sequence[Sequence[str]], deadline: float) -> AsyncIterator[Held]:
        """Like `hold`, but try again after growing pauses until at least one wish is granted.

        Raises:
            Contended: `deadline` (event loop's clock) came first. Unavailable: the Redis does not answer.
        """
        loop, waiter = asyncio.get_running_loop(), secrets.token_hex(8)
        began, pause = loop.time(), PAUSE_SECONDS_MIN
        while True:
            async with self.hold(node, wishes, waiter) as held:
                if None in held.busy:
                    self.counters.waited_seconds += loop.time() - began
                    yield held
                    return
            patience = min(pause, deadline - loop.time())
            if patience <= 0:
                raise Contended(f"rows on node {node} were taken all the time given")
            await self.pause(held, patience)
            pause = min(pause * 1.6, PAUSE_SECONDS_MAX)

    async def pause(self, held: Held, seconds: float) -> None:
        """Wait between half and twice `seconds`, or until this process releases a row that was refused."""
        self.counters.refused += 1
        event, names = asyncio.Event(), {self._key(held.node, row) for row in held.busy if row is not None}
        for name in names:
            self._waiting.setdefault(name, set()).add(event)
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 2.0)):  # noqa: S311 - not a secret
                await event.wait()
        except TimeoutError:
            pass
        finally:
            for name in names:
                self._waiting[name].discard(event)
                if not self._waiting[name]:
                    del self._waiting[name]

    async def _take(self, node: str, wishes: Sequence[Sequence[str]], waiter: str) -> Held:
        """Lease, in one call, the rows of every wish whose rows are all free, under a new, higher fencing token."""
        rows = sorted({row for wish in wishes for row in wish})
        held = Held(node, secrets.token_hex(8))
        if not rows:
            held.busy = [None] * len(wishes)
            return held
        place = {row: number for number, row in enumerate(rows, 1)}
        keys = [self._key(node, row) for row in rows]
        wanted = json.dumps([[place[row] for row in wish] for wish in wishes])
        held.keys = tuple(keys)
        held.renew_at = asyncio.get_running_loop().time() + self.address.lease_seconds / _RENEWALS
        arguments = [held.owner, self._ttl_ms, waiter, _NEXT_MS if waiter else 0, wanted]
        try:
            reply = await self._call(_TAKE, [self._key(node, "token"), *keys], arguments)
        except BaseException:
            self._forget(held)
            raise
        held.token, *numbers = (int(number) for number in reply)
        held.busy = [rows[number - 1] if number else None for number in numbers]
        free = (wish for wish, by in zip(wishes, held.busy, strict=True) if by is None)
        held.keys = tuple(sorted({self._key(node, row) for wish in free for row in wish}))
        return held

    def _forget(self, held: Held) -> None:
        """After a lost reply: release the leases that may have been taken. If that fails too, they expire."""
        task = asyncio.ensure_future(self._release(held))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _release(self, held: Held) -> None:
        """Release the leases that are still ours. Raises nothing but a cancellation."""
        if not held.keys:
            return
        with suppress(Unavailable):
            await self._call(_RELEASE, held.keys, [held.owner], seconds=RELEASE_SECONDS)
        for key in held.keys:
            for event in self._waiting.get(key, ()):
                event.set()

    async def raise_token(self, node: str, floor: int) -> None:
        """Make the next token higher than `floor`, a token that a row has seen: the Redis has lost tokens."""
        self.counters.behind += 1
        with suppress(Unavailable):
            await self._call(_RAISE, [self._key(node, "token")], [floor])

    # Renewing

    async def _renew_for_ever(self) -> None:
        """Renew leases for ever. A failure does not lengthen the pause, because leases go on expiring."""
        pause = self.address.lease_seconds / _RENEWALS / 2
        await run_for_ever(log, "renewing leases", self._renew_due, every_seconds=pause, slowest_seconds=pause)

    async def _renew_due(self) -> None:
        await asyncio.gather(*(attempt(log, "renewing a lease", partial(self._renew, held)) for held in self._due()))

    def _due(self) -> list[Held]:
        now = asyncio.get_running_loop().time()
        return [held for held in self._held if held.keys and held.renew_at <= now]

    async def _renew(self, held: Held) -> None:
        held.renew_at = asyncio.get_running_loop().time() + self.address.lease_seconds / _RENEWALS
        renewed = await self._call(_RENEW, held.keys, [held.owner, self._ttl_ms])
        if int(renewed) < len(held.keys) and held in self._held:
            held.lost = True
            self.counters.expired += 1

    # Talking

    def _key(self, node: str, row: str) -> str:
        return f"wgql:{{{self.cluster}/{node}}}:{row}"

    async def _call(
        self, text: str, keys: Sequence[str], arguments: Sequence[Any], *, seconds: float = ANSWER_SECONDS
    ) -> Any:
        """Run a script. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_until:
            raise Unavailable(f"{self.address} did not answer a moment ago")
        self.counters.calls += 1
        began = loop.time()
        try:
            async with asyncio.timeout(seconds):
                reply = await self._scripts[text](keys=list(keys), args=list(arguments))
        except TimeoutError as error:
            if seconds >= ANSWER_SECONDS:
                if began >= self._missed_at:  # the retry was missed too, so this is more than a short stall
                    self._silent_until = loop.time() + SILENT_SECONDS
                self._missed_at = loop.time()
            raise Unavailable(f"{self.address} did not answer in time") from error
        except Exception as error:
            raise translate(error, repr(self.address)) from error
        self._missed_at = math.inf
        return reply


def _client(address: RedisAddress) -> redis.asyncio.Redis:
    """A client with short timeouts that retries once over a fresh connection: every script is safe to run twice."""
    files: dict[str, Any] = dict(address.tls_files)
    kind = redis.asyncio.SSLConnection if address.tls else redis.asyncio.Connection
    pool = redis.asyncio.BlockingConnectionPool(
        max_connections=CONNECTIONS_MAX,
        timeout=ANSWER_SECONDS,
        connection_class=kind,
        host=address.host,
        port=address.port,
        db=address.db,
        username=address.username,
        password=address.password,
        socket_timeout=2 * ANSWER_SECONDS,  # so that our own timeout ends the call
        socket_connect_timeout=2 * ANSWER_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        protocol=2,
        **files,
    )
    return redis.asyncio.Redis.from_pool(pool)
