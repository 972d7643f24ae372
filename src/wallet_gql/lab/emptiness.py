"""The lab writes people, money and holds, so it begins only on an empty ledger."""

from __future__ import annotations

import os

from ..domain.errors import ConfigurationError
from ..storage import Store


async def check_empty(store: Store) -> None:
    """Refuse a ledger that holds anything. Raises ConfigurationError; Unavailable."""
    if os.environ.get("WALLET_MODE") == "production":
        raise ConfigurationError("WALLET_MODE=production: the lab writes into the ledgers that it compares")
    accounts, records = await store.scan("account", None, 1), await store.scan("record", None, 1)
    if accounts.items or records.items:
        raise ConfigurationError(
            "the ledger is not empty, and the lab would write into it; give an empty one, or a URL with {tmp}, such as "
            "sqlite:///{tmp}/wallet.db"
        )
