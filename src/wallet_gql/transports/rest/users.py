"""REST for users and their sessions: `/v1/user`, `/v1/session` and `/v1/event`."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

from pydantic import Field, JsonValue, WithJsonSchema

from ...domain import users as domain
from ...domain.errors import InvalidInput, Unauthenticated
from ...domain.security_events import EventKind, SecurityEvent
from ...domain.users import EMAIL_MAX, PASSWORD_MAX, PASSWORD_MIN, FirstSession, SessionKind
from ...identity import LoggedIn
from ...storage import PAGE_MAX
from .routing import Call, Operation, Reply
from .values import BY_NAME, Count, EventIdText, Given, Ordered, Text, Told, Version

SessionKindName = Annotated[SessionKind, BY_NAME]
EventKindName = Annotated[EventKind, BY_NAME]
Password = Annotated[Text, WithJsonSchema({"type": "string", "minLength": PASSWORD_MIN, "maxLength": PASSWORD_MAX})]

_HOW_KEPT: Final = (
    "`COOKIE`: for browsers, in a cookie that scripts cannot read. `BEARER`: for other clients, the token comes in the "
    "answer."
)


_BY_DEFAULT: Final[dict[str, JsonValue]] = {"default": SessionKind.COOKIE.name}
"""Pydantic would write the value."""


# What comes in


class SignUp(Given):
    """Who wants to join."""

    username: Annotated[Text, WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{2,31}$"})] = (
        Field(description="3 to 32 letters, digits, dots, dashes or underscores; others pay you under it.")
    )
    email: Annotated[Text, WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_MAX})] = Field(
        description="An e-mail address; nobody else sees it."
    )
    password: Password = Field(description=f"{PASSWORD_MIN} to {PASSWORD_MAX} characters, hard to guess.")
    session: Annotated[FirstSession, BY_NAME] = Field(
        FirstSession.COOKIE, description=f"{_HOW_KEPT} `NONE`: log in later.", json_schema_extra=_BY_DEFAULT
    )


class LogIn(Given):
    """Who wants a session."""

    login: Text = Field(description="The username or the e-mail address.")
    password: Text = Field(description="The password.")
    session: SessionKindName = Field(SessionKind.COOKIE, description=_HOW_KEPT, json_schema_extra=_BY_DEFAULT)


class ChangePassword(Given):
    """The old password and the new one."""

    old_password: Text = Field(description="The password as it is.")
    new_password: Password = Field(description=f"{PASSWORD_MIN} to {PASSWORD_MAX} characters, hard to guess.")


class LogOutEverywhere(Given):
    """Which sessions to spare."""

    keep_this: bool = Field(default=False, description="Whether the session of this request goes on.")


class SessionsQuery(Ordered):
    """Which of your sessions."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many sessions at most.")
    after: Text | None = Field(None, description="Only sessions behind this one: `next` of the page before.")

    def is_behind(self, place: str) -> bool:
        """Whether a place, or rather its session, is behind `after`."""
        return self.after is None or (place > self.after if self.backward else place < self.after)


