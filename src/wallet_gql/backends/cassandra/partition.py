"""One partition of the ledger: a register that Paxos decides, and the rows that its commits write.

The register holds the number of the newest commit (`version`), the attempt that made it (`attempt`) and all rows that
it writes (`tail`). A commit is decided when the register goes from version n to n + 1. Before that, everything that
version n writes must be in the tables (the tail is *spread*). So only the newest tail can be missing from the tables,
and every process that needs the partition writes it there. The rows have their version as time stamp, so writing them
again or late changes nothing.

If the answer to a decision is lost, the commit counts neither as done nor as failed. The register or the log of commits
shows which attempt made a version. As long as none has, the commit is tried again. Every attempt is remembered, because
an old one may still win. A plain read of a majority is enough to find out: it may miss a version that is just being
decided, but the next attempt will not.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import orjson

from ...domain.errors import Contended, InDoubt, Unavailable, WalletError
from ...domain.ids import AccountId
from ...domain.model import Account
from ...failpoints import after_decision
from ..kit.driver_errors import Meaning
from .client import Client
from .errors import Failure, leaves_doubt, meaning_of, translate
from .tables import Op, bucketed
from .turn import LOOK_SECONDS, LOOKS, Turn, Wait

PAUSE_SECONDS: Final = 0.004
PAUSE_SECONDS_MAX: Final = 0.1
GATE_PAUSE_SECONDS: Final = 0.03
GATE_SECONDS: Final = 15.0
"""After this long without a beat the gate's holder counts as gone; measured on the observer's own clock."""

OWN_SECONDS: Final = 1.0
"""How long to wait until a commit of this process is spread, before spreading it like a commit of another process."""

TAIL_BYTES_MAX: Final = 256 * 1024
"""The most that a batch of commands may write in one commit, in bytes after compression."""

KNOWN_MAX: Final = 20_000
"""The most accounts of a partition that are remembered between commits."""

Sums = dict[str, tuple[int, int, int]]
"""By currency: customers' money, system entries, and the clearing part of these."""


