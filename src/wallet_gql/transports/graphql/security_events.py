"""Security events: what happened to a user's access. Only the user reads them, and nobody can edit them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain.ids import UserId
from ...domain.security_events import EventKind, is_event_id
from ...domain.security_events import SecurityEvent as DomainEvent
from .context import Info
from .describe import about, enum_type, object_type
from .pages import Asked, Connection, Edge, connection

enum_type(
    EventKind,
    "What happened to a user's access. New kinds may come.",
    {
        "SIGNED_UP": "The user was created.",
        "LOGGED_IN": "A session began.",
        "LOG_IN_FAILED": "Somebody gave a wrong password for this user.",
        "LOGGED_OUT": "A session was ended by itself.",
        "SESSION_RENEWED": "A session got a new token.",
        "SESSION_REVOKED": "A session was ended by another one of the user's.",
        "SESSIONS_REVOKED": "All sessions were ended, but perhaps for the one that did it.",
        "PASSWORD_CHANGED": "A new password was chosen; all other sessions have ended.",
        "PASSWORD_CHANGE_FAILED": "Somebody with a session gave a wrong old password.",
        "PASSWORD_RESET": "An operator set a new password; all sessions have ended.",
        "ACCOUNT_FROZEN": "An operator froze an account: it pays nothing until it is unfrozen.",
        "ACCOUNT_UNFROZEN": "An operator unfroze an account.",
        "ACCOUNT_CLOSED": "An account was closed, for good.",
        "SPENDING_LIMITS_CHANGED": "The user's spending limits were set, by the user or an operator.",
    },
)


@object_type
class SecurityEvent:
    """Something that happened to your access. If it was not you: change the password and log out everywhere."""

    id: strawberry.ID = about("Names the event; also its place in the list.")
    kind: EventKind = about("What happened.")
    created_at: datetime = about("When, UTC.")
    address: str | None = about("The IP address it came from; null if it came from none, such as the operator's.")
    user_agent: str | None = about("What the client called itself, shortened; null if nothing.")
    subject: strawberry.ID | None = about("The id of the session or account that it was done to; null for others.")

    @classmethod
    def of(cls, event: DomainEvent) -> SecurityEvent:
        """An event as its user sees it."""
        visitor = event.visitor
        return cls(
            id=strawberry.ID(event.id),
            kind=event.kind,
            created_at=event.at,
            address=(visitor.address or None) if visitor else None,
            user_agent=(visitor.user_agent or None) if visitor else None,
            subject=None if event.subject is None else strawberry.ID(event.subject),
        )


async def events_of(info: Info, user_id: UserId, asked: Asked) -> Connection[SecurityEvent]:
    """A page of the user's events, newest first. Raises BadRequest, Unavailable."""
    asked.checked(is_event_id)
    events, after = info.context.wallet.identity.events, asked.cursor or ""
    page = await events.page(user_id, asked.size, after=after, backward=asked.is_backward)
    edges = [Edge(place=event.id, node=SecurityEvent.of(event)) for event in page.items]
    return connection(edges, asked, has_more=page.has_more)
