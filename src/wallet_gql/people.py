"""The look-up of users by username or e-mail address, for verbs and for log-ins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from .domain.changes import ReadSet, Snapshot
from .domain.errors import InvalidInput
from .domain.ids import UserId
from .domain.model import Record, RecordKey
from .domain.users import check_username, username_claim
from .records import read
from .storage import Store

LOOKING_UP: Final[ContextVar[Callable[[str], Awaitable[None]] | None]] = ContextVar("LOOKING_UP", default=None)
"""Called with a username before it is looked up; may raise RateLimited. None: not counted, as on the command line.

A transport sets it for a request. So look-ups are counted wherever they happen: a payment reveals who has an account
just as a query does.
"""


_HOLDERS: Final[dict[str, UserId]] = {}
"""Who held a name when it was last looked up, by the id of its claim, the oldest first. It is checked in every read."""

_HOLDERS_MAX: Final = 10_000


async def user_called(store: Store, username: str) -> UserId | None:
    """The user id that has claimed a username; None if nobody has, or if the text is not a valid username.

    Raises RateLimited: too many look-ups by the sender of this request.
    """
    claim = await _claim_of(username)
    return None if claim is None else await holder_of(store, claim)


async def read_called(
    store: Store, username: str, *keys: Callable[[UserId], RecordKey]
) -> tuple[UserId, Snapshot] | None:
    """The user id that has claimed a username, and a snapshot of their wallet and of these records of theirs.

    It takes one read instead of two if the holder of the name was known before: the claim is read in the same one.
    None and errors as in `user_called`.
    """
    claim = await _claim_of(username)
    if claim is None:
        return None
    known = _HOLDERS.get(claim.id)
    if known is not None:
        snapshot = await store.fetch(ReadSet(wallets=(known,), records=(claim, *[key(known) for key in keys])))
        if _holder(snapshot.record(claim)) == known:
            return known, snapshot
    owner = await holder_of(store, claim)
    if owner is None:
        return None
    if len(_HOLDERS) >= _HOLDERS_MAX:
        del _HOLDERS[next(iter(_HOLDERS))]
    _HOLDERS[claim.id] = owner
    return owner, await store.fetch(ReadSet(wallets=(owner,), records=tuple([key(owner) for key in keys])))


async def _claim_of(username: str) -> RecordKey | None:
    try:
        claim = username_claim(check_username(username))
    except InvalidInput:
        return None
    count = LOOKING_UP.get()
    if count is not None:
        await count(claim.id)
    return claim


async def holder_of(store: Store, claim: RecordKey) -> UserId | None:
    """The user id of a name claim; None if there is no claim. That user may not exist (yet): see `identity.names`."""
    return _holder(await read(store, claim))


def _holder(claim: Record | None) -> UserId | None:
    return None if claim is None else UserId(str(claim.body["user"]))
