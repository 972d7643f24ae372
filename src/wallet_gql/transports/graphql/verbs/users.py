"""Joining, and choosing a password."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from ....domain.errors import EmailTaken, Problem, UsernameTaken
from ....domain.errors import InvalidInput as InvalidInputError
from ....domain.reserved import refuse_reserved
from ....domain.users import FirstSession, SessionKind, check_email, check_password, check_username
from ..accounts import User
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import given
from ..operations import mutation
from .sessions import told_token


def _check_password(text: str) -> None:
    """What can be said of a password by itself; how hard it is to guess is seen when it is chosen."""
    check_password(text, username="", email="")


@input_type
class SignUpInput:
    """Who wants to join."""

    username: str = given(
        "3 to 32 letters, digits, dots, dashes or underscores; others pay you under it.",
        lambda name: refuse_reserved(check_username(name), "username"),
    )
    email: str = given("An e-mail address; nobody else sees it.", check_email)
    password: str = given("8 to 128 characters, hard to guess.", _check_password)
    session: FirstSession = strawberry.field(
        description="The session to begin with. By default there is none: log in next.", default=FirstSession.NONE
    )


@input_type
class ChangePasswordInput:
    """The old password and the new one."""

    old_password: str = about("The password as it is.")
    new_password: str = given("The password as it shall be: 8 to 128 characters, hard to guess.", _check_password)


@object_type
class SignUpSuccess:
    """You have joined. If you did not ask for a session, log in next."""

    user: User | None = about("You.")
    token: str | None = about("Of a `BEARER` session, told only now; else null.")
    expires_at: datetime | None = about("When the session ends, UTC; null without one.")


@object_type
class ChangePasswordSuccess:
    """The new password counts; all your other sessions have ended."""

    user: User | None = about("You.")


@object_type
class UserMutations:
    """What users do about themselves."""

    @mutation
    async def sign_up(
        self, info: Info, given: Annotated[SignUpInput, argument("Who wants to join.", name="input")]
    ) -> SignUpSuccess:
        """Create a user, and log in if a session is asked for: both are done, or neither.

        Names that are taken are problems with the codes `USERNAME_TAKEN` and `EMAIL_TAKEN`.
        """
        context, identity = info.context, info.context.wallet.identity
        who, visitor = (given.username, given.email, given.password), context.caller.visitor
        try:
            if given.session is FirstSession.NONE:
                return SignUpSuccess(user=User.of(await identity.sign_up(*who, visitor)), token=None, expires_at=None)
            made = await identity.join(*who, SessionKind(given.session), visitor)
        except (UsernameTaken, EmailTaken) as error:
            taken = await identity.names.taken(given.username, given.email) or [error]
            problems = [Problem(tuple(one.fields), one.code, one.worded()) for one in taken]
            raise InvalidInputError.of(problems) from error
        expires_at = made.session.expires_at
        return SignUpSuccess(user=User.of(made.user), token=told_token(context, made), expires_at=expires_at)

    @mutation
    async def change_password(
        self, info: Info, given: Annotated[ChangePasswordInput, argument("The old one and the new.", name="input")]
    ) -> ChangePasswordSuccess:
        """Choose a new password and end all other sessions. Refused with `INVALID_CREDENTIALS` if the old is wrong.

        At most once in a document.
        """
        session = await info.context.caller.session()
        try:
            changed = await info.context.wallet.identity.change_password(
                session, given.old_password, given.new_password, info.context.caller.visitor
            )
        except InvalidInputError as error:
            raise InvalidInputError("newPassword", error.reason) from error
        return ChangePasswordSuccess(user=User.of(changed))
