"""The look-up of users by username or e-mail address, for verbs and for log-ins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from .domain.errors import InvalidInput
from .domain.ids import UserId
from .domain.model import RecordKey
from .domain.users import check_username, username_claim
from .records import read
from .storage import Store

LOOKING_UP: Final[ContextVar[Callable[[str], Awaitable[None]] | None]] = ContextVar("LOOKING_UP", default=None)
"""Called with a username before it is looked up; may raise RateLimited. None: not counted, as on the command line.

A transport sets it for a request. So look-ups are counted wherever they happen: a payment reveals who has an account
just as a query does.
"""


async def user_called(store: Store, username: str) -> UserId | None:
    """The user id that has claimed a username; None if nobody has, or if the text is not a valid username.

    Raises RateLimited: too many look-ups by the sender of this request.
    """
    try:
        claim = username_claim(check_username(username))
    except InvalidInput:
        return None
    count = LOOKING_UP.get()
    if count is not None:
        await count(claim.id)
    return await holder_of(store, claim)


async def holder_of(store: Store, claim: RecordKey) -> UserId | None:
    """The user id of a name claim; None if there is no claim. That user may not exist (yet): see `identity.names`."""
    found = await read(store, claim)
    return None if found is None else UserId(str(found.body["user"]))
