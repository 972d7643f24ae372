"""What can be done: the parts in `verbs`, put together.

Resolvers return success and raise everything else; `operations.mutation` makes their unions, and `errors.HANDLERS` turn
what they raise into data.
"""

from __future__ import annotations

from .describe import object_type
from .verbs.accounts import AccountMutations
from .verbs.batches import BatchMutations
from .verbs.holds import HoldMutations
from .verbs.merchants import MerchantMutations
from .verbs.payments import PaymentMutations
from .verbs.sessions import SessionMutations
from .verbs.transfers import TransferMutations
from .verbs.users import UserMutations


@object_type
class Mutation(
    UserMutations,
    SessionMutations,
    AccountMutations,
    TransferMutations,
    BatchMutations,
    HoldMutations,
    MerchantMutations,
    PaymentMutations,
):
    """Everything that writes. Mutations of one document run one after the other, each commits on its own."""