class EventsQuery(Ordered):
    """Which of your security events."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many events at most.")
    after: EventIdText | None = Field(None, description="Only events behind this one: `next` of the page before.")


# What goes out


class User(Told):
    """You."""

    id: str
    username: str = Field(description="Others pay you under this name.")
    email: str = Field(description="Never shown to others.")
    created_at: datetime
    version: Version

    @classmethod
    def of(cls, user: domain.User) -> User:
        """A user, as shown to the same user."""
        return cls(
            id=user.id,
            username=user.username,
            email=user.email,
            created_at=user.created_at,
            version=str(user.version),
        )


class Joined(Told):
    """You have joined, and are logged in unless `session` was `NONE`."""

    user: User
    token: str | None = Field(description="For `BEARER`, told only now; goes into `Authorization: Bearer …`.")
    expires_at: datetime | None = Field(
        description="When the session ends, which moves with use of a cookie alone; null if there is none."
    )


class Begun(Told):
    """You are logged in."""

    user: User
    token: str | None = Field(description="For `BEARER`, told only now; goes into `Authorization: Bearer …`.")
    expires_at: datetime = Field(description="When the session ends. It moves with use of a cookie alone.")


class Session(Told):
    """A log-in that has not ended. Its id is no credential: it only names the session."""

    id: str
    kind: SessionKindName
    created_at: datetime
    last_seen_at: datetime = Field(description="When it was last used, to about a minute.")
    expires_at: datetime = Field(description="When it ends. It moves with use of a cookie alone.")
    address: str | None = Field(description="The IP address that the log-in came from; null if it is not known.")
    user_agent: str | None = Field(description="What the client called itself at the log-in; null if nothing.")
    current: bool = Field(description="Whether it is the one that this request came with.")

    @classmethod
    def of(cls, session: domain.Session, *, current: bool) -> Session:
        """A session as its user sees it."""
        visitor = session.visitor
        return cls(
            id=session.id,
            kind=session.kind,
            created_at=session.created_at,
            last_seen_at=session.seen_at,
            expires_at=session.expires_at,
            address=(visitor.address or None) if visitor else None,
            user_agent=(visitor.user_agent or None) if visitor else None,
            current=current,
        )


class Sessions(Told):
    """A page of your sessions."""

    sessions: list[Session]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


class Ended(Told):
    """What has ended, now or before."""

    ended: bool = Field(description="Whether there was a session of yours with this id.")


class EndedSessions(Told):
    """Your sessions have ended."""

    ended: int = Field(description="How many there were.")


class Event(Told):
    """Something that happened to your access."""

    id: str
    kind: EventKindName
    created_at: datetime
    address: str | None = Field(description="The IP address it came from; null if it came from none.")
    user_agent: str | None = Field(description="What the client called itself, shortened; null if nothing.")
    subject: str | None = Field(description="The id of the session or account that it was done to; null for others.")

    @classmethod
    def of(cls, event: SecurityEvent) -> Event:
        """A security event, as shown to its user."""
        visitor = event.visitor
        return cls(
            id=event.id,
            kind=event.kind,
            created_at=event.at,
            address=(visitor.address or None) if visitor else None,
            user_agent=(visitor.user_agent or None) if visitor else None,
            subject=event.subject,
        )


class Events(Told):
    """A page of your events."""

    events: list[Event]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


async def sign_up(call: Call, given: SignUp) -> Reply:
    """Create a user, and log in. If the answer is lost log in; if that is refused, sign up again."""
    who = given.username, given.email, given.password
    if given.session is FirstSession.NONE:
        user = await call.wallet.identity.sign_up(*who, call.caller.visitor)
        return Reply(Joined(user=User.of(user), token=None, expires_at=None), _CREATED, {"Location": "/v1/user"})
    made = await call.wallet.identity.join(*who, SessionKind(given.session), call.caller.visitor)
    return _begun(call, made, Joined, "/v1/user")


async def read_user(call: Call, _: None) -> Reply:
    """The user who asks."""
    user = await call.wallet.identity.user(await call.user_id())
    if user is None:
        raise Unauthenticated
    return Reply(User.of(user))


async def change_password(call: Call, given: ChangePassword) -> Reply:
    """Choose a new password and end all other sessions. Refused with `INVALID_CREDENTIALS` if the old is wrong."""
    session = await call.caller.session()
    try:
        changed = await call.wallet.identity.change_password(
            session, given.old_password, given.new_password, call.caller.visitor
        )
    except InvalidInput as error:
        raise InvalidInput("newPassword", error.reason) from error
    return Reply(User.of(changed))


async def log_in(call: Call, given: LogIn) -> Reply:
    """Start a session: in a cookie for browsers, as a bearer token for other clients. It cannot be replayed."""
    await call.caller.count_log_in(given.login)
    made = await call.wallet.identity.log_in(given.login, given.password, given.session, call.caller.visitor)
    return _begun(call, made, Begun, "/v1/session")


async def renew_session(call: Call, _: None) -> Reply:
    """Get a new token for your session; the old one ends at once. A bearer token lasts another 30 days."""
    session = await call.caller.session()
    return _begun(call, await call.wallet.identity.renew(session, call.caller.visitor), Begun, "/v1/session")


def _begun(call: Call, made: LoggedIn, kind: type[Begun | Joined], location: str) -> Reply:
    is_cookie = made.session.kind is SessionKind.COOKIE
    token = None if is_cookie else made.token
    body = kind(user=User.of(made.user), token=token, expires_at=made.session.expires_at)
    adorn = (lambda response: call.caller.keep(response, made.token)) if is_cookie else None
    return Reply(body, _CREATED, {"Location": location}, adorn)


async def log_out(call: Call, _: None) -> Reply:
    """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
    await call.caller.log_out()
    return Reply(None, HTTPStatus.NO_CONTENT, adorn=call.caller.forget)


