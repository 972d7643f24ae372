"""The promises of `wallet_gql.storage.Store`, each as tests that can fail.

| class | what it does |
|---|---|
| `StoreConformance` | one test or more a promise, in one process |
| `CrashConformance` | kills processes that write, at every named point and at random |
| `MachineConformance` | draws commands, alone and in crowds, and compares the answers with a model's |

Subclass it:

```python
from wallet_gql.testing.conformance import CrashConformance, MachineConformance, StoreConformance

class TestMyStore(StoreConformance):
    backend = "mystore://{tmp}/ledger"  # or a harness's name; `{tmp}` is an empty folder

class TestMyStoreKilled(CrashConformance):
    backend = "mystore://{tmp}/ledger"

class TestMyStoreByModel(MachineConformance):
    backend = "mystore://{tmp}/ledger"
```

They need pytest with pytest-asyncio. Test names begin with what they are about; `wallet_gql.testing.report` has the
list, and tells what was tried and what was not.
"""

from __future__ import annotations

import pytest

_PARTS = (
    *("suite", "_guarantees", "_protocol", "_idempotency", "_races", "_reversals", "_reading", "_freshness"),
    *("_copying", "_data", "_durability", "_outages", "_users", "_capabilities", "_crash", "_machine"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from ._capabilities import Capabilities  # noqa: E402 - pytest must hear of the parts before they are imported
from ._copying import Copying  # noqa: E402 - the same
from ._crash import CrashConformance  # noqa: E402 - the same
from ._data import Data  # noqa: E402 - the same
from ._durability import Durability  # noqa: E402 - the same
from ._freshness import Freshness  # noqa: E402 - the same
from ._guarantees import Guarantees  # noqa: E402 - the same
from ._idempotency import Idempotency  # noqa: E402 - the same
from ._machine import MachineConformance  # noqa: E402 - the same
from ._outages import Outages  # noqa: E402 - the same
from ._protocol import Protocol  # noqa: E402 - the same
from ._races import Races  # noqa: E402 - the same
from ._reading import Reading  # noqa: E402 - the same
from ._reversals import Reversals  # noqa: E402 - the same
from ._users import Users  # noqa: E402 - the same

__all__ = [
    "Capabilities",
    "Copying",
    "CrashConformance",
    "Data",
    "Durability",
    "Freshness",
    "Guarantees",
    "Idempotency",
    "MachineConformance",
    "Outages",
    "Protocol",
    "Races",
    "Reading",
    "Reversals",
    "StoreConformance",
    "Users",
]


class StoreConformance(
    Guarantees,
    Durability,
    Protocol,
    Idempotency,
    Races,
    Reversals,
    Reading,
    Copying,
    Freshness,
    Data,
    Outages,
    Users,
    Capabilities,
):
    """The whole suite."""
