"""Joining, and choosing a password."""

from __future__ import annotations

from typing import Annotated

from ....domain.errors import InvalidInput as InvalidInputError
from ..accounts import User
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..operations import mutation


@input_type
class SignUpInput:
    """Who wants to join."""

    username: str = about("3 to 32 letters, digits, dots, dashes or underscores; others pay you under it.")
    email: str = about("An e-mail address; nobody else sees it.")
    password: str = about("8 to 128 characters, hard to guess.")


@input_type
class ChangePasswordInput:
    """The old password and the new one."""

    old_password: str = about("The password as it is.")
    new_password: str = about("The password as it shall be: 8 to 128 characters, hard to guess.")


@object_type
class SignUpSuccess:
    """You have joined. Log in next."""

    user: User | None = about("You.")


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
        """Create a user. Refused with `USERNAME_TAKEN` or `EMAIL_TAKEN`."""
        context = info.context
        user = await context.wallet.identity.sign_up(
            given.username, given.email, given.password, context.caller.visitor
        )
        return SignUpSuccess(user=User.of(user))

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
            raise InvalidInputError("newPassword", str(error.fields["reason"])) from error
        return ChangePasswordSuccess(user=User.of(changed))
