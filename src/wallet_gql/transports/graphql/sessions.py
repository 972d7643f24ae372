"""Sessions: where somebody is logged in."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import strawberry

from ...domain.codec import to_micros
from ...domain.errors import Unauthenticated
from ...domain.ids import UserId
from ...domain.users import FirstSession, SessionKind
from ...domain.users import Session as DomainSession
from .context import Info
from .describe import about, enum_type, object_type
from .pages import Asked, Connection, Edge, connection

_CURSOR: Final = re.compile(r"[0-9]{20}:.{1,100}", re.ASCII)

enum_type(
    SessionKind,
    "How a session is kept.",
    {
        "COOKIE": "For browsers: in the cookie `__Host-wallet`, which scripts cannot read. Ends after 30 idle minutes "
        "or 12 hours.",
        "BEARER": "For other clients: the token comes in the answer and goes into `Authorization: Bearer …`. Lasts 30 "
        "days.",
    },
)
enum_type(
    FirstSession,
    "The session that somebody who signs up begins with.",
    {
        "COOKIE": "As `SessionKind.COOKIE`, for browsers.",
        "BEARER": "As `SessionKind.BEARER`, for other clients.",
        "NONE": "None: log in later.",
    },
)


@object_type
class Session:
    """A log-in that has not ended. Its id is no credential: it only names the session, for `revokeSession`."""

    id: strawberry.ID = about("Names the session; only its user can do something with it.")
    kind: SessionKind = about("How it is kept.")
    created_at: datetime = about("When the user logged in, UTC.")
    last_seen_at: datetime = about("When it was last used, UTC, to about a minute.")
    expires_at: datetime = about("When it ends, UTC. It moves with use of a cookie alone.")
    address: str | None = about("The IP address that the log-in came from; null if it is not known.")
    user_agent: str | None = about("What the client called itself when it logged in; null if nothing.")
    current: bool = about("Whether it is the one that this request came with.")

    @classmethod
    def of(cls, session: DomainSession, *, current: bool) -> Session:
        """A session as its user sees it."""
        visitor = session.visitor
        return cls(
            id=strawberry.ID(session.id),
            kind=session.kind,
            created_at=session.created_at,
            last_seen_at=session.seen_at,
            expires_at=session.expires_at,
            address=(visitor.address or None) if visitor else None,
            user_agent=(visitor.user_agent or None) if visitor else None,
            current=current,
        )


async def sessions_of(info: Info, user_id: UserId, asked: Asked) -> Connection[Session]:
    """A page of a user's live sessions, newest first. Raises BadRequest, Unavailable."""
    asked.checked(_CURSOR.fullmatch)
    try:
        current = (await info.context.caller.session()).id
    except Unauthenticated:  # just signed up or logged in: this request itself has no session
        current = None
    live = await info.context.wallet.identity.sessions(user_id)
    if asked.is_backward:
        left = [one for one in live if asked.cursor is None or _cursor(one) > asked.cursor]
        shown = left[-asked.size :]
    else:
        left = [one for one in live if asked.cursor is None or _cursor(one) < asked.cursor]
        shown = left[: asked.size]
    edges = [Edge(place=_cursor(one), node=Session.of(one, current=one.id == current)) for one in shown]
    return connection(edges, asked, has_more=len(left) > asked.size, total=len(live))


def _cursor(session: DomainSession) -> str:
    """The place of a session: texts in the order of time. It stays one when the session has ended."""
    return f"{to_micros(session.created_at):020d}:{session.id}"
