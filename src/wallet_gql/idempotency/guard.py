"""A guard around any async function: it runs once for each key of each caller, and its answer is stored.

```python
guard = Guard(store)

async def sell(turn: Turn) -> Joined:
    return Joined(scope, decide)                    # commits together with the receipt

answer = await guard.run("ann", key, "sell", {"seat": 12}, sell)
```

One commit *claims* the key before the work begins; a second one stores the answer. What a crash between the two means
depends on where the effect is:

| `effects` | the effect is | after a crash | so it happens |
|---|---|---|---|
| `JOINED` | in `Joined`: the receipt's own commit | the next request does the work again | exactly once |
| `OUTSIDE` | anywhere else: a mail, another service | `InDoubt`, until a *completer* has found out | once, or unknown |

A claim is leased. A worker that comes back after its lease cannot commit, if another token has taken the claim over.
The clocks of all processes must differ by much less than the lease, or an effect OUTSIDE can happen twice.
The state is one `Record` of kind `idempotency` for each key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.errors import Contended, IdempotencyKeyReused, InDoubt, InvalidInput, Unavailable, WalletError
from ..domain.ids import actor_slot
from ..domain.model import Record
from ..failpoints import reach
from ..records import Backlog, Due, Sweep, change, read, remove
from ..storage import Store
from ._sweep import settle
from .keys import FIELD, canonical_key
from .receipts import fingerprint
from .turns import (
    KIND,
    Ask,
    Completer,
    Effects,
    Joined,
    NothingDone,
    Outcome,
    StillRunning,
    Turn,
    Work,
    claimed,
    is_claimed_by,
)

R = TypeVar("R")

log = logging.getLogger("wallet_gql.idempotency")

OUTCOME_MAX: Final = 256 * 1024
"""The largest answer that is stored, in bytes of JSON text."""

_NOTE_MAX: Final = 16 * 1024
_CALLER_MAX: Final = 255
_POLL_SECONDS: Final = 0.01
_POLL_MAX_SECONDS: Final = 0.2
_FINISH_TRIES: Final = 5


class Guard:
    """Runs work at most once for each key of each caller, over any store."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lease_seconds: float = 60.0,
        keep_seconds: float | None = None,
        outcome_max: int = OUTCOME_MAX,
        completers: Mapping[str, Completer] | None = None,
    ) -> None:
        """`lease_seconds`: how long work may take before it counts as crashed; longer than its own time-outs.

        `keep_seconds`: the age at which `sweep` removes answers (None: never). That a key was used is never forgotten.
        `completers`: for each operation with effects OUTSIDE, how to find out what happened.
        """
        self.store = store
        self.clock = clock
        self.lease = timedelta(seconds=lease_seconds)
        self.keep = None if keep_seconds is None else timedelta(seconds=keep_seconds)
        self.outcome_max = outcome_max
        self.completers: Mapping[str, Completer] = dict(completers or {})
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweep = Sweep(Backlog(store, KIND, clock), self._settle)

    async def run(
        self,
        caller: str,
        key: str,
        operation: str,
        values: Mapping[str, str | int | bool | None],
        work: Work,
        *,
        effects: Effects = Effects.JOINED,
        slot: int | None = None,
        note: Mapping[str, object] | None = None,
        wait_seconds: float = 0.0,
    ) -> Outcome:
        """Do the work under the key, or return its first answer again.

        `values` is the input; another request with the key must have the same. `slot` is where the record is stored, by
        default the caller's home. `note` is stored with the claim, for the completer; do not put secrets into it. If
        another request with the key is running, wait `wait_seconds` for its answer. The work goes on if the caller is
        cancelled.

        Raises:
            InvalidInput: the key, the caller or the note has the wrong shape.
            IdempotencyKeyReused: the key belongs to another input.
            StillRunning: ask again later, with the same key.
            InDoubt: unknown whether it happened; ask again with the same key, after the completer has run.
            Unavailable: nothing happened; ask again with the same key.
            Exception: whatever the work raises; with effects OUTSIDE only the cause of `NothingDone`.
        """
        ask = self.ask(caller, key, operation, values, effects=effects, slot=slot, note=note)
        return await self.unstopped(self._run(ask, work, wait_seconds))

    async def unstopped(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait for work that goes on if the caller is cancelled, so that no claim is left without a worker."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        return await asyncio.shield(task)

    def _forget_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, or asyncio would log it if nobody waits any more

    async def _run(self, ask: Ask, work: Work, wait_seconds: float) -> Outcome:
        turn = await self.begin(ask, wait_seconds=wait_seconds)
        if isinstance(turn, Outcome):
            return turn
        try:
            given = await work(turn)
        except NothingDone as error:
            await self.release(turn)
            if error.__cause__ is not None:
                raise error.__cause__ from None
            raise
        except BaseException as error:
            await self.give_up(turn)
            if turn.ask.effects is Effects.OUTSIDE and isinstance(error, Exception):
                raise InDoubt("the work failed half-way") from error
            raise
        reach("guard.worked")
        try:
            return await self.finish(turn, given)
        except (InDoubt, asyncio.CancelledError):
            raise
        except BaseException:
            await self.give_up(turn)
            raise

    # The steps, for callers who need them one by one

    def ask(
        self,
        caller: str,
        key: str,
        operation: str,
        values: Mapping[str, str | int | bool | None],
        *,
        effects: Effects = Effects.JOINED,
        slot: int | None = None,
        note: Mapping[str, object] | None = None,
    ) -> Ask:
        """Check the arguments of `run`. Raises InvalidInput."""
        if canonical_key(key) != key:
            raise InvalidInput(FIELD, "not in canonical form; give what `canonical_key` makes of it")
        if not 1 <= len(caller) <= _CALLER_MAX:
            raise InvalidInput("caller", f"1 to {_CALLER_MAX} characters")
        if len(json.dumps(note or {})) > _NOTE_MAX:
            raise InvalidInput("note", f"at most {_NOTE_MAX} bytes of JSON")
        where = actor_slot(caller) if slot is None else slot
        return Ask(caller, key, operation, fingerprint(operation, values), effects, where, note or {})

    async def begin(self, ask: Ask, *, wait_seconds: float = 0.0) -> Turn | Outcome:
        """Claim the key, or return its stored answer. Raises as `run` does."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + wait_seconds, _POLL_SECONDS
        while True:
            try:
                found = await self._claim(ask)
            except StillRunning:
                if loop.time() >= deadline:
                    raise
            else:
                if isinstance(found, Turn):
                    reach("guard.claimed")
                return found
            await self._wait(ask, deadline, pause)
            pause = min(2 * pause, _POLL_MAX_SECONDS)

    async def finish(self, turn: Turn, given: Any, *, kept: bool = True) -> Outcome:
        """Store the answer, in one commit with the effect if that is `Joined`. With `kept=False` store no answer.

        Raises:
            Contended: with effects JOINED, the claim was taken over or the store is busy; nothing happened.
            InDoubt: with effects OUTSIDE, the claim was taken over; or the commit was not confirmed.
            Exception: whatever the joined decision raises; nothing happened.
        """
        for tries_left in reversed(range(_FINISH_TRIES)):
            try:
                outcome = await self._finish(turn, given, kept=kept)
            except Unavailable as error:
                if turn.ask.effects is Effects.JOINED:
                    raise
                if not tries_left:
                    raise InDoubt("what happened could not be written down") from error
                await asyncio.sleep(_POLL_MAX_SECONDS)
            else:
                reach("guard.committed")
                if outcome is not None:
                    return outcome
                if turn.ask.effects is Effects.JOINED:
                    raise Contended("another worker has taken this request over")
                raise InDoubt("another worker finds out what happened")
        raise AssertionError("the last try returns or raises")

    async def release(self, turn: Turn) -> None:
        """Free the key, because nothing happened. If that cannot be written now, the claim's lease runs out."""
        await _quietly(remove(self.store, turn.ask.name, lambda found: is_claimed_by(found, turn.token)))

    async def give_up(self, turn: Turn) -> None:
        """Handle failed work: with effects JOINED free the key; with OUTSIDE let the completer look at once."""
        if turn.ask.effects is Effects.JOINED:
            await self.release(turn)
            return
        now = self.clock()

        def doubt(found: Record | None) -> Record | None:
            if found is None or not is_claimed_by(found, turn.token):
                return None
            return found.next({**found.body, "state": "doubt"}, now)

        await _quietly(change(self.store, turn.ask.name, doubt))

    async def sweep(self, limit: int = 100) -> int:
        """Settle claims whose work has crashed, and remove old answers; returns how many.

        What cannot be settled now is left for a later sweep and does not stop the others. May run at any time, in any
        process, repeatedly.
        """
        return (await self._sweep.run(limit)).done

    # Inside

    async def _settle(self, record: Due) -> bool:
        assert isinstance(record, Record)
        return await settle(self, record)

    async def _claim(self, ask: Ask) -> Turn | Outcome:
        now, token = self.clock(), secrets.token_hex(16)

        def decide(snapshot: Snapshot) -> Decision[Turn | Outcome]:
            before = snapshot.record(ask.name)
            if before is not None:
                found = self._found(ask, before, now)
                if found is not None:
                    return Decision(Changes(), found)
            claim = claimed(ask, token, now, now + self.lease).after(before)
            return Decision(Changes(records=(claim,)), Turn(ask, token))

        return (await self.store.execute(Scope(ask.slot, records=(ask.name,)), decide)).result

    def _found(self, ask: Ask, before: Record, now: datetime) -> Outcome | None:
        """The stored answer; None if the claim may be taken over.

        Raises:
            StillRunning, InDoubt, IdempotencyKeyReused.
        """
        body = before.body
        if body["fingerprint"] != ask.fingerprint:
            raise IdempotencyKeyReused(ask.key)
        if body["state"] == "done":
            return Outcome(body.get("value"), replayed=True, kept=bool(body["kept"]))
        is_over = before.due_at is not None and before.due_at <= now
        if body["state"] == "doubt" or (is_over and body["effects"] == Effects.OUTSIDE):
            raise InDoubt("the work was begun and its end was not seen; it is being looked into")
        if not is_over:
            raise StillRunning
        return None

    async def _wait(self, ask: Ask, deadline: float, seconds: float) -> None:
        """Wait until the running request has ended, or the deadline. Only reads."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, min(seconds, deadline - loop.time())))
            found = await read(self.store, ask.name)
            is_running = found is not None and found.body["state"] == "running"
            is_leased = found is not None and found.due_at is not None and found.due_at > self.clock()
            if not (is_running and is_leased) or loop.time() >= deadline:
                return
            seconds = min(2 * seconds, _POLL_MAX_SECONDS)

    async def _finish(self, turn: Turn, given: Any, *, kept: bool) -> Outcome | None:
        """Commit the answer; returns None, with nothing written, if the claim was taken over."""
        ask, joined = turn.ask, given if isinstance(given, Joined) else None
        scope = joined.scope if joined else Scope(ask.slot)
        scope = replace(scope, records=(*scope.records, ask.name))
        now = self.clock()

        def decide(snapshot: Snapshot) -> Decision[Outcome | None]:
            before = snapshot.record(ask.name)
            if before is None or not is_claimed_by(before, turn.token):
                return Decision(Changes(), None)
            decision = joined.decide(snapshot) if joined else Decision(Changes(), given)
            value = decision.result if kept else None
            is_small = kept and len(json.dumps(value)) <= self.outcome_max
            body = {**before.body, "state": "done", "value": value if is_small else None, "kept": is_small, "note": {}}
            due_at = now + self.keep if self.keep is not None and is_small else None
            done = before.next(body, due_at)
            answer = Outcome(decision.result, replayed=False, kept=is_small)
            return Decision(decision.changes + Changes(records=(done,)), answer)

        return (await self.store.execute(scope, decide)).result


async def _quietly(written: Awaitable[object]) -> None:
    try:
        await written
    except WalletError as error:
        log.warning("a claim is left to its lease: %s", error)
