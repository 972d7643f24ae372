"""Names that people would take for the wallet itself: nobody signs up under them, and no merchant is called so."""

from __future__ import annotations

import re
from typing import Final

from .errors import InvalidInput
from .text import comparable

RESERVED: Final = frozenset(
    """
    abuse admin administrator anonymous bank billing cash clearing everybody fees help helpdesk hostmaster info
    moderator nobody noreply null official operator payments postmaster refund refunds root security service staff
    stripe superuser support system undefined wallet walletgql webmaster
    """.split()  # noqa: SIM905 - as text it can be read
)
"""In letters and digits alone: `wallet-gql` and `Wallet GQL` are one name."""

_APART: Final = re.compile(r"[\W_]+")


def refuse_reserved(name: str, field: str) -> str:
    """Return the name if it may be chosen. Names that were chosen before stay. Raises InvalidInput."""
    if _APART.sub("", comparable(name)) in RESERVED:
        raise InvalidInput(field, "another name: this one would be taken for the wallet's own")
    return name
