"""Logging in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from ....domain.users import SessionKind
from ....identity import LoggedIn
from ..accounts import User
from ..context import Context, Info
from ..describe import about, argument, input_type, object_type
from ..operations import mutation


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

    session_id: strawberry.ID = about("The id of one of your sessions, from `viewer { sessions }`.")


@object_type
class LogInSuccess:
    """You have a session."""

    user: User | None = about("You.")
    token: str | None = about("For a `BEARER` session, told only now. Null for a `COOKIE` session.")
    expires_at: datetime = about("When the session ends, UTC. It moves with use of a cookie alone.")


@object_type
class RenewSessionSuccess:
    """Your session goes on under a new token; the old one is dead."""

    token: str | None = about("For a `BEARER` session, told only now. Null for a `COOKIE` session.")
    expires_at: datetime = about("When the session ends, UTC. It moves with use of a cookie alone.")


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
    """The session has ended, now or before."""

    ended: bool = about("Whether there was one of yours with this id.")


@object_type
class SessionMutations:
    """What starts and ends sessions."""

    @mutation
    async def log_in(
        self, info: Info, given: Annotated[LogInInput, argument("Who wants a session.", name="input")]
    ) -> LogInSuccess:
        """Start a session. Refused with `INVALID_CREDENTIALS`. At most once in a document.

        After 10 failures under one name from one address `RateLimited` says when to try again.
        """
        context = info.context
        await context.caller.count_log_in(given.login)
        made = await context.wallet.identity.log_in(given.login, given.password, given.session, context.caller.visitor)
        return LogInSuccess(
            user=User.of(made.user), token=told_token(context, made), expires_at=made.session.expires_at
        )

    @mutation
    async def renew_session(self, info: Info) -> RenewSessionSuccess:
        """Get a new token for your session; the old one ends at once, so of several requests one succeeds.

        A `BEARER` session lasts another 30 days, until 180 days after the log-in; a `COOKIE` session still ends 12
        hours after the log-in. Refused with `UNAUTHENTICATED` if the session has ended.
        """
        context = info.context
        session = await context.caller.session()
        made = await context.wallet.identity.renew(session, context.caller.visitor)
        return RenewSessionSuccess(token=told_token(context, made), expires_at=made.session.expires_at)

    @mutation
    async def log_out(self, info: Info) -> LogOutSuccess:
        """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
        return LogOutSuccess(ended=await _log_out(info.context))

    @mutation
    async def log_out_everywhere(
        self, info: Info, given: Annotated[LogOutEverywhereInput, argument("Which sessions to spare.", name="input")]
    ) -> LogOutEverywhereSuccess:
        """End all your sessions at once, on every server; `{keepThis: true}` spares the one of this request."""
        session = await info.context.caller.session()
        ended = await info.context.wallet.identity.log_out_everywhere(
            session.user_id, keep=session, visitor=info.context.caller.visitor
        )
        if not given.keep_this:
            ended += await _log_out(info.context)
        return LogOutEverywhereSuccess(ended=ended)

    @mutation
    async def revoke_session(
        self, info: Info, given: Annotated[RevokeSessionInput, argument("Which session to end.", name="input")]
    ) -> RevokeSessionSuccess:
        """End one of your sessions at once, on every server. An id that is none of yours is no error."""
        session = await info.context.caller.session()
        if given.session_id == session.id:
            return RevokeSessionSuccess(ended=await _log_out(info.context))
        ended = await info.context.wallet.identity.revoke(
            session.user_id, given.session_id, info.context.caller.visitor
        )
        return RevokeSessionSuccess(ended=ended)


async def _log_out(context: Context) -> bool:
    ended = await context.caller.log_out()
    context.caller.forget(context.response)
    return ended


def told_token(context: Context, made: LoggedIn) -> str | None:
    """The token for the answer's body; None for browsers, which get it in the cookie."""
    if made.session.kind is SessionKind.BEARER:
        return made.token
    context.caller.keep(context.response, made.token)
    return None
