"""The test suites. They are part of the package, so that backends of other packages can be tested by them.

| module | what it is |
|---|---|
| `conformance` | `StoreConformance`, `CrashConformance`, `MachineConformance`: subclass them with one attribute |
| `harness` | how a suite starts, stops, pauses and kills a backend; `harness_for(name or URL)` |
| `levels` | the consistency levels that a backend claims, in Adya's words |
| `world` | a store with people who have money, a clock that the test moves, and an audit at the end |
| `machine`, `model`, `loop` | a Hypothesis state machine against a tiny model ledger; a seeded, shuffling event loop |
| `faults` | a store whose replies get lost |
| `writer`, `crash`, `history` | processes that are killed, the trials that kill them, the checker of their histories |
| `data` | what a store must keep: the longest texts, the largest numbers |
| `flushes` | counts what a store has made durable, by strace or by the counters of servers |
| `report` | what was tried and how often, as a pytest plugin and for `scripts/compare.py` |
| `patience` | how long tests wait: limits that stretch with the load of the machine, and `insist` |
| `books` | reads a whole store by `scan` and names what is wrong, independently of `wallet_gql.books.audit` |

```python
from wallet_gql.testing.conformance import StoreConformance

class TestMyStore(StoreConformance):
    backend = "mystore://{tmp}/ledger"
```

It needs the extra `wallet-gql[testing]`. Nothing in the product but `wallet_gql.lab` imports this package.
"""
