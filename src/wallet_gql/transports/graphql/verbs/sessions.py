"""Logging in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry

from ....domain.users import SessionKind
from ...auth import clear_cookie, set_cookie
from ..accounts import User
from ..context import Context, Info
from ..describe import about, argument, input_type, object_type
from ..errors import InDoubt, Refusal, Unavailable


@input_type
class LogInInput:
    """Who wants a session."""

    login: str = about("The username or the e-mail address.")
    password: str = about("The password.")
    session: SessionKind = strawberry.field(description="How the session is kept.", default=SessionKind.COOKIE)


@input_type
class LogOutEverywhereInput:
    """Which sessions to spare."""

    keep_this: bool = strawberry.field(description="Whether the session of this request goes on.", default=False)


@input_type
class RevokeSessionInput:
    """Which session to end."""

    session_id: strawberry.ID = about("The id of one of your sessions, from `viewer { sessions { id } }`.")


@object_type
class LogInSuccess:
    """You have a session."""

    user: User | None = about("You.")
    token: str | None = about("For a `BEARER` session, told only now. Null for a `COOKIE` session.")
    expires_at: datetime = about("When the session ends unless it is used before, UTC.")


@object_type
class LogOutSuccess:
    """You have no session any more."""

    ended: bool = about("Whether there was one.")


@object_type
class LogOutEverywhereSuccess:
    """All your sessions have ended, but for the one that was to be kept."""

    ended: int = about("How many there were.")


@object_type
class RevokeSessionSuccess:
    """The session does not exist, now if not before."""

    ended: bool = about("Whether there was one of yours with this id.")


LogInResult: TypeAlias = Annotated[
    LogInSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("LogInResult", description="What `logIn` answers."),
]
LogOutResult: TypeAlias = Annotated[
    LogOutSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("LogOutResult", description="What `logOut` answers."),
]
LogOutEverywhereResult: TypeAlias = Annotated[
    LogOutEverywhereSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("LogOutEverywhereResult", description="What `logOutEverywhere` answers."),
]
RevokeSessionResult: TypeAlias = Annotated[
    RevokeSessionSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("RevokeSessionResult", description="What `revokeSession` answers."),
]


@object_type
class SessionMutations:
    """What starts and ends sessions."""

    @strawberry.mutation
    async def log_in(
        self, info: Info, given: Annotated[LogInInput, argument("Who wants a session.", name="input")]
    ) -> LogInResult | None:
        """Start a session. Refused with `INVALID_CREDENTIALS`. At most once in a document."""
        made = await info.context.wallet.identity.log_in(given.login, given.password, given.session)
        if given.session is SessionKind.COOKIE:
            set_cookie(info.context.response, made.token)
        token = made.token if given.session is SessionKind.BEARER else None
        return LogInSuccess(user=User.of(made.user), token=token, expires_at=made.session.expires_at)

    @strawberry.mutation
    async def log_out(self, info: Info) -> LogOutResult | None:
        """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
        return LogOutSuccess(ended=await _log_out(info.context))

    @strawberry.mutation
    async def log_out_everywhere(
        self, info: Info, given: Annotated[LogOutEverywhereInput, argument("Which sessions to spare.", name="input")]
    ) -> LogOutEverywhereResult | None:
        """End all your sessions at once, on every server; `{keepThis: true}` spares the one of this request."""
        session = await info.context.caller.session()
        ended = await info.context.wallet.identity.log_out_everywhere(session.user_id, keep=session)
        if not given.keep_this:
            ended += await _log_out(info.context)
        return LogOutEverywhereSuccess(ended=ended)

    @strawberry.mutation
    async def revoke_session(
        self, info: Info, given: Annotated[RevokeSessionInput, argument("Which session to end.", name="input")]
    ) -> RevokeSessionResult | None:
        """End one of your sessions at once, on every server. An id that is none of yours is no error."""
        session = await info.context.caller.session()
        if given.session_id == session.id:
            return RevokeSessionSuccess(ended=await _log_out(info.context))
        ended = await info.context.wallet.identity.revoke(session.user_id, given.session_id)
        return RevokeSessionSuccess(ended=ended)


async def _log_out(context: Context) -> bool:
    ended = await context.caller.log_out()
    clear_cookie(context.response)
    return ended
