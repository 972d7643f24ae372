"""Names of users, unique across nodes without a distributed transaction.

Claim the username, claim the e-mail address, create the user, confirm the claims. The create is the decision. A claim
that its sign-up never confirmed runs out after a minute; whoever takes it over first writes a *tombstone* under the
claimed user id, so that a slow creator cannot win late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.errors import Contended, Rejected, Unavailable, WalletError
from ..domain.ids import UserId
from ..domain.model import Record, RecordKey
from ..domain.users import CLAIM_LASTS, User, tombstone, user_key
from ..storage import Store
from ._records import remove

_TAKEOVERS_MAX: Final = 3


class Names:
    """The steps of a sign-up, and their sweep."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def reserve_all(self, names: Mapping[RecordKey, Rejected], user_id: UserId) -> None:
        """Claim every name for a minute, or none. Raises the name's own error if somebody has it; Contended."""
        held: list[RecordKey] = []
        try:
            for key, taken in names.items():
                await self._reserve(key, user_id, taken)
                held.append(key)
        except Rejected:
            for key in held:
                await self._drop(key, user_id)
            raise

    async def create(self, user: User, *beside: Record) -> None:
        """Create the user, and write `beside` with it. Raises Unavailable if its names were given away meanwhile."""
        key = user_key(user.id)

        def decide(snapshot: Snapshot) -> Decision[None]:
            if snapshot.record(key) is not None:
                raise Unavailable("the sign-up took too long and its names were given away")
            return Decision(Changes(records=(user.to_record(), *beside)), None)

        await self._store.execute(Scope(key.slot, records=(key, *(record.key for record in beside))), decide)

    async def confirm(self, key: RecordKey, user_id: UserId) -> None:
        """Make a claim permanent. If that fails the sweep does it."""

        def decide(snapshot: Snapshot) -> Decision[None]:
            before = snapshot.record(key)
            if before is None or before.body["user"] != user_id or before.body["confirmed"]:
                return Decision(Changes(), None)
            body = {"user": user_id, "confirmed": True}
            return Decision(
                Changes(records=(replace(before, version=before.version + 1, body=body, due_at=None),)), None
            )

        try:
            await self._store.execute(Scope(key.slot, records=(key,)), decide)
        except WalletError as error:
            if not error.retryable:
                raise

    async def sweep(self, limit: int) -> int:
        """Settle claims that their sign-up left open; answers how many there were."""
        claims = await self._store.list_due("claim", self._clock(), limit)
        failed: WalletError | None = None
        for record in claims:
            assert isinstance(record, Record)
            user_id = UserId(str(record.body["user"]))
            try:
                await (self.confirm if await self._fence(user_id) else self._drop)(record.key, user_id)
            except WalletError as error:  # the others need not wait for this one
                failed = error
        if failed is not None:
            raise failed
        return len(claims)

    async def _reserve(self, key: RecordKey, user_id: UserId, taken: Rejected) -> None:
        """Claim a name for a minute; take over a claim that has run out, once its user id is fenced."""
        for _ in range(_TAKEOVERS_MAX):
            now = self._clock()
            stale = await self._claim(key, user_id, now, taken, instead_of=None)
            if stale is None:
                return
            if await self._fence(stale):
                await self.confirm(key, stale)
                raise taken
            if await self._claim(key, user_id, now, taken, instead_of=stale) is None:
                return
        raise Contended("others sign up with the same name")

    async def _claim(
        self, key: RecordKey, user_id: UserId, now: datetime, taken: Rejected, *, instead_of: UserId | None
    ) -> UserId | None:
        """Write the claim; answers None if it is ours now, else the user id of the stale claim that is in the way."""

        def decide(snapshot: Snapshot) -> Decision[UserId | None]:
            before = snapshot.record(key)
            holder = None if before is None else UserId(str(before.body["user"]))
            if before is None or holder == instead_of:
                body = {"user": user_id, "confirmed": False}
                version = before.version + 1 if before else 1
                claim = Record(key.kind, key.id, key.slot, user_id, version, body, now + CLAIM_LASTS)
                return Decision(Changes(records=(claim,)), None)
            if holder == user_id:
                return Decision(Changes(), None)
            if before.due_at is None or before.due_at > now:
                raise taken
            return Decision(Changes(), holder)

        return (await self._store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _fence(self, user_id: UserId) -> bool:
        """Whether the user exists; if not, make sure that it never will."""
        key = user_key(user_id)

        def decide(snapshot: Snapshot) -> Decision[bool]:
            before = snapshot.record(key)
            if before is None:
                return Decision(Changes(records=(tombstone(user_id),)), result=False)
            return Decision(Changes(), User.from_record(before) is not None)

        return (await self._store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _drop(self, key: RecordKey, owner: UserId) -> None:
        await remove(self._store, key, lambda found: found.owner == owner and not found.body.get("confirmed"))
