"""Sends events to merchants: signed webhooks by the Standard Webhooks specification, made from their entries.

Each entry on an account of a merchant is one event. Events are sent in the order of sequences, at least once: the
position moves on only after a 2xx, by a commit of its own. So a crash repeats at most the last event, with the same
`webhook-id`. A failed event is tried again after growing pauses. After `attempts_max` failures it becomes a *dead
letter*: the position moves past it, and `replay` sends it again.

Any process may send. It holds a lease on the merchant's delivery, and only the holder can move the position: so two
processes do not send one merchant's events at the same time, and a process whose lease has ended cannot move anything.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from time import monotonic
from typing import Final, Protocol

from ...domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from ...domain.errors import AccountNotFound, InvalidInput, NotAMerchant, reasons
from ...domain.ids import AccountId, UserId
from ...domain.merchants import Delivery, Merchant, delivery_key, merchant_key
from ...domain.model import Account, Record, RecordKey
from ...failpoints import reach
from ...metrics import WEBHOOK_AGE_SECONDS, WEBHOOKS
from ...records import Backlog, Swept, change_seen, page_of_records, read
from ...storage import PAGE_MAX, HistoryLine, Page, PageRequest, Store
from .dead_letters import DEAD, DeadLetter, dead_key
from .events import Event, NotSent, SendFailed, event_of

log = logging.getLogger("wallet_gql.webhooks")

GONE: Final = 410
"""With this status, a merchant's server asks for no more events."""

_DELIVERED: Final = "delivered"
_FAILED: Final = "failed"
_NOT_SENT: Final = "not_sent"
_GIVEN_UP: Final = "given_up"

_DUE_MAX: Final = 1_000
_AT_ONCE: Final = 64
_ROUND_MAX: Final = 100
_ROUND_SECONDS: Final = 10.0
"""How long one merchant is served before others have their turn, so that slow servers do not delay the others."""

for _outcome in (_DELIVERED, _FAILED, _NOT_SENT, _GIVEN_UP):
    WEBHOOKS.expect(_outcome)

_ERROR_MAX: Final = 200
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Leased:
    """A delivery and its merchant, from one commit."""

    delivery: Delivery
    merchant: Merchant


