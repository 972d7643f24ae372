"""A forgotten password: the operator gives the user a new one, and all sessions end."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from typing import Final

from ..domain.errors import InvalidInput, WalletError, reasons
from ..domain.security_events import FAILURES_LAST, EventKind, Visitor
from ..domain.users import User, check_password, email_claim, username_claim
from ..storage import PAGE_MAX
from .access import Identity
from .events import tell

log: Final = logging.getLogger(__name__)

_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without those that are mistaken for others when a password is read out: i, l, o, 0, 1."""

_GROUPS: Final = 5
_GROUP_LETTERS: Final = 4

_FAILED: Final = frozenset({EventKind.LOG_IN_FAILED, EventKind.PASSWORD_CHANGE_FAILED})

_PAGES_MAX: Final = 10
"""How many pages of a user's events are searched for failures. An attacker can make as many as there are addresses."""


def make_password() -> str:
    """A random password of 99 bits that can be read out, such as `k7pm-x3hd-9wtz-qc4f-ra6v`."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)


async def reset_password(identity: Identity, user: User, new: str) -> int:
    """Set a user's password in the operator's name; returns how many sessions ended.

    All sessions end in the same commit, and the user sees an event. Failed log-ins under the user's names are forgotten
    after that, so that the new password can be used at once: there may be very many, and whoever made them must gain no
    time by it. If they cannot be forgotten that is logged, and the user may have to wait. After an error it is safe to
    reset the password again.

    Raises:
        InvalidInput: the new password is not allowed, or is the one that the user has.
        Contended: the password was changed meanwhile.
        Unavailable: it was not changed. InDoubt: unknown.
    """
    check_password(new, username=user.username, email=user.email)
    if await identity.passwords.verify(user.password_hash, new):
        raise InvalidInput("password", reasons.PASSWORD_SAME())
    password_hash = await identity.passwords.choose(new, (user.username, user.email))
    event = identity.events.make(EventKind.PASSWORD_RESET, None)
    ended = await identity.end_all(user, None, event, password_hash=password_hash)
    tell(event, user.id)
    names = username_claim(user.username).id, email_claim(user.email).id, user.id
    try:
        await identity.throttles.forget(names, await _who_failed(identity, user, event.at - FAILURES_LAST))
    except WalletError as error:
        log.warning("some failed log-ins of %s still count, so the user may have to wait: %s", user.id, error)
    return ended


async def _who_failed(identity: Identity, user: User, since: datetime) -> set[Visitor]:
    """From where a wrong password was given since then: a throttle's key has the place, but does not tell it."""
    found: set[Visitor] = set()
    after = ""
    for _ in range(_PAGES_MAX):
        page = await identity.events.page(user.id, PAGE_MAX, after=after)
        recent = [event for event in page.items if event.at >= since]
        found |= {event.visitor for event in recent if event.kind in _FAILED and event.visitor is not None}
        if not page.has_more or len(recent) < len(page.items):
            break
        after = page.items[-1].id
    return found
