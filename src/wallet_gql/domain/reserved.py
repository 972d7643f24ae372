"""Names that users could mistake for the wallet itself: nobody may sign up or be a merchant under them."""

from __future__ import annotations

import re
from typing import Final

from .errors import InvalidInput, reasons
from .text import comparable

RESERVED: Final = frozenset(
    """
    abuse admin administrator anonymous bank billing cash clearing everybody fees help helpdesk hostmaster info
    moderator nobody noreply null official operator payments postmaster refund refunds root security service staff
    stripe superuser support system undefined wallet walletgql webmaster
    """.split()  # noqa: SIM905 - easier to read as text
)
"""Only letters and digits: `wallet-gql` and `Wallet GQL` are one name."""

_APART: Final = re.compile(r"[\W_]+")


def refuse_reserved(name: str, field: str) -> str:
    """Return the name if it may be chosen. Names chosen earlier stay valid. Raises InvalidInput."""
    if _APART.sub("", comparable(name)) in RESERVED:
        raise InvalidInput(field, reasons.RESERVED_NAME())
    return name