async def log_out_everywhere(call: Call, given: LogOutEverywhere) -> Reply:
    """End all your sessions at once, on every server; `{"keepThis": true}` spares the one of this request."""
    session = await call.caller.session()
    identity, visitor = call.wallet.identity, call.caller.visitor
    ended = await identity.log_out_everywhere(session.user_id, keep=session, visitor=visitor)
    if given.keep_this:
        return Reply(EndedSessions(ended=ended))
    ended += await call.caller.log_out()
    return Reply(EndedSessions(ended=ended), adorn=call.caller.forget)


async def list_sessions(call: Call, given: SessionsQuery) -> Reply:
    """Where you are logged in, newest first."""
    current = await call.caller.session()
    live = await call.wallet.identity.sessions(current.user_id)
    behind = [one for one in given.turned(live) if given.is_behind(_place(one))]
    page = behind[: given.first]
    sessions = [Session.of(one, current=one.id == current.id) for one in page]
    return Reply(Sessions(sessions=sessions, next=_place(page[-1]) if len(behind) > len(page) else None))


def _place(session: domain.Session) -> str:
    """Where a session stands in the list, which is in the order of these texts: also after it has ended."""
    return f"{session.created_at:%Y%m%d%H%M%S%f}.{session.id}"


async def revoke_session(call: Call, _: None) -> Reply:
    """End one of your sessions at once, on every server. An id that is none of yours is no error."""
    session, session_id = await call.caller.session(), call.path("session_id")
    if session_id == session.id:
        return Reply(Ended(ended=await call.caller.log_out()), adorn=call.caller.forget)
    return Reply(Ended(ended=await call.wallet.identity.revoke(session.user_id, session_id, call.caller.visitor)))


async def list_events(call: Call, given: EventsQuery) -> Reply:
    """What happened to your access, newest first: log-ins and failed ones, new passwords, ended sessions, freezes."""
    found, user_id = call.wallet.identity.events, await call.user_id()
    page = await found.page(user_id, given.first, after=given.after or "", backward=given.backward)
    events = [Event.of(event) for event in given.turned(page.items)]
    return Reply(Events(events=events, next=events[-1].id if page.has_more else None))


_CREATED, _OK = HTTPStatus.CREATED, HTTPStatus.OK

OPERATIONS: Final = (
    Operation("POST", "/v1/user", sign_up, {_CREATED: Joined}, SignUp),
    Operation("GET", "/v1/user", read_user, {_OK: User}),
    Operation("PUT", "/v1/user/password", change_password, {_OK: User}, ChangePassword),
    Operation("POST", "/v1/session", log_in, {_CREATED: Begun}, LogIn),
    Operation("GET", "/v1/session", list_sessions, {_OK: Sessions}, query=SessionsQuery),
    Operation("DELETE", "/v1/session", log_out, {HTTPStatus.NO_CONTENT: None}),
    Operation("POST", "/v1/session/renewal", renew_session, {_CREATED: Begun}),
    Operation("POST", "/v1/session/end-all", log_out_everywhere, {_OK: EndedSessions}, LogOutEverywhere),
    Operation("DELETE", "/v1/session/{session_id}", revoke_session, {_OK: Ended}),
    Operation("GET", "/v1/event", list_events, {_OK: Events}, query=EventsQuery),
)