class Sender(Protocol):
    """Sends an event to a URL; returns the status. Raises SendFailed, NotSent."""

    async def __call__(self, url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        """Send one event."""
        ...


class Webhooks:
    """Sends merchants the events of their accounts, over any store."""

    def __init__(
        self,
        store: Store,
        send: Sender,
        *,
        clock: Callable[[], datetime],
        retry_seconds: float = 5.0,
        retry_max_seconds: float = 3_600.0,
        attempts_max: int = 16,
        lease_seconds: float = 60.0,
        idle_max_seconds: float = 15.0,
        unseal: Callable[[str], str] = lambda stored: stored,
    ) -> None:
        """`retry_seconds` is the first wait after a failure; it doubles up to `retry_max_seconds`.

        `lease_seconds` is longer than sending one event takes. A merchant without new events is checked every
        `idle_max_seconds`, and at the next sweep after `wake`. `unseal` makes of a stored secret the one that signs; it
        may raise NotSent.
        """
        self.store = store
        self.send = send
        self.clock = clock
        self.retry_seconds = retry_seconds
        self.retry_max_seconds = retry_max_seconds
        self.attempts_max = attempts_max
        self.lease = timedelta(seconds=lease_seconds)
        self.idle_max_seconds = idle_max_seconds
        self.unseal = unseal
        self._tasks: dict[UserId, asyncio.Task[Swept]] = {}
        self._woken: set[UserId] = set()
        self._idle_seconds: dict[UserId, float] = {}
        self._backlog = Backlog(store, "delivery", clock)

    def wake(self, merchant_id: UserId) -> None:
        """Check this merchant at the next sweep. This is only a hint, and only for this process."""
        self._woken.add(merchant_id)

    async def sweep(self) -> int:
        """Start a task for every merchant who is due and has none yet; returns how many were started."""
        listed = await self._backlog.ready(_DUE_MAX)
        if listed is None:
            return 0
        due = [UserId(items[0].id) for items in listed]
        turns = (name for pair in zip_longest(due, tuple(self._woken)) for name in pair if name is not None)
        free = (name for name in dict.fromkeys(turns) if not self._backlog.is_put_off(name))
        wanted = [name for name in free if name not in self._tasks]
        started = wanted[: max(0, _AT_ONCE - len(self._tasks))]
        for merchant_id in started:
            self._tasks[merchant_id] = asyncio.create_task(self._tell_safely(merchant_id))
        self._woken.difference_update(started)
        return len(started)

    async def settle(self) -> Swept:
        """Wait for all tasks that `sweep` started; returns their results."""
        swept = Swept()
        while self._tasks:
            swept = sum(await asyncio.gather(*self._tasks.values()), swept)  # each removes itself
        return swept

    async def aclose(self) -> None:
        """Stop sending. Unfinished deliveries are continued by any process, after their leases."""
        for task in list(self._tasks.values()):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _tell_safely(self, merchant_id: UserId) -> Swept:
        async def told() -> bool:
            await self.tell(merchant_id)
            return True

        try:
            return await self._backlog.look(merchant_id, told)
        finally:
            self._tasks.pop(merchant_id, None)

    async def tell(self, merchant_id: UserId) -> int:
        """Send a merchant's new events, if it is due; returns how many were delivered. Raises Unavailable."""
        key = delivery_key(merchant_id)
        snapshot = await self.store.fetch(ReadSet(wallets=(merchant_id,), records=(key,)))
        record = snapshot.record(key)
        if record is None:
            return 0
        accounts, seen = snapshot.wallet(merchant_id), Delivery.from_record(record)
        if not _pending(seen, accounts):
            if snapshot.awaits_entries(merchant_id):
                self.wake(merchant_id)
            else:
                await self._rest(record, seen)
            return 0
        token = secrets.token_hex(8)
        taken = await self._take(merchant_id, token)
        if taken is None or taken.merchant.webhook_url is None:
            return 0
        self._idle_seconds.pop(merchant_id, None)
        reach("webhooks.leased")
        return await self._tell(taken, token, accounts)

    async def _tell(self, leased: _Leased, token: str, accounts: Sequence[Account]) -> int:
        """Send event by event, while the lease is ours, the merchant answers, and the round is not over."""
        told, merchant_id, ends_at = 0, leased.merchant.id, monotonic() + _ROUND_SECONDS
        for account in accounts:
            async with aclosing(self._lines(account, leased.delivery.positions.get(account.id, 0))) as lines:
                async for line in lines:
                    if told >= _ROUND_MAX or monotonic() >= ends_at:
                        break
                    if leased.delivery.is_repeat(account.id, line.entry.sequence):
                        pause_seconds = leased.delivery.pause_seconds(self.clock())
                        if pause_seconds:
                            await self._release(merchant_id, token, pause_seconds)
                            return told
                    event = event_of(line)
                    try:
                        error = await self._attempt(leased.merchant, event, leased.delivery)
                        self._measure(_FAILED if error else _DELIVERED, line)
                    except NotSent as busy:
                        self._measure(_NOT_SENT, line)
                        log.warning("event %s was not sent: %s", event.id, busy)
                        await self._release(merchant_id, token, self.retry_seconds)
                        return told
                    if error:
                        await self._failed(leased.merchant, token, event, error)
                        return told
                    reach("webhooks.sent")
                    moved = await self._move(merchant_id, token, line)
                    if moved is None:
                        log.warning("events of merchant %s are being told by somebody else", merchant_id)
                        return told
                    reach("webhooks.moved")
                    leased, told = moved, told + 1
        await self._release(merchant_id, token)
        return told

    async def _lines(self, account: Account, after: int) -> AsyncGenerator[HistoryLine, None]:
        """The entries above a position, in order, without a gap."""
        while after < account.sequence:
            page = await self.store.list_transfers(account.id, PageRequest(PAGE_MAX, after=after, newest_first=False))
            for line in page.items:
                if line.entry.sequence != after + 1:
                    log.error("account %s lacks entry %s; its events wait", account.id, after + 1)
                    return
                yield line
                after = line.entry.sequence
            if not page.items:
                return

    async def _attempt(self, merchant: Merchant, event: Event, delivery: Delivery) -> str:
        """Send one event; returns what went wrong, "" if it arrived. Raises NotSent."""
        assert merchant.webhook_url is not None
        try:
            secrets = tuple(map(self.unseal, merchant.live_secrets(self.clock())))
            status = await self.send(merchant.webhook_url, event, secrets, turn=delivery.attempts)
        except NotSent:
            raise
        except SendFailed as error:
            return str(error)[:_ERROR_MAX]
        return "" if 200 <= status < 300 else f"status {status}"  # noqa: PLR2004 - what 2xx means

    def _measure(self, outcome: str, line: HistoryLine) -> None:
        WEBHOOKS.add(outcome)
        WEBHOOK_AGE_SECONDS.note((self.clock() - line.entry.at).total_seconds(), outcome)

    # What is written

    async def _rest(self, record: Record, seen: Delivery) -> None:
        """There is nothing to send: check again after a growing pause, unless the record was changed meanwhile."""
        if seen.due_at is None or seen.due_at > self.clock() or seen.lease:
            return
        wait_seconds = min(2 * self._idle_seconds.get(seen.merchant_id, _LOOK_SECONDS / 2), self.idle_max_seconds)
        self._idle_seconds[seen.merchant_id] = wait_seconds
        later = replace(seen, due_at=self.clock() + timedelta(seconds=wait_seconds))
        await change_seen(self.store, record, lambda _: later.to_record())

    async def _take(self, merchant_id: UserId, token: str) -> _Leased | None:
        """Take the lease, if nobody has it and the merchant is due or idle; None if not."""
        now = self.clock()

        def change(found: Delivery) -> Delivery | None:
            is_idle = not found.lease and found.attempts == 0
            if found.due_at is None or (found.due_at > now and not is_idle):
                return None
            return replace(found, lease=token, due_at=now + self.lease)

        return await self._change(merchant_id, change)

    async def _move(self, merchant_id: UserId, token: str, line: HistoryLine) -> _Leased | None:
        """Move the position past one event and renew the lease; None if another process has the lease."""
        now, entry = self.clock(), line.entry

        def change(found: Delivery) -> Delivery | None:
            if found.lease != token:
                return None
            is_repeat = found.is_repeat(entry.account_id, entry.sequence)
            after = found.repeated(now) if is_repeat else found
            return replace(after.told(entry.account_id, entry.sequence), due_at=now + self.lease)

        return await self._change(merchant_id, change)

    async def _release(self, merchant_id: UserId, token: str, wait_seconds: float = 0.0) -> None:
        due_at = self.clock() + timedelta(seconds=wait_seconds)

        def change(found: Delivery) -> Delivery | None:
            return replace(found, lease="", due_at=due_at) if found.lease == token else None

        await self._change(merchant_id, change)

    async def _failed(self, merchant: Merchant, token: str, event: Event, error: str) -> None:
        """Set when to retry; after too many failures make the event a dead letter. After a 410, stop sending."""
        now, key = self.clock(), delivery_key(merchant.id)
        letter = dead_key(event.account_id, event.sequence)
        log.info("event %s did not reach merchant %s: %s", event.id, merchant.id, error)

        def decide(snapshot: Snapshot) -> Decision[bool]:
            record = snapshot.record(key)
            found = None if record is None else Delivery.from_record(record)
            if record is None or found is None or found.lease != token:
                return Decision(Changes(), result=False)
            if found.is_repeat(event.account_id, event.sequence):
                found = found.repeated(now)
            if error == f"status {GONE}":
                after = replace(found, lease="", last_error=error, attempts=0, due_at=None)
                return Decision(Changes(records=(after.to_record().after(record),)), result=False)
            attempts = found.attempts + 1
            if attempts < self.attempts_max:
                due_at = now + timedelta(seconds=self._wait_seconds(attempts))
                after = replace(found, lease="", last_error=error, attempts=attempts, due_at=due_at)
                return Decision(Changes(records=(after.to_record().after(record),)), result=False)
            given_up = replace(found.told(event.account_id, event.sequence), lease="", due_at=now, dead=found.dead + 1)
            after = replace(given_up, last_error=error)
            body = {"event": event.id, "transfer": event.transfer_id, "error": error}
            dead = Record(letter.kind, letter.id, letter.slot, merchant.id, 1, body, now).after(snapshot.record(letter))
            return Decision(Changes(records=(after.to_record().after(record), dead)), result=True)

        if (await self.store.execute(Scope(key.slot, records=(key, letter)), decide)).result:
            WEBHOOKS.add(_GIVEN_UP)

    def _wait_seconds(self, attempts: int) -> float:
        """A random part of a wait that doubles with each attempt, so that many retries do not come at once."""
        longest = min(self.retry_seconds * 2.0 ** min(attempts - 1, 30), self.retry_max_seconds)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    async def _change(self, merchant_id: UserId, change: Callable[[Delivery], Delivery | None]) -> _Leased | None:
        """Write a changed delivery; returns it with the merchant as read in that commit, for the next event.

        So after a change of URL or secret, at most one event still uses the old one: the one being sent.
        """
        key, about = delivery_key(merchant_id), merchant_key(merchant_id)

        def decide(snapshot: Snapshot) -> Decision[_Leased | None]:
            record, merchant = snapshot.record(key), Merchant.from_record(snapshot.record(about))
            after = None if record is None else change(Delivery.from_record(record))
            if record is None or merchant is None or after is None:
                return Decision(Changes(), None)
            return Decision(Changes(records=(after.to_record().after(record),)), _Leased(after, merchant))

        return (await self.store.execute(Scope(key.slot, records=(key, about)), decide)).result

    # For merchants and operators

    async def delivery(self, merchant_id: UserId) -> Delivery | None:
        """A merchant's delivery: the positions sent so far; None if the user is not a merchant."""
        record = await read(self.store, delivery_key(merchant_id))
        return None if record is None else Delivery.from_record(record)

    async def dead_letters(
        self, merchant_id: UserId, *, after: str = "", limit: int = PAGE_MAX, backward: bool = False
    ) -> Page[DeadLetter]:
        """A merchant's dead letters behind the id `after`, or in front of it: account by account, newest first."""
        way = {"descending": True, "backward": backward}
        page = await page_of_records(self.store, DEAD, merchant_id, limit, behind=after, **way)
        return Page(tuple(map(DeadLetter.from_record, page.items)), page.has_more)

    async def all_dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """The dead letters of all merchants, oldest first."""
        found = await self.store.list_due(DEAD, self.clock(), limit)
        return [DeadLetter.from_record(record) for record in found if isinstance(record, Record)]

    async def replay(self, merchant_id: UserId, account_id: AccountId, from_sequence: int) -> Delivery:
        """Send an account's events again, from this sequence on; dead letters among them are removed.

        Raises:
            AccountNotFound: it is not the merchant's.
            NotAMerchant: the user is not a merchant.
            InvalidInput: there is no such sequence.
        """
        letters = await self._letters_from(merchant_id, account_id, from_sequence)
        key, now = delivery_key(merchant_id), self.clock()
        scope = Scope(key.slot, wallets=(merchant_id,), records=(key, merchant_key(merchant_id), *letters))

        def decide(snapshot: Snapshot) -> Decision[Delivery]:
            record, merchant = snapshot.record(key), Merchant.from_record(snapshot.record(merchant_key(merchant_id)))
            if record is None or merchant is None:
                raise NotAMerchant(merchant_id)
            account = next((one for one in snapshot.wallet(merchant_id) if one.id == account_id), None)
            if account is None:
                raise AccountNotFound(account_id)
            if not 1 <= from_sequence <= account.sequence + 1:
                raise InvalidInput("fromSequence", reasons.RANGE(least=1, most=account.sequence + 1))
            gone = tuple(letter for letter in letters if snapshot.record(letter) is not None)
            found = Delivery.from_record(record).told(account_id, from_sequence - 1)
            due_at = now if merchant.webhook_url else None
            after = replace(found, lease="", due_at=due_at, dead=max(0, found.dead - len(gone)))
            return Decision(Changes(records=(after.to_record().after(record),), removed=gone), after)

        return (await self.store.execute(scope, decide)).result

    async def _letters_from(self, merchant_id: UserId, account_id: AccountId, sequence: int) -> list[RecordKey]:
        """The dead letters of an account from a sequence on: the first thousand."""
        found: list[RecordKey] = []
        after = f"{account_id}:{max(sequence, 1) - 1:020d}"
        while len(found) < _DUE_MAX:
            page = await self.store.list_records(DEAD, merchant_id, after=after)
            found += [record.key for record in page.items if record.id.startswith(f"{account_id}:")]
            if not page.has_more:
                break
            after = page.items[-1].id
        return found


def _pending(delivery: Delivery, accounts: Sequence[Account]) -> bool:
    return any(account.sequence > delivery.positions.get(account.id, 0) for account in accounts)
