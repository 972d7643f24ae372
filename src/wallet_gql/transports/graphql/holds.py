"""Holds: money of one account that is reserved for a payee."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain import model
from ...domain.ids import UserId
from .context import Info
from .describe import about, object_type
from .types import Counterparty, Money, Node, counterparty_of


@object_type
class Hold(Node):
    """Money reserved for a payee, who captures or voids it; else it is the payer's again when its time is over."""

    state: model.HoldState = about("What became of it; `EXPIRED` as soon as its time is over.")
    amount: Money = about("What was reserved.")
    captured: Money = about("What the payee took of it; zero unless the state is `CAPTURED`.")
    reference: str = about("What the payer wrote; empty if nothing.")
    created_at: datetime = about("When it was placed, UTC.")
    expires_at: datetime | None = about("When it ends by itself, UTC; null if only its own flow closes it.")
    closed_at: datetime | None = about("When it was captured, was voided or expired, UTC; null while it is open.")
    transfer_id: strawberry.ID | None = about("The transfer that captured it, if it was captured.")
    closable: bool = about("Whether you may capture or void it now: you are its payee, and it is open.")
    viewer_id: strawberry.Private[UserId]
    hold: strawberry.Private[model.Hold]

    @strawberry.field
    async def counterparty(self, info: Info) -> Counterparty | None:
        """The other side, seen from the user who asks; null if it is not known any more."""
        return await counterparty_of(info, self.viewer_id, self.hold.payee_account_id, self.hold.account_id)

    @classmethod
    def of(cls, hold: model.Hold, viewer_id: UserId, now: datetime) -> Hold:
        """A hold as its payer or its payee sees it; that its time is over counts before any sweep."""
        state = model.HoldState.EXPIRED if hold.is_due(now) else hold.state
        return cls(
            id=strawberry.ID(hold.id),
            state=state,
            amount=Money.of(hold.amount_minor, hold.currency),
            captured=Money.of(hold.captured_minor, hold.currency),
            reference=hold.reference,
            created_at=hold.created_at,
            expires_at=hold.expires_at,
            closed_at=hold.expires_at if state is model.HoldState.EXPIRED else hold.closed_at,
            transfer_id=strawberry.ID(hold.transfer_id) if hold.transfer_id else None,
            closable=state is model.HoldState.OPEN and hold.closer == viewer_id,
            viewer_id=viewer_id,
            hold=hold,
        )
