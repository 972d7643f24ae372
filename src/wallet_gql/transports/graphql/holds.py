"""Holds: money of one account that is reserved for a payee."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from ...domain import model
from ...domain.errors import HoldNotFound
from ...domain.ids import AccountId, HoldId, UserId, is_id
from ...verbs.hold_lists import holds_of, state_at, version_of
from ...verbs.lookups import header_of
from ...verbs.parties import Direction
from .context import Context, Info
from .describe import about, object_type
from .later import ACCOUNT, found, later
from .pages import Asked, Connection, Edge, connection
from .scalars import BigInt
from .transfers import Transfer
from .types import Money, Node, Party, Versioned


@object_type
class Hold(Node, Versioned):
    """Money reserved for a payee, who captures or voids it; else it is the payer's again when its time is over."""

    direction: Direction = about("`OUT` if it is your money, `IN` if it is reserved for you.")
    state: model.HoldState = about("What became of it; `EXPIRED` as soon as its time is over.")
    amount: Money = about("What was reserved.")
    captured: Money = about("What the payee took of it; zero unless the state is `CAPTURED`.")
    reference: str = about("What the payer wrote; empty if nothing.")
    created_at: datetime = about("When it was placed, UTC.")
    expires_at: datetime | None = about("When it ends by itself, UTC; null if only its own flow closes it.")
    closed_at: datetime | None = about("When it was captured, was voided or expired, UTC; null while it is open.")
    closable: bool = about("Whether you may capture or void it now: you are its payee, and it is open.")
    viewer_id: strawberry.Private[UserId]
    hold: strawberry.Private[model.Hold]

    @property
    def _own_id(self) -> AccountId:
        is_in = self.direction is Direction.IN
        return self.hold.payee_account_id if is_in else self.hold.account_id

    @strawberry.field
    def version(self) -> BigInt:
        """Grows with every change. Keep the answer with the greater one."""
        return BigInt(version_of(self.hold, self.state))

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """Your account: the one that pays, or the one that the money is reserved for."""
        return await found(ACCOUNT).find(info.context, self.viewer_id, self._own_id)

    @strawberry.field
    async def payer(self, info: Info) -> Party | None:
        """Whose money it is; null if that is not known any more."""
        return await Party.of(info, self.hold.account_id)

    @strawberry.field
    async def payee(self, info: Info) -> Party | None:
        """Whom it is reserved for; null if that is not known any more."""
        return await Party.of(info, self.hold.payee_account_id)

    @strawberry.field
    async def counterparty(self, info: Info) -> Party | None:
        """The one of the two who is not you; null if it is not known any more."""
        is_in = self.direction is Direction.IN
        return await Party.of(info, self.hold.account_id if is_in else self.hold.payee_account_id)

    @strawberry.field
    async def transfer(self, info: Info) -> Transfer | None:
        """The transfer that captured it, if it was captured."""
        transfer_id = self.hold.transfer_id
        header = await header_of(info.context.wallet.store, transfer_id) if transfer_id else None
        return None if header is None else Transfer.of(header, self.viewer_id, self._own_id)

    @classmethod
    def of(cls, hold: model.Hold, viewer_id: UserId, now: datetime) -> Hold:
        """A hold as its payer or its payee sees it; that its time is over counts before any sweep."""
        state = state_at(hold, now)
        return cls(
            id=strawberry.ID(hold.id),
            direction=Direction.IN if hold.closer == viewer_id else Direction.OUT,
            state=state,
            amount=Money.of(hold.amount_minor, hold.currency),
            captured=Money.of(hold.captured_minor, hold.currency),
            reference=hold.reference,
            created_at=hold.created_at,
            expires_at=hold.expires_at,
            closed_at=hold.expires_at if state is model.HoldState.EXPIRED else hold.closed_at,
            closable=state is model.HoldState.OPEN and hold.closer == viewer_id,
            viewer_id=viewer_id,
            hold=hold,
        )

    @classmethod
    async def find(cls, context: Context, user_id: UserId, hold_id: str) -> Hold | None:
        """A hold that the user placed or may close. Raises Unavailable."""
        try:
            hold = await context.ledger.hold(user_id, HoldId(hold_id))
        except HoldNotFound:
            return None
        return cls.of(hold, user_id, context.ledger.clock())


async def listed_holds(
    context: Context,
    user_id: UserId,
    asked: Asked,
    direction: Direction | None,
    states: list[model.HoldState] | None,
) -> Connection[Hold]:
    """A page of the user's holds, newest first. Raises BadRequest, Unavailable."""
    asked.checked(partial(is_id, "hld"))
    now = context.ledger.clock()
    page = await holds_of(
        context.wallet.store,
        user_id,
        asked.size,
        now,
        after=asked.cursor or "",
        backward=asked.is_backward,
        directions=tuple(Direction) if direction is None else (direction,),
        states=tuple(model.HoldState) if states is None else states,
    )
    edges = [Edge(place=hold.id, node=Hold.of(hold, user_id, now)) for hold in page.holds]
    end = page.goes_on_behind
    return connection(edges, asked, has_more=end is not None, goes_on_at=end)
