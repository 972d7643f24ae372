"""What is loaded (`ReadSet`, `Scope`, `Snapshot`), what is written (`Changes`), and the one place that posts money.

`State` is the working set of one commit. A backend loads it; `decide_all` runs decisions over it, each of which sees
what those before it wrote; the backend writes `state.writes`. Everything that follows mechanically from a transfer
(entries, sequences, balances, clearing lines) is computed once, in `posting`, and checked there once:

- a command writes only in its `home` slot, except for the credit of a transfer (I2 of the design);
- the entries of every transfer sum to zero per currency on every node it touches;
- no account goes below what it holds, no hold closes twice, no receipt key is used twice.
"""

from .posting import Trial, decide_all, post
from .scope import Changes, Credit, Decision, Done, Failed, Outcome, ReadSet, Scope, Unreceived
from .snapshot import Decide, Snapshot
from .state import State, Writes, credit_peer

__all__ = [
    "Changes",
    "Credit",
    "Decide",
    "Decision",
    "Done",
    "Failed",
    "Outcome",
    "ReadSet",
    "Scope",
    "Snapshot",
    "State",
    "Trial",
    "Unreceived",
    "Writes",
    "credit_peer",
    "decide_all",
    "post",
]
