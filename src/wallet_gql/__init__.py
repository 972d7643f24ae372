"""A payment wallet over GraphQL, whose storage is a protocol with interchangeable backends.

`open_ledger` gives the ledger without any transport; `wallet_gql.testing` has the suite that every backend passes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .domain import errors
from .storage import Store
from .verbs.ledger import Ledger, Posted, To

__version__ = "0.1.0"
__all__ = ["Ledger", "Posted", "Store", "To", "__version__", "errors", "open_ledger"]


@asynccontextmanager
async def open_ledger(storage: str) -> AsyncIterator[Ledger]:
    """A ledger over the store that a URL names, such as `sqlite:///wallet.db`. Raises ConfigurationError."""
    from .backends import open_store  # noqa: PLC0415 - a backend is imported when it is asked for

    async with open_store(storage) as store:
        yield Ledger(store)
