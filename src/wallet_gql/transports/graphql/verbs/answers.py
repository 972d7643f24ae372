"""Answers that several mutations share: an account, and the head of its history, as they are after the command."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Self

import strawberry

from ....domain.errors import WalletError as DomainError
from ....domain.ids import AccountId, UserId
from ....domain.model import Account as DomainAccount
from ....domain.model import Transfer as DomainTransfer
from ....verbs.history import newest_lines
from ....verbs.ledger import Posted
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, object_type
from ..history import Entry, entry_edge
from ..pages import Edge
from ..transfers import Transfer

log = logging.getLogger(__name__)


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
class MadeEntries:
    """An answer to a command that makes entries on one of your accounts."""

    account_id: strawberry.Private[AccountId]
    viewer_id: strawberry.Private[UserId]
    moved: strawberry.Private[Sequence[DomainTransfer] | None]
    """The transfers; None if they are not known."""

    @strawberry.field
    async def entry_edges(self, info: Info) -> list[Edge[Entry]] | None:
        """The new entries of your account, newest first: put them at the head of its `history` in your cache.

        Null if they are not there yet, or are not among the newest 100: ask for the history.
        """
        if self.moved is None:
            return None
        transfer_ids = {one.id for one in self.moved}
        try:
            account = await info.context.ledger.account(self.viewer_id, self.account_id)
            lines = await newest_lines(info.context.wallet.store, self.account_id, transfer_ids)
        except DomainError as error:
            log.warning("the entries on %s could not be read after a command: %s", self.account_id, error)
            return None
        return None if lines is None else [entry_edge(line, account) for line in lines]


@object_type
class Moved(Keyed, MadeEntries):
    """An answer to a command that moves money."""

    transfer: Transfer | None = about("The transfer; on a replay the one that the key first made.")
    credited: bool = about("Whether the payee has it already; if not, it is certain and on its way.")

    @classmethod
    def of(cls, posted: Posted[DomainTransfer], account_id: AccountId, viewer_id: UserId) -> Self:
        """A transfer as one side sees it: `account_id` is the viewer's."""
        return cls(
            transfer=Transfer.of(posted.result, viewer_id, account_id),
            replayed=posted.replayed,
            credited=posted.credited,
            accounts=posted.accounts,
            account_id=account_id,
            viewer_id=viewer_id,
            moved=(posted.result,),
        )
