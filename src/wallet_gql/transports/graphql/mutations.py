"""All mutations: the parts of `verbs`, put together.

Resolvers return success and raise everything else; `operations.mutation` makes the unions, and `errors.HANDLERS`
convert what resolvers raise to data.
"""

from __future__ import annotations

from .describe import object_type
from .verbs.accounts import AccountMutations
from .verbs.batches import BatchMutations
from .verbs.holds import HoldMutations
from .verbs.merchants import MerchantMutations
from .verbs.payments import PaymentMutations
from .verbs.sessions import SessionMutations
from .verbs.spending import SpendingMutations
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
    SpendingMutations,
):
    """Everything that writes. Mutations of one document run one after the other, each commits on its own."""
