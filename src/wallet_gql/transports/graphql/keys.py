"""What became of an idempotency key."""

from __future__ import annotations

from datetime import datetime

from ...domain.ids import UserId
from ...verbs.ledger import Known
from .context import Context
from .describe import about, object_type
from .errors import WalletError, as_data
from .holds import Hold
from .transfers import Transfer


@object_type
class KeyOutcome:
    """What a key stands for, for good: a transfer, a hold or a refusal."""

    operation: str = about("What was asked for under the key: `transfer`, `captureHold`, `reverseTransfer` …")
    created_at: datetime = about("When it was decided, UTC.")
    transfer: Transfer | None = about("The transfer that was made.")
    hold: Hold | None = about("The hold that was placed or voided, as it is now.")
    refusal: WalletError | None = about("Why it was refused; no money moved, and under this key none ever will.")

    @classmethod
    async def of(cls, context: Context, known: Known, viewer_id: UserId) -> KeyOutcome:
        """As the user who sent the key sees it. Raises Unavailable."""
        moved = known.transfer
        return cls(
            operation=known.operation,
            created_at=known.at,
            transfer=await Transfer.seen(context, viewer_id, moved) if moved else None,
            hold=Hold.of(known.hold, viewer_id, context.ledger.clock()) if known.hold else None,
            refusal=as_data(known.refusal) if known.refusal else None,
        )
