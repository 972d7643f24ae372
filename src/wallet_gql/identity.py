"""Who is who: sign-up, log-in, sessions. Everything here is `Record`s; no money is touched.

Names are unique across nodes without a distributed transaction: claim the username, claim the e-mail, create the
user, confirm the claims. The create is the decision. A claim that its sign-up never confirmed runs out after a minute;
whoever takes it over first writes a *tombstone* under the claimed user id, so that a slow creator cannot win late.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from .domain.changes import Changes, Decision, Scope, Snapshot
from .domain.errors import (
    Contended,
    EmailTaken,
    InvalidCredentials,
    InvalidInput,
    Rejected,
    Unauthenticated,
    Unavailable,
    UsernameTaken,
    WalletError,
)
from .domain.ids import UserId, make_user_id, slot_of
from .domain.model import Record, RecordKey
from .domain.users import (
    CLAIM_LASTS,
    PASSWORD_MAX,
    Session,
    SessionKind,
    User,
    check_email,
    check_password,
    check_username,
    email_claim,
    make_token,
    token_key,
    tombstone,
    user_key,
    username_claim,
)
from .storage import Store

R = TypeVar("R")

SEEN_EVERY: Final = timedelta(seconds=60)
"""How often a session in use is written back."""

_TAKEOVERS_MAX: Final = 3
_HASHES_WAITING_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A new session: `token` is told once and stored only as a hash."""

    user: User
    session: Session
    token: str


