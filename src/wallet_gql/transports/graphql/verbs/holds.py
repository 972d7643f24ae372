"""Reserving money, taking it, and letting it go."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ....domain.ids import AccountId, HoldId, parse_account_id, parse_hold_id
from ....domain.money import check_amount
from ....verbs.attempts import check_reference
from ....verbs.holds import check_hold_seconds
from ....verbs.ledger import HOLD_SECONDS_DEFAULT
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import KEY_CHECK, given
from ..holds import Hold
from ..operations import mutation
from ..scalars import BigInt
from ..transfers import Transfer
from .answers import FromAccount, Moved
from .inputs import KEY, MoneyInput, Recipient


@input_type
class PlaceHoldInput:
    """Money of one of your accounts to reserve for a payee."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    from_account_id: strawberry.ID = given("Your account whose money is reserved.", parse_account_id)
    to: Recipient = about("Whom to reserve it for.")
    amount: MoneyInput = about("How much.")
    expires_in_seconds: int = given(
        "When it ends by itself, from now on: 1 second to 30 days; a week if absent.",
        check_hold_seconds,
        default=HOLD_SECONDS_DEFAULT,
    )
    reference: str | None = given(
        "What it is for, at most 140 characters; the payee sees it.", check_reference, default=""
    )


@input_type
class CaptureHoldInput:
    """What to take of a hold."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    hold_id: strawberry.ID = given("The hold; only its payee captures it.", parse_hold_id)
    minor_units: BigInt | None = given(
        "How much, in the minor unit of its currency; all of it if absent. The rest is released.",
        check_amount,
        default=None,
    )


@input_type
class VoidHoldInput:
    """Which hold to let go."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    hold_id: strawberry.ID = given("The hold; only its payee voids it.", parse_hold_id)


@object_type
class PlaceHoldSuccess(FromAccount):
    """The money is reserved, now or when this key was first sent."""

    hold: Hold | None = about("The hold as it was placed; on a replay it may have closed since: ask `hold(id:)`.")


@object_type
class CaptureHoldSuccess(Moved):
    """The money is yours, now or when this key was first sent. The hold is closed."""

    transfer: Transfer | None = about("The transfer that brings the money; it names the hold.")
    credited: bool = about("Whether your account has it already; if not, it is certain and on its way.")

    @strawberry.field
    async def to_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: the capture stands all the same."""
        return await own_account(info, self.viewer_id, self.account_id)


@object_type
class VoidHoldSuccess:
    """The money is the payer's again, now or when this key was first sent. The hold is closed."""

    hold: Hold | None = about("The hold, voided.")
    replayed: bool = about("Whether the key was used before: then nothing was done now.")


@object_type
class HoldMutations:
    """What reserves money, takes it and lets it go."""

    @mutation
    async def place_hold(
        self, info: Info, given: Annotated[PlaceHoldInput, argument("What to reserve.", name="input")]
    ) -> PlaceHoldSuccess:
        """Reserve money for a payee: it stays on your account, and nobody else can have it until the hold closes."""
        user_id = await info.context.user_id()
        posted = await info.context.ledger.place_hold(
            user_id,
            await info.context.key(given.idempotency_key),
            source=AccountId(given.from_account_id),
            to=given.to.as_to(),
            amount_minor=given.amount.minor_units,
            currency=given.amount.currency,
            expires_in_seconds=given.expires_in_seconds,
            reference=given.reference or "",
        )
        return PlaceHoldSuccess(
            hold=Hold.of(posted.result, user_id, info.context.ledger.clock()),
            replayed=posted.replayed,
            accounts=posted.accounts,
            account_id=posted.result.account_id,
            viewer_id=user_id,
        )

    @mutation
    async def capture_hold(
        self, info: Info, given: Annotated[CaptureHoldInput, argument("What to take.", name="input")]
    ) -> CaptureHoldSuccess:
        """Take the money that is reserved for you, once: one capture closes the hold. For its payee alone."""
        user_id = await info.context.user_id()
        posted = await info.context.ledger.capture_hold(
            user_id,
            await info.context.key(given.idempotency_key),
            HoldId(given.hold_id),
            amount_minor=given.minor_units,
        )
        return CaptureHoldSuccess.of(posted, posted.result.credit_account_id, user_id)

    @mutation
    async def void_hold(
        self, info: Info, given: Annotated[VoidHoldInput, argument("Which hold to let go.", name="input")]
    ) -> VoidHoldSuccess:
        """Give the money back to its payer. For the hold's payee alone; the payer waits until it expires."""
        user_id = await info.context.user_id()
        hold_id = HoldId(given.hold_id)
        posted = await info.context.ledger.void_hold(user_id, await info.context.key(given.idempotency_key), hold_id)
        hold = Hold.of(posted.result, user_id, info.context.ledger.clock())
        return VoidHoldSuccess(hold=hold, replayed=posted.replayed)
