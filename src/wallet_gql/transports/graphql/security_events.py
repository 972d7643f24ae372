"""Security events: what happened to a user's access. Only the user reads them, and nobody can edit them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain.ids import UserId
from ...domain.security_events import EventKind, is_event_id
from ...domain.security_events import SecurityEvent as DomainEvent
from .context import Info
from .describe import about, enum_type, object_type
from .failures import BadRequest
from .history import PageInfo, check_first

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
        "ACCOUNT_FROZEN": "An operator froze an account: it pays nothing until it is unfrozen.",
        "ACCOUNT_UNFROZEN": "An operator unfroze an account.",
        "ACCOUNT_CLOSED": "An account was closed, for good.",
    },
)


@object_type
class SecurityEvent:
    """Something that happened to your access. If it was not you: change the password and log out everywhere."""

    id: strawberry.ID = about("Names the event; also its place in the list.")
    kind: EventKind = about("What happened.")
    at: datetime = about("When, UTC.")
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
            at=event.at,
            address=(visitor.address or None) if visitor else None,
            user_agent=(visitor.user_agent or None) if visitor else None,
            subject=None if event.subject is None else strawberry.ID(event.subject),
        )


@object_type
class SecurityEventEdge:
    """An event in its list."""

    cursor: str = about("Goes into `after`, for the page behind this event.")
    node: SecurityEvent = about("The event.")


@object_type
class SecurityEventConnection:
    """A page of security events, newest first."""

    edges: list[SecurityEventEdge] = about("The events of this page.")
    page_info: PageInfo = about("Where this page stands.")


async def events_of(info: Info, user_id: UserId, first: int, after: str | None) -> SecurityEventConnection:
    """A page of the user's events: the first `first` (1 to 100) behind the cursor `after`. Raises BadRequest."""
    check_first(first)
    if after is not None and not is_event_id(after):
        raise BadRequest("after is no cursor of security events; take one from a page's pageInfo or edges")
    page = await info.context.wallet.identity.events.page(user_id, first, after=after or "")
    edges = [SecurityEventEdge(cursor=event.id, node=SecurityEvent.of(event)) for event in page.items]
    around = PageInfo(
        has_next_page=page.has_more,
        has_previous_page=after is not None,
        start_cursor=edges[0].cursor if edges else None,
        end_cursor=edges[-1].cursor if edges else None,
    )
    return SecurityEventConnection(edges=edges, page_info=around)
