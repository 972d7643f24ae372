"""`StoreConformance`: the promises of `wallet_gql.storage.Store`, each as tests that can fail.

Subclass it:

```python
from wallet_gql.testing.conformance import StoreConformance

class TestMyStore(StoreConformance):
    backend = "mystore://{tmp}/ledger"  # or a harness's name; `{tmp}` is an empty folder
```

It needs pytest with pytest-asyncio. Test names begin with what they are about: `g1` to `g8` for the guarantees, `i2`
for what no decision may do, `trap` for the three idempotency traps, `race`, `read`, `user`, `capability`.
"""

from __future__ import annotations

import pytest

_PARTS = (
    *("suite", "_guarantees", "_protocol", "_idempotency", "_races", "_reversals", "_reading", "_freshness"),
    *("_data", "_durability", "_users", "_capabilities"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from ._capabilities import Capabilities  # noqa: E402 - pytest must register the parts before they are imported
from ._data import Data  # noqa: E402 - the same
from ._durability import Durability  # noqa: E402 - the same
from ._freshness import Freshness  # noqa: E402 - the same
from ._guarantees import Guarantees  # noqa: E402 - the same
from ._idempotency import Idempotency  # noqa: E402 - the same
from ._protocol import Protocol  # noqa: E402 - the same
from ._races import Races  # noqa: E402 - the same
from ._reading import Reading  # noqa: E402 - the same
from ._reversals import Reversals  # noqa: E402 - the same
from ._users import Users  # noqa: E402 - the same

__all__ = [
    "Capabilities",
    "Data",
    "Durability",
    "Freshness",
    "Guarantees",
    "Idempotency",
    "Protocol",
    "Races",
    "Reading",
    "Reversals",
    "StoreConformance",
    "Users",
]


class StoreConformance(
    Guarantees, Durability, Protocol, Idempotency, Races, Reversals, Reading, Freshness, Data, Users, Capabilities
):
    """The whole suite."""
