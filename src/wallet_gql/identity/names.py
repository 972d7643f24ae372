"""Makes usernames and e-mail addresses unique across nodes without a distributed transaction.

A sign-up has four steps, one commit each: claim the username, claim the e-mail address, create the user, confirm the
claims. Creating the user is the decision. A claim that was never confirmed can be taken over: by the same request at
once, by others after a minute. Before that, a *tombstone* is written under the claimed user id, so that a slow sign-up
can no longer create its user.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.errors import Contended, EmailTaken, InDoubt, Rejected, Unavailable, UsernameTaken, WalletError
from ..domain.ids import UserId
from ..domain.model import Record, RecordKey
from ..domain.users import (
    CLAIM_LASTS,
    User,
    check_email,
    check_username,
    email_claim,
    tombstone,
    user_key,
    username_claim,
)
from ..failpoints import reach
from ..people import holder_of
from ..records import Backlog, Due, Sweep, change, read, remove
from ..storage import Store

log: Final = logging.getLogger(__name__)

_TAKEOVERS_MAX: Final = 3


class Names:
    """The steps of a sign-up, and their sweep."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self.sweep = Sweep(Backlog(store, "claim", clock), self._settle)
        """Settles name claims that a sign-up left open."""

    async def sign_up(self, user: User, *beside: Record) -> None:
        """Claim the user's names, create the user together with the records `beside`, and confirm the claims.

        Whichever step fails, the same request can be sent again at once.

        Raises:
            UsernameTaken, EmailTaken: another user has it.
            Unavailable: nothing was created.
            InDoubt: unknown; see `_settle_own`.
        """
        names: dict[RecordKey, Rejected] = {
            username_claim(user.username): UsernameTaken(user.username),
            email_claim(user.email): EmailTaken(user.email),
        }
        tried: list[RecordKey] = []
        try:
            for key, taken in names.items():
                tried.append(key)
                await self._reserve(key, user, taken)
                reach("sign_up.reserved")
            await self.create(user, *beside)
        except WalletError as error:
            if not await self._settle_own(user, tried, created=isinstance(error, InDoubt)):
                raise
        reach("sign_up.created")
        for key in names:
            await self.confirm(key, user.id)
            reach("sign_up.confirmed")

    async def taken(self, username: str, email: str) -> list[UsernameTaken | EmailTaken]:
        """Which of two names somebody has claimed. Raises InvalidInput: one has the wrong shape. Unavailable."""
        username, email = check_username(username), check_email(email)
        claims = (username_claim(username), UsernameTaken(username)), (email_claim(email), EmailTaken(email))
        return [error for claim, error in claims if await holder_of(self._store, claim) is not None]

    async def create(self, user: User, *beside: Record) -> None:
        """Create the user, and write `beside` with it. Raises Unavailable if its names were given away meanwhile."""
        key = user_key(user.id)

        def decide(snapshot: Snapshot) -> Decision[None]:
            if snapshot.record(key) is not None:
                raise Unavailable("the sign-up took too long and its names were given away")
            return Decision(Changes(records=(user.to_record(), *beside)), None)

        await self._store.execute(Scope(key.slot, records=(key, *(record.key for record in beside))), decide)

    async def confirm(self, key: RecordKey, user_id: UserId) -> None:
        """Make a claim permanent. If that fails, the sweep does it later."""

        def confirmed(before: Record | None) -> Record | None:
            if before is None or before.body["user"] != user_id or before.body["confirmed"]:
                return None
            return before.next({"user": user_id, "confirmed": True}, None)

        try:
            await change(self._store, key, confirmed)
        except WalletError as error:
            if not error.retryable:
                raise

    async def _settle_own(self, user: User, names: Iterable[RecordKey], *, created: bool) -> bool:
        """Clean up after a failed step: return True if the user exists nevertheless, else free the names.

        `created` says that the user may exist. If the store fails here, too, the claims are left to a repeated request
        or the sweep.
        """
        try:
            if created and await self._fence(user.id):
                return True
            for key in names:
                await self._drop(key, user.id)
        except WalletError as error:
            log.warning("names of a sign-up are left to the sweep: %s", error)
        return False

    async def _settle(self, claim: Due) -> bool:
        """Settle an abandoned claim: confirm it if its user was created, else remove it."""
        assert isinstance(claim, Record)
        user_id = UserId(str(claim.body["user"]))
        await (self.confirm if await self._fence(user_id) else self._drop)(claim.key, user_id)
        return True

    async def _reserve(self, key: RecordKey, user: User, taken: Rejected) -> None:
        """Claim a name for a minute. A stale claim is taken over, after its user id was fenced."""
        for _ in range(_TAKEOVERS_MAX):
            now = self._clock()
            stale = await self._claim(key, user, now, taken, instead_of=None)
            if stale is None:
                return
            await self._check_alive(user.id)
            if await self._fence(stale):
                await self.confirm(key, stale)
                raise taken
            if await self._claim(key, user, now, taken, instead_of=stale) is None:
                return
        raise Contended("others sign up with the same name")

    async def _claim(
        self, key: RecordKey, user: User, now: datetime, taken: Rejected, *, instead_of: UserId | None
    ) -> UserId | None:
        """Write the claim; returns None if it is ours now, else the user id of the stale claim that is in the way."""
        body = {"user": user.id, "confirmed": False, "request": _request(user)}
        claim = Record(key.kind, key.id, key.slot, user.id, 1, body, now + CLAIM_LASTS)

        def decide(snapshot: Snapshot) -> Decision[UserId | None]:
            before = snapshot.record(key)
            holder = None if before is None else UserId(str(before.body["user"]))
            if before is None or holder == instead_of:
                return Decision(Changes(records=(claim.after(before),)), None)
            if holder == user.id:
                return Decision(Changes(), None)
            if not _is_stale(before, now, claim):
                raise taken
            return Decision(Changes(), holder)

        return (await self._store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _check_alive(self, user_id: UserId) -> None:
        """Raise Unavailable if a repeat of this request has fenced this user id: this one must not fence it in return.

        The repeat takes the names over in the same order, so if it holds this name, its fence is already written.
        """
        if await read(self._store, user_key(user_id)) is not None:
            raise Unavailable("the same sign-up was sent again")

    async def _fence(self, user_id: UserId) -> bool:
        """Return whether the user exists; if not, write a tombstone, so that it never will."""
        key = user_key(user_id)

        def decide(snapshot: Snapshot) -> Decision[bool]:
            before = snapshot.record(key)
            if before is None:
                return Decision(Changes(records=(tombstone(user_id),)), result=False)
            return Decision(Changes(), User.from_record(before) is not None)

        return (await self._store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _drop(self, key: RecordKey, owner: UserId) -> None:
        await remove(self._store, key, lambda found: found.owner == owner and not found.body.get("confirmed"))


def _request(user: User) -> str:
    """Identifies a sign-up and its repeats: a digest of username and e-mail address."""
    return hashlib.sha256(f"{user.username}\n{user.email}".encode()).hexdigest()


def _is_stale(found: Record, now: datetime, claim: Record) -> bool:
    """Whether `claim` may replace the claim that was found: that has run out, or is of the same request."""
    if found.due_at is None:
        return False
    return found.due_at <= now or found.body.get("request") == claim.body["request"]