@dataclass(frozen=True, slots=True)
class Register:
    """A partition's register as it was read, or as this process has just written it. All its rows are spread.

    `accounts` are the rows of accounts as of this version.
    """

    version: int
    attempt: str
    sums: Sums
    gate: str | None = None
    beat: int = 0
    accounts: dict[AccountId, Account] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """What a commit would write, and the result if it commits. Without `ops` there is nothing to decide.

    `moved` are the accounts after the commit, `sums` the amounts added to the sums. `fresh` are the keys, by table, of
    rows that must not exist yet. With `closes` the commit closes the gate.
    """

    result: Any
    ops: list[Op] = field(default_factory=list)
    moved: Mapping[AccountId, Account] = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)
    fresh: Mapping[str, list[str]] = field(default_factory=dict)
    closes: str | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to decide."""
        return bool(self.ops) or self.closes is not None

    def packed(self) -> bytes:
        """The tail as it is stored in the register."""
        return zlib.compress(orjson.dumps(self.ops), 1)


@dataclass(slots=True)
class _Tried:
    """An attempt whose outcome is not known: it would make `after` from `draft`."""

    draft: Draft
    after: Register


class Again(Exception):
    """Nothing is decided; try again after a moment. It never leaves the backend."""


def unpacked(tail: bytes | None) -> list[Op]:
    """The rows of a tail."""
    return [] if not tail else [(name, values) for name, values in orjson.loads(zlib.decompress(tail))]


class Partition:
    """One partition as this process sees it. Its commits may run concurrently; Paxos orders them."""

    def __init__(self, name: str, client: Client, process: str, *, gathers: bool = False) -> None:
        """The names of this process's attempts begin with `process`; for `gathers` see `Turn`."""
        self.name = name
        self.known: Register | None = None
        """The newest commit that is known to be spread."""
        self.turn = Turn(self._release, self._is_wanted, gathers=gathers)
        self._client = client
        self._process = process
        self._wanted = f"{name} wanted"
        self._numbers = count(1)
        self._gate_seen: tuple[str, int, float] | None = None
        self._own: dict[str, asyncio.Event] = {}
        """This process's attempts that are being decided or spread. Each event is set when its attempt is over."""

    # Committing

    async def commit(
        self,
        draft: Callable[[Register], Awaitable[Draft]],
        deadline: float,
        *,
        through: str | None = None,
    ) -> Any:
        """Draft on the newest version, decide, spread; start again as long as other commits come first.

        `draft` reads what it needs after the register was read. `through` names the gate that may be passed.

        Raises:
            Contended, Unavailable: nothing was written. InDoubt: not confirmed by `deadline`, on the loop's clock.
            WalletError: raised by `draft`; nothing was written.
        """
        loop = asyncio.get_running_loop()
        tried: dict[str, _Tried] = {}
        pause = PAUSE_SECONDS
        reason: WalletError = Contended("others were always first")
        while True:
            try:
                return await self._attempt(draft, tried, through, deadline)
            except Again as again:
                wait = GATE_PAUSE_SECONDS if again.args else pause
                reason = Contended("an export holds the gate") if again.args else reason
            except WalletError as error:
                if tried:
                    raise InDoubt from error
                raise
            except Failure as error:
                wait, reason = pause, translate(error)
                if not tried and meaning_of(error.cause) not in (Meaning.GONE, Meaning.BUSY):
                    raise reason from error
            self.known = None
            if loop.time() + wait >= deadline:
                if tried:
                    raise InDoubt from reason
                raise reason
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.7, PAUSE_SECONDS_MAX)

    async def _attempt(
        self,
        draft: Callable[[Register], Awaitable[Draft]],
        tried: dict[str, _Tried],
        through: str | None,
        deadline: float,
    ) -> Any:
        began = asyncio.get_running_loop().time()
        base = self.known or await self.read(Wait.of_commit(deadline))
        won = await self._settle(tried, base)
        if won is not None:
            return await self._finish(won, deadline, began)
        if base.gate not in (None, through):
            await self._wait_at(base)
        made = await draft(base)
        if not made.writes:
            if tried or not await self._is_newest(base):
                raise Again
            return made.result
        after = self._following(base, made)
        self._own[after.attempt] = asyncio.Event()
        try:
            if not await self._decide(base, after, made, tried):
                raise Again
            after_decision("cassandra.committed")
            return await self._finish(_Tried(made, after), deadline, began)
        finally:
            self._own.pop(after.attempt).set()

    def _following(self, base: Register, made: Draft) -> Register:
        sums = dict(base.sums)
        for currency, more in made.sums.items():
            before = sums.get(currency, (0, 0, 0))
            sums[currency] = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
        accounts = base.accounts if len(base.accounts) < KNOWN_MAX else {}
        attempt = f"{self._process}:{next(self._numbers)}"
        gate = made.closes or base.gate
        return Register(base.version + 1, attempt, sums, gate, base.beat, {**accounts, **made.moved})

    async def _decide(self, base: Register, after: Register, made: Draft, tried: dict[str, _Tried]) -> bool:
        """Run the one lightweight transaction. False if, by its answer, it was not applied."""
        sums = orjson.dumps(after.sums).decode()
        values = (after.version, after.attempt, made.packed(), sums, after.gate, self.name, base.version)
        try:
            (answer,) = await self._client.ask("cas", *values)
        except Failure as failure:
            if leaves_doubt(failure.cause):
                tried[after.attempt] = _Tried(made, after)
            raise
        if not answer[0]:
            # Even then the attempt may have been applied: by another process that completed it.
            tried[after.attempt] = _Tried(made, after)
        return bool(answer[0])

    async def _settle(self, tried: dict[str, _Tried], base: Register) -> _Tried | None:
        """Find the attempt that was decided, if one was; forget those that can never be."""
        for attempt, one in list(tried.items()):
            version = one.after.version
            if version > base.version:
                continue
            maker = base.attempt if version == base.version else await self._maker(version)
            if maker == attempt:
                return one
            del tried[attempt]
        return None

    async def _maker(self, version: int) -> str | None:
        """The attempt that made a version that is not the newest one."""
        found = await self._client.ask("get_commit_log", bucketed(self.name, version), version)
        return found[0][0] if found else None

    async def _finish(self, done: _Tried, deadline: float, began: float) -> Any:
        """Spread the decided commit. Returns its result. Raises InDoubt."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.spread(done.after.version, done.after.attempt, done.draft.ops)
                break
            except Failure as error:
                self.known = None
                if loop.time() + PAUSE_SECONDS_MAX >= deadline:
                    raise InDoubt(f"committed, and not yet to be seen: {translate(error)}") from error
                await asyncio.sleep(PAUSE_SECONDS_MAX)
        self.known = done.after
        self.turn.committed(done.after.version, began)
        after_decision("cassandra.spread")
        return done.draft.result

    async def spread(self, version: int, attempt: str, ops: list[Op]) -> None:
        """Write a version's rows, and the name of its attempt. Raises Failure."""
        log: Op = ("commit_log", [bucketed(self.name, version), version, attempt])
        await self._client.write([*ops, log], version)

    # Reading the register

    async def read(self, wait: Wait | None = None) -> Register:
        """The newest version. Spreads its rows first unless they are known to be spread. Raises Failure.

        If another process made the version, it is waited for until it releases the partition; by default as reads do.
        """
        wait = wait or Wait.of_read()
        while True:
            register, tail = await self._register()
            mine = register.attempt.startswith(self._process)
            known = self.known
            if known is not None and (known.version, known.attempt) == (register.version, register.attempt):
                register.accounts.update(known.accounts)
                break
            if not register.version or await self._is_marked(register.version):
                break
            if mine or wait.is_over:
                await self.spread(register.version, register.attempt, unpacked(tail))
                await self.mark(register.version)
                break
            await self._await_release(register.version, wait)
        if register.version and not mine:
            self.turn.lost()
        self.known = register
        return register

    async def _register(self) -> tuple[Register, bytes | None]:
        """The register and its tail. If a commit of this process made the version, waits until it is spread."""
        found = await self._client.ask("register", self.name)
        if not found:
            raise Unavailable(f"partition {self.name} has no register: somebody has emptied the keyspace")
        version, attempt, tail, sums, gate, beat = found[0]
        if attempt in self._own:
            with suppress(TimeoutError):
                async with asyncio.timeout(OWN_SECONDS):
                    await self._own[attempt].wait()
        return Register(version, attempt, sums_of(sums), gate, beat), tail

    async def _await_release(self, version: int, wait: Wait) -> None:
        """Return when the process that made the version has released the partition, or when the wait is over.

        Who releases it is alive, as is who commits: a third process may be the first to take the partition then.
        """
        await self._want(version, wait)
        for look in count(1):
            await asyncio.sleep(LOOK_SECONDS)
            if wait.is_over:
                return
            if await self._is_marked(version):
                wait.prolong()
                return
            if look % LOOKS == 0 and (newest := (await self.newest())[0]) != version:
                version = newest
                wait.prolong()
                await self._want(version, wait)

    async def _want(self, version: int, wait: Wait) -> None:
        """Tell the process that has the partition that another one wants to commit. If it fails, they wait longer."""
        if wait.wants:
            with suppress(Failure, WalletError):  # its time-out must not be taken for doubt about the commit
                await self._client.write([("marker", [self._wanted, version])], version)

    async def _is_wanted(self, since: int) -> bool:
        """Whether another process has wanted the partition at the version `since` or later. If unknown: yes."""
        with suppress(Failure, WalletError):
            found = await self._client.ask("get_marker", self._wanted)
            return bool(found) and found[0][0] >= since
        return True

    async def _release(self, version: int) -> None:
        """Mark a version. If that fails, other processes wait a little longer."""
        with suppress(Failure, WalletError):
            await self.mark(version)

    async def _is_marked(self, version: int) -> bool:
        found = await self._client.ask("get_marker", self.name)
        return bool(found) and found[0][0] >= version

    async def mark(self, version: int) -> None:
        """Record, for other processes, that a version is spread. Raises Failure."""
        await self._client.write([("marker", [self.name, version])], version)

    async def newest(self) -> tuple[int, str, Sums]:
        """Version, attempt and sums. Raises Failure."""
        found = await self._client.ask("version", self.name)
        if not found:
            raise Unavailable(f"partition {self.name} has no register: somebody has emptied the keyspace")
        return found[0][0], found[0][1], sums_of(found[0][2])

    async def _is_newest(self, base: Register) -> bool:
        """Whether the register still has the version of `base`, so that everything read meanwhile belongs to it."""
        version, attempt, _ = await self.newest()
        return (version, attempt) == (base.version, base.attempt)

    # The gate

    async def _wait_at(self, base: Register) -> None:
        """Raise Again while another process holds the gate; open the gate if that process is gone."""
        assert base.gate is not None
        now = asyncio.get_running_loop().time()
        seen = self._gate_seen
        if seen is None or seen[:2] != (base.gate, base.beat):
            self._gate_seen = (base.gate, base.beat, now)
        elif now - seen[2] > GATE_SECONDS:
            await self._client.ask("open_expired", self.name, base.gate, base.beat)
        raise Again("gate")


def sums_of(text: str | None) -> Sums:
    """The sums as stored in the register."""
    plain: Mapping[str, list[int]] = orjson.loads(text or "{}")
    return {currency: (minor[0], minor[1], minor[2]) for currency, minor in plain.items()}
