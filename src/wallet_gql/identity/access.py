"""Users and their sessions over any store."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ..domain.changes import ReadSet, Scope
from ..domain.errors import (
    Contended,
    FreshLogInRequired,
    InDoubt,
    InvalidCredentials,
    InvalidInput,
    Unauthenticated,
    Unavailable,
    WalletError,
    reasons,
)
from ..domain.frozen import frozen
from ..domain.ids import UserId, make_user_id
from ..domain.model import Record
from ..domain.reserved import refuse_reserved
from ..domain.security_events import EventKind, SecurityEvent, Visitor
from ..domain.text import opaque
from ..domain.users import (
    FRESH,
    PASSWORD_SENT_MAX,
    Session,
    SessionKind,
    User,
    check_email,
    check_password,
    check_username,
    login_claim,
    user_key,
)
from ..people import holder_of, user_called
from ..records import LIMIT, Backlog, Due, Sweep, SweepKind, Swept, change, read, remove, sweep_all
from ..storage import Store
from .decisions import beginning, ending, renewing
from .events import Events, tell
from .names import Names
from .passwords import Passwords
from .sessions import SessionReads, live, new_session
from .throttle import Throttles

log: Final = logging.getLogger(__name__)

SEEN_EVERY: Final = timedelta(seconds=60)
"""How often the last use of a session is stored: writing it on every request would cost a commit each."""

NOBODY: Final = make_user_id(0, 0)
"""Read instead of a user who does not exist, so that unknown names take as many reads as known ones."""

_SWEPT: Final[tuple[SweepKind, ...]] = ("session", "event", "throttle")


@frozen
class LoggedIn:
    """A new session. `token` is shown only now; the store keeps its hash."""

    user: User
    session: Session
    token: str


class Identity:
    """Users and their sessions. A `visitor` is where a request comes from; None for the operator's commands."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime],
        passwords: Passwords | None = None,
        session_cache_seconds: float = 0.0,
    ) -> None:
        """For `session_cache_seconds` after a session was read, `recent` answers it."""
        self.store = store
        self.passwords = Passwords() if passwords is None else passwords
        self.names = Names(store, clock)
        self.throttles = Throttles(store, clock)
        self.events = Events(store, clock)
        self._clock = clock
        self._reads = SessionReads(store, keep_seconds=session_cache_seconds)
        over = (Sweep(Backlog(store, kind, clock), self._forget) for kind in _SWEPT)
        self.sweeps = (*over, self.names.sweep)

    async def sign_up(self, username: str, email: str, password: str, visitor: Visitor | None = None) -> User:
        """Create a user.

        Raises:
            InvalidInput: a name or the password has the wrong shape.
            UsernameTaken, EmailTaken: another user has it.
            Unavailable: nothing was created; the same request again may succeed at once.
            InDoubt: unknown. If the user was created, logging in works; else the same request creates it.
        """
        user = await self._newcomer(username, email, password, visitor)
        await self._create(user, visitor)
        return user

    async def join(
        self, username: str, email: str, password: str, kind: SessionKind, visitor: Visitor | None = None
    ) -> LoggedIn:
        """Create a user and start a session, in one commit. Raises as `sign_up`."""
        user = await self._newcomer(username, email, password, visitor)
        now = user.created_at
        session, token = new_session(Session("", user.id, kind, now, now, now, user.epoch, visitor))
        await self._create(user, visitor, session)
        return LoggedIn(user, session, token)

    async def _newcomer(self, username: str, email: str, password: str, visitor: Visitor | None) -> User:
        """A user who is not stored yet. Raises InvalidInput, Contended."""
        username, email = refuse_reserved(check_username(username), "username"), check_email(email)
        check_password(password, username=username, email=email)
        password_hash = await self.passwords.choose(password, (username, email), _client(visitor))
        now = self._clock()
        user_id = make_user_id(int(now.timestamp() * 1000), secrets.randbits(62))
        return User(user_id, username, email, password_hash, now)

    async def _create(self, user: User, visitor: Visitor | None, *sessions: Session) -> None:
        """Store a user with the sessions that begin at once. Raises as `sign_up`."""
        events = [self.events.make(EventKind.SIGNED_UP, visitor)]
        events += [self.events.make(EventKind.LOGGED_IN, visitor, session.id) for session in sessions]
        beside = [one.to_record() for one in sessions] + [event.to_record(user.id) for event in events]
        await self.names.sign_up(user, *beside)
        for event in events:
            tell(event, user.id)

    async def log_in(
        self, login: str, password: str, kind: SessionKind = SessionKind.COOKIE, visitor: Visitor | None = None
    ) -> LoggedIn:
        """Start a session by username or e-mail address.

        Unknown users cost one argon2 verification, too, so that the time does not reveal whether a user exists.

        Raises:
            InvalidCredentials: unknown user or wrong password; it does not say which.
            RateLimited: too many failures under this name from this address or site.
            Contended: too many log-ins at once, or all sessions were ended meanwhile.
        """
        name = login_claim(login).id
        attempt = await self.throttles.attempt(name, visitor)
        try:
            user = await self.find(login)
            usable = len(password) <= PASSWORD_SENT_MAX
            stored = user.password_hash if user and usable else None
            matches = await self.passwords.verify(stored, password[:PASSWORD_SENT_MAX], _client(visitor))
        except Unavailable:
            await self.throttles.refund_attempt(attempt)
            raise
        if user is None or not matches:
            await self.throttles.failed(visitor)
            await self.events.note(user.id if user else None, name, EventKind.LOG_IN_FAILED, visitor)
            raise InvalidCredentials
        if self.passwords.is_outdated(user.password_hash):
            user = await self._rehashed(user, password)
        now = self._clock()
        session, token = new_session(Session("", user.id, kind, now, now, now, user.epoch, visitor))
        event = self.events.make(EventKind.LOGGED_IN, visitor, session.id)
        await self.throttles.succeeded(attempt)  # first: the password was right, even if no session can begin now
        await self._begin(session, user, event)
        tell(event, user.id)
        return LoggedIn(user, session, token)

    async def renew(self, session: Session, visitor: Visitor | None = None) -> LoggedIn:
        """Replace the session's token. The old one ends in the same commit, so of several renewals one succeeds.

        The 30 days of a bearer token begin again, up to `RENEWABLE` after the log-in; the 12 hours of a cookie do not.

        Raises:
            Unauthenticated: the session has ended.
        """
        user = await self.user(session.user_id)
        if user is None:
            raise Unauthenticated
        now = self._clock()
        renewed, token = new_session(replace(session, created_at=now, seen_at=now, visitor=visitor))
        event = self.events.make(EventKind.SESSION_RENEWED, visitor, renewed.id)
        key = user_key(user.id)
        scope = Scope(key.slot, records=(key, session.key, renewed.key, event.key(user.id)))
        stored = (await self.store.execute(scope, renewing(session, renewed, event))).result
        tell(event, user.id)
        return LoggedIn(user, stored, token)

    async def log_out(
        self, session: Session, visitor: Visitor | None = None, kind: EventKind = EventKind.LOGGED_OUT
    ) -> None:
        """End a session at once. Ending it twice is no error."""
        event = self.events.make(kind, visitor, session.id)
        owned = session.user_id
        if await remove(self.store, session.key, lambda found: found.owner == owned, event.to_record(owned)):
            tell(event, owned)

    async def log_out_everywhere(
        self, user_id: UserId, *, keep: Session | None = None, visitor: Visitor | None = None
    ) -> int:
        """End all sessions of a user but `keep`; returns how many.

        A log-in that is running meanwhile does not survive either: see `end_all`.
        """
        user = await self.user(user_id)
        if user is None:
            return 0
        event = self.events.make(EventKind.SESSIONS_REVOKED, visitor)
        ended = await self.end_all(user, keep, event)
        tell(event, user_id)
        return ended

    async def change_password(self, session: Session, old: str, new: str, visitor: Visitor | None = None) -> User:
        """Change the password; every other session ends in the same commit. Returns the user.

        Raises:
            InvalidCredentials: the old password is wrong.
            InvalidInput: the new password is not allowed.
            RateLimited: too many wrong passwords.
            Contended: the password was changed meanwhile; log in with the new one.
        """
        attempt = await self.throttles.attempt(session.user_id, visitor)
        try:
            user = await self.user(session.user_id)
            stored = user.password_hash if user else None
            matches = await self.passwords.verify(stored, old[:PASSWORD_SENT_MAX], _client(visitor))
        except Unavailable:
            await self.throttles.refund_attempt(attempt)
            raise
        if user is None or not matches:
            await self.throttles.failed(visitor)
            await self.events.note(session.user_id, "", EventKind.PASSWORD_CHANGE_FAILED, visitor)
            raise InvalidCredentials
        await self.throttles.succeeded(attempt)
        check_password(new, username=user.username, email=user.email)
        if opaque(new) == opaque(old):
            raise InvalidInput("password", reasons.PASSWORD_SAME())
        password_hash = await self.passwords.choose(new, (user.username, user.email), _client(visitor))
        event = self.events.make(EventKind.PASSWORD_CHANGED, visitor)
        await self.end_all(user, session, event, password_hash=password_hash)
        tell(event, user.id)
        return user

    async def sessions(self, user_id: UserId) -> list[Session]:
        """The user's live sessions, newest first."""
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

    async def revoke(self, user_id: UserId, session_id: str, visitor: Visitor | None = None) -> bool:
        """End one of the user's own sessions by id; returns whether there was one."""
        for session in await self.sessions(user_id):
            if session.id == session_id:
                await self.log_out(session, visitor, EventKind.SESSION_REVOKED)
                return True
        return False

    async def authenticate(self, token: str, *, is_use: bool = True) -> Session:
        """The live session of a token. Raises Unauthenticated.

        With `is_use`, the idle time begins again. A session whose epoch is older than its user's has ended, even if its
        record is still there: see `end_all`.
        """
        session = live(await self._reads.of(token), now := self._clock())
        if session is None:
            raise Unauthenticated
        if is_use and now - session.seen_at >= SEEN_EVERY:
            session = await self._touch(session, now)
        return session

    def recent(self, token: str) -> Session | None:
        """The live session of a token, if it was read less than `session_cache_seconds` ago; for requests that read.

        A session that another process has ended may live on so long; one that this process has ended does not.
        """
        session = live(self._reads.recent(token), now := self._clock())
        return None if session is None or now - session.seen_at >= SEEN_EVERY else session

    def recent_user(self, session: Session) -> User | None:
        """The user of a live session, if read less than `session_cache_seconds` ago; for requests that read."""
        found = self._reads.kept(session.id)
        return found[1] if found else None

    def check_fresh(self, session: Session) -> None:
        """Raise FreshLogInRequired if the last log-in with a password was longer ago than `FRESH`."""
        if self._clock() - session.logged_in_at > FRESH:
            raise FreshLogInRequired(int(FRESH.total_seconds()) // 60)

    async def user(self, user_id: UserId) -> User | None:
        """A user by id; None if there is none."""
        return User.from_record(await read(self.store, user_key(user_id)))

    async def users(self, user_ids: set[UserId]) -> dict[UserId, User]:
        """Several users at once."""
        keys = tuple(user_key(user_id) for user_id in user_ids)
        snapshot = await self.store.fetch(ReadSet(records=keys))
        found = (User.from_record(snapshot.record(key)) for key in keys)
        return {user.id: user for user in found if user is not None}

    async def called(self, username: str) -> User | None:
        """A user by username; None if there is none. Takes two reads in both cases. Raises RateLimited.

        An e-mail address finds nobody, so that nobody can find out whose address it is.
        """
        return await self.user(await user_called(self.store, username) or NOBODY)

    async def find(self, login: str) -> User | None:
        """A user by username or e-mail; None if there is none. Takes two reads in both cases."""
        return await self.user(await holder_of(self.store, login_claim(login)) or NOBODY)

    async def sweep(self, limit: int = LIMIT) -> Swept:
        """Settle open name claims; remove sessions, events and throttles whose time is over."""
        return await sweep_all(self.sweeps, limit)

    async def _forget(self, record: Due) -> bool:
        """Remove a record whose time is over, unless its time was extended meanwhile."""
        assert isinstance(record, Record)
        now = self._clock()
        return await remove(self.store, record.key, lambda found: found.due_at is not None and found.due_at <= now)

    async def _begin(self, session: Session, user: User, event: SecurityEvent) -> None:
        """Store a session, unless the password was changed or all sessions were ended since `user` was read."""
        key = user_key(user.id)
        scope = Scope(key.slot, records=(key, session.key, event.key(user.id)))
        await self.store.execute(scope, beginning(session, user, event))

    async def end_all(
        self, user: User, keep: Session | None, event: SecurityEvent, *, password_hash: str | None = None
    ) -> int:
        """End all sessions but `keep`, and store `password_hash` if given, in one commit; returns how many ended.

        The commit increments the user's epoch, so that sessions that were not in the list are dead, too. Their records
        are removed afterwards, here or by a sweep.
        """
        listed = (record.key for record in (await self.store.list_records("session", user.id)).items)
        key, keys = user_key(user.id), tuple(dict.fromkeys((*((keep.key,) if keep else ()), *listed)))
        scope = Scope(key.slot, records=(key, event.key(user.id), *keys))
        decide = ending(user, keys, keep, event, password_hash)
        epoch, count = (await self.store.execute(scope, decide)).result
        try:
            for session in await self.sessions(user.id):
                if session.epoch < epoch:
                    count += await remove(self.store, session.key, lambda found: found.owner == user.id)
        except WalletError as error:
            log.warning("ended sessions of %s are left to the sweep: %s", user.id, error)
        return count

    async def _touch(self, session: Session, now: datetime) -> Session:
        """Store that the session is in use now, unless it was ended meanwhile."""

        def make(before: Record | None) -> Record | None:
            return replace(Session.from_record(before), seen_at=now).to_record() if before else None

        try:
            await change(self.store, session.key, make)
        except (Unavailable, InDoubt):  # no reason to fail the request, or to answer InDoubt
            return session
        return replace(session, seen_at=now)

    async def _rehashed(self, user: User, password: str) -> User:
        """Store a new hash of the same password. Returns the user with it. Raises Contended: it was changed meanwhile.

        The password was right, so the log-in goes on even if the new hash cannot be computed or stored now.
        """

        def make(before: Record | None) -> Record | None:
            current = User.from_record(before)
            if current is None or current.password_hash != user.password_hash:
                return None
            return replace(current, password_hash=password_hash).to_record()

        try:
            password_hash = await self.passwords.hash(password)
            stored = await change(self.store, user_key(user.id), make)
        except Unavailable as error:
            log.warning("the outdated hash of %s stays for now: %s", user.id, error.code)
            return user
        if stored is None:
            raise Contended("the password's hash was changed during this log-in")
        return replace(user, password_hash=password_hash)


def _client(visitor: Visitor | None) -> str:
    return visitor.network if visitor else ""
