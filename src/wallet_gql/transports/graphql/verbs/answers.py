"""Answers that several mutations share: an account as it is after the command."""

from __future__ import annotations

from typing import Self

import strawberry

from ....domain.ids import AccountId, UserId
from ....domain.model import Account as DomainAccount
from ....domain.model import Transfer as DomainTransfer
from ....verbs.ledger import Posted
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, object_type
from ..types import Transfer


@object_type
class Keyed:
    """An answer to a command with a key."""

    replayed: bool = about("Whether the key was used before: then nothing was done now.")
    account_id: strawberry.Private[AccountId]
    viewer_id: strawberry.Private[UserId]
    accounts: strawberry.Private[tuple[DomainAccount, ...]] = ()
    """Accounts as the commit left them, so that they need not be read again."""


@object_type
class FromAccount(Keyed):
    """An answer to a command that spends or reserves the money of one of your accounts."""

    @strawberry.field
    async def from_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: what was done stands all the same."""
        for account in self.accounts:
            if (account.id, account.owner) == (self.account_id, self.viewer_id):
                return Account.of(account)
        return await own_account(info, self.viewer_id, self.account_id)


@object_type
class Moved(Keyed):
    """An answer to a command that moves money."""

    transfer: Transfer | None = about("The transfer; on a replay the one that the key first made.")
    credited: bool = about("Whether the payee has it already; if not, it is certain and on its way.")

    @classmethod
    def of(cls, posted: Posted[DomainTransfer], account_id: AccountId, viewer_id: UserId) -> Self:
        """A transfer as one side sees it: `account_id` is the viewer's."""
        return cls(
            transfer=Transfer.of(posted.result, viewer_id),
            replayed=posted.replayed,
            credited=posted.credited,
            accounts=posted.accounts,
            account_id=account_id,
            viewer_id=viewer_id,
        )