class Passwords:
    """argon2id (19 MiB, 2 passes, 1 lane: the OWASP floor) in a bounded pool, off the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        workers = max(1, (os.cpu_count() or 1) - 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="wallet-argon2")
        self._waiting = 0
        self._dummy = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Hash a new password. Raises Contended when too many are waiting."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Check a password; for an unknown user (None) the same work is done in vain. Raises Contended."""
        return await self._run(lambda: self._verify(stored or self._dummy, password)) and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.shutdown()

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], R]) -> R:
        if self._waiting >= _HASHES_WAITING_MAX:
            raise Contended("too many log-ins are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1


class Identity:
    """Users and their sessions over any store."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.passwords = Passwords()
        self._clock = clock

    async def sign_up(self, username: str, email: str, password: str) -> User:
        """Create a user.

        Raises:
            InvalidInput: a name or the password has the wrong shape.
            UsernameTaken, EmailTaken: somebody has it.
            Unavailable: nothing was created, or the answer was lost; if it was created, logging in works.
        """
        username, email = check_username(username), check_email(email)
        check_password(password, username=username, email=email)
        password_hash = await self.passwords.hash(password)
        now = self._clock()
        user_id = make_user_id(int(now.timestamp() * 1000), secrets.randbits(62))
        user = User(user_id, username, email, password_hash, now)
        names = {username_claim(username): UsernameTaken(username), email_claim(email): EmailTaken(email)}
        held: list[RecordKey] = []
        try:
            for key, taken in names.items():
                await self._reserve(key, user_id, taken)
                held.append(key)
        except Rejected:
            for key in held:
                await self._drop(key, user_id)
            raise
        await self._create(user)
        for key in names:
            await self._confirm(key, user_id)
        return user

    async def log_in(self, login: str, password: str, kind: SessionKind = SessionKind.COOKIE) -> LoggedIn:
        """Start a session by username or e-mail. One argon2 verification is done on every path.

        Raises:
            InvalidCredentials: unknown user or wrong password, not told which.
        """
        user = await self._find(login)
        usable = len(password) <= PASSWORD_MAX
        matches = await self.passwords.verify(user.password_hash if user and usable else None, password[:PASSWORD_MAX])
        if user is None or not matches:
            raise InvalidCredentials
        if self.passwords.is_outdated(user.password_hash) and await self._rehash(user, password):
            user = await self._find(login) or user
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        token = make_token(slot_of(user.id), secret)
        key = token_key(token)
        assert key is not None
        now = self._clock()
        session = Session(key.id, user.id, kind, now, now)
        await self._begin(session, user)
        return LoggedIn(user, session, token)

    async def log_out(self, session: Session) -> None:
        """End a session at once. Ending it twice is no error."""
        await self._drop(session.key, session.user_id)

    async def log_out_everywhere(self, user_id: UserId, *, keep: Session | None = None) -> int:
        """End all sessions of a user at once, but for `keep`; answers how many."""
        ended = [session for session in await self.sessions(user_id) if keep is None or session.id != keep.id]
        for session in ended:
            await self.log_out(session)
        return len(ended)

    async def change_password(self, session: Session, old: str, new: str) -> None:
        """Choose a new password; every other session ends at once.

        Raises:
            InvalidCredentials: the old password is wrong. InvalidInput: the new one may not be chosen.
            Contended: it was changed meanwhile; log in with the new one.
        """
        user = await self.user(session.user_id)
        if user is None or not await self.passwords.verify(user.password_hash, old[:PASSWORD_MAX]):
            raise InvalidCredentials
        check_password(new, username=user.username, email=user.email)
        if not await self._rehash(user, new):
            raise Contended("the password was changed by somebody else meanwhile")
        await self.log_out_everywhere(user.id, keep=session)

    async def sessions(self, user_id: UserId) -> list[Session]:
        """The user's live sessions, the newest first."""
        now = self._clock()
        found: list[Session] = []
        after = ""
        while True:
            page = await self.store.list_records("session", user_id, after=after)
            found += [Session.from_record(record) for record in page.items]
            if not page.has_more:
                break
            after = page.items[-1].id
        live = (session for session in found if session.expires_at > now)
        return sorted(live, key=lambda session: (session.created_at, session.id), reverse=True)

    async def revoke(self, user_id: UserId, session_id: str) -> bool:
        """End one of the user's own sessions by id; answers whether there was one."""
        for session in await self.sessions(user_id):
            if session.id == session_id:
                await self.log_out(session)
                return True
        return False

    async def authenticate(self, token: str) -> Session:
        """The live session of a token. Raises Unauthenticated."""
        key = token_key(token)
        record = None if key is None else (await self.store.fetch(Scope(key.slot, records=(key,)))).record(key)
        now = self._clock()
        if record is None or Session.from_record(record).expires_at <= now:
            raise Unauthenticated
        session = Session.from_record(record)
        if now - session.seen_at >= SEEN_EVERY:
            session = await self._touch(session, now)
        return session

    async def user(self, user_id: UserId) -> User | None:
        """A user by id; None if there is none."""
        key = user_key(user_id)
        return User.from_record((await self.store.fetch(Scope(key.slot, records=(key,)))).record(key))

    async def users(self, user_ids: set[UserId]) -> dict[UserId, User]:
        """Several users at once."""
        keys = tuple(user_key(user_id) for user_id in user_ids)
        snapshot = await self.store.fetch(Scope(0, records=keys))
        found = (User.from_record(snapshot.record(key)) for key in keys)
        return {user.id: user for user in found if user is not None}

    async def find(self, login: str) -> User | None:
        """A user by username or e-mail; None if there is none."""
        return await self._find(login)

    async def sweep(self, limit: int = 1_000) -> int:
        """Settle claims that their sign-up left open, and remove sessions that are over; answers how many."""
        now = self._clock()
        claims = await self.store.list_due("claim", now, limit)
        failed: WalletError | None = None
        for record in claims:
            assert isinstance(record, Record)
            user_id = UserId(str(record.body["user"]))
            try:
                await (self._confirm if await self._fence(user_id) else self._drop)(record.key, user_id)
            except WalletError as error:  # the others need not wait for this one
                failed = error
        ended = await self.store.list_due("session", now, limit)
        for record in ended:
            assert isinstance(record, Record)
            await self._remove(record.key, lambda found: found.due_at is not None and found.due_at <= now)
        if failed is not None:
            raise failed
        return len(claims) + len(ended)

    # The steps of a sign-up

    async def _reserve(self, key: RecordKey, user_id: UserId, taken: Rejected) -> None:
        """Claim a name for a minute; take over a claim that has run out, once its user id is fenced."""
        for _ in range(_TAKEOVERS_MAX):
            now = self._clock()
            stale = await self._claim(key, user_id, now, taken, instead_of=None)
            if stale is None:
                return
            if await self._fence(stale):
                await self._confirm(key, stale)
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

        return (await self.store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _fence(self, user_id: UserId) -> bool:
        """Whether the user exists; if not, make sure that it never will."""
        key = user_key(user_id)

        def decide(snapshot: Snapshot) -> Decision[bool]:
            before = snapshot.record(key)
            if before is None:
                return Decision(Changes(records=(tombstone(user_id),)), result=False)
            return Decision(Changes(), User.from_record(before) is not None)

        return (await self.store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _create(self, user: User) -> None:
        key = user_key(user.id)

        def decide(snapshot: Snapshot) -> Decision[None]:
            if snapshot.record(key) is not None:
                raise Unavailable("the sign-up took too long and its names were given away")
            return Decision(Changes(records=(user.to_record(),)), None)

        await self.store.execute(Scope(key.slot, records=(key,)), decide)

    async def _confirm(self, key: RecordKey, user_id: UserId) -> None:
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
            await self.store.execute(Scope(key.slot, records=(key,)), decide)
        except WalletError as error:
            if not error.retryable:
                raise

    async def _begin(self, session: Session, user: User) -> None:
        """Store a session, unless the password that was verified has been changed meanwhile."""
        key = user_key(user.id)

        def decide(snapshot: Snapshot) -> Decision[None]:
            current = User.from_record(snapshot.record(key))
            if current is None or current.password_hash != user.password_hash:
                raise InvalidCredentials
            return Decision(Changes(records=(session.to_record(1),)), None)

        await self.store.execute(Scope(key.slot, records=(session.key, key)), decide)

    # Small record writes

    async def _drop(self, key: RecordKey, owner: UserId) -> None:
        await self._remove(key, lambda found: found.owner == owner and not found.body.get("confirmed"))

    async def _remove(self, key: RecordKey, still: Callable[[Record], bool]) -> None:
        def decide(snapshot: Snapshot) -> Decision[None]:
            found = snapshot.record(key)
            return Decision(Changes(removed=(key,) if found and still(found) else ()), None)

        await self.store.execute(Scope(key.slot, records=(key,)), decide)

    async def _put(self, key: RecordKey, make: Callable[[Record | None], Record | None]) -> bool:
        def decide(snapshot: Snapshot) -> Decision[bool]:
            record = make(snapshot.record(key))
            return Decision(Changes(records=(record,) if record else ()), record is not None)

        return (await self.store.execute(Scope(key.slot, records=(key,)), decide)).result

    async def _touch(self, session: Session, now: datetime) -> Session:
        """Move the idle limit; a session that was ended meanwhile stays ended."""
        seen = replace(session, seen_at=now)
        try:
            await self._put(session.key, lambda before: seen.to_record(before.version + 1) if before else None)
        except Unavailable:
            return session
        return seen

    async def _rehash(self, user: User, password: str) -> bool:
        """Store a new hash unless the old one is no longer there; answers whether it was stored."""
        better = replace(user, password_hash=await self.passwords.hash(password))
        key = user_key(user.id)

        def make(before: Record | None) -> Record | None:
            current = User.from_record(before)
            if before is None or current is None or current.password_hash != user.password_hash:
                return None
            return better.to_record(before.version + 1)

        return await self._put(key, make)

    async def _find(self, login: str) -> User | None:
        try:
            key = email_claim(check_email(login)) if "@" in login else username_claim(check_username(login))
        except InvalidInput:
            return None
        claimed = (await self.store.fetch(Scope(key.slot, records=(key,)))).record(key)
        return None if claimed is None else await self.user(UserId(str(claimed.body["user"])))
