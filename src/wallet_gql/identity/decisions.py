"""What commits decide about sessions: pure, on the user and the sessions as they are inside the commit.

A session counts only in the *epoch* of its user in which it began. Ending all sessions increments the epoch, so that a
log-in that is running cannot begin a session any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..domain.changes import Changes, Decide, Decision, Snapshot
from ..domain.errors import Contended, InvalidCredentials, Unauthenticated
from ..domain.model import RecordKey
from ..domain.security_events import SecurityEvent
from ..domain.users import Session, User, user_key


def beginning(session: Session, user: User, event: SecurityEvent) -> Decide[None]:
    """Store a session, unless the password was changed or all sessions were ended since `user` was read.

    Raises:
        InvalidCredentials: the password was changed. Contended: all sessions were ended.
    """

    def decide(snapshot: Snapshot) -> Decision[None]:
        current = User.from_record(snapshot.record(user_key(user.id)))
        if current is None or current.password_hash != user.password_hash:
            raise InvalidCredentials
        if current.epoch != user.epoch:
            raise Contended("all sessions were ended during this log-in")
        return Decision(Changes(records=(session.to_record(), event.to_record(user.id))), None)

    return decide


def renewing(session: Session, renewed: Session, event: SecurityEvent) -> Decide[Session]:
    """Replace a session by the renewed one, which is the result. Raises Unauthenticated: the session has ended."""

    def decide(snapshot: Snapshot) -> Decision[Session]:
        current, before = User.from_record(snapshot.record(user_key(session.user_id))), snapshot.record(session.key)
        epoch = None if before is None else Session.from_record(before).epoch
        if current is None or current.epoch != epoch:
            raise Unauthenticated
        stored = replace(renewed, epoch=epoch)
        written = stored.to_record(), event.to_record(session.user_id)
        return Decision(Changes(records=written, removed=(session.key,)), stored)

    return decide


def ending(
    user: User, keys: Sequence[RecordKey], keep: Session | None, event: SecurityEvent, password_hash: str | None
) -> Decide[tuple[int, int]]:
    """End the sessions of `keys` but `keep`. The result is the new epoch, and how many of them were live.

    With `password_hash`, the password changes, too.

    Raises:
        Unauthenticated: there is no such user. Contended: the password was changed since `user` was read.
    """

    def decide(snapshot: Snapshot) -> Decision[tuple[int, int]]:
        before = snapshot.record(user_key(user.id))
        current = User.from_record(before)
        if before is None or current is None:
            raise Unauthenticated
        if password_hash is not None and current.password_hash != user.password_hash:
            raise Contended("the password was changed by somebody else meanwhile")
        later = replace(current, epoch=current.epoch + 1, password_hash=password_hash or current.password_hash)
        written = [later.to_record().after(before), event.to_record(user.id)]
        ended: list[Session] = []
        for found in filter(None, map(snapshot.record, keys)):
            session = Session.from_record(found)
            if keep is not None and session.id == keep.id:
                written.append(replace(session, epoch=later.epoch).to_record().after(found))
            else:
                ended.append(session)
        live = sum(session.expires_at > event.at for session in ended)
        changes = Changes(records=tuple(written), removed=tuple(session.key for session in ended))
        return Decision(changes, (later.epoch, live))

    return decide
