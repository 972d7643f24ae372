"""The rules of the wallet, one function per verb: (snapshot, command, now) -> Changes, or raises Rejected.

Every rule checks first who acts, then the state, then the amount. A rule never sees a store, a clock or a random
number; `now` is the server's time at which the command was accepted. The rules of merchants, top-ups, withdrawals and
clawbacks are in modules of those names.
"""

from . import clawbacks, merchants, topups, withdrawals
from .accounts import open_account, set_account_status
from .checks import close_hold, due_minor, fee_minor, free_minor
from .holds import OPEN_HOLDS_MAX, capture_hold, expire_holds, place_hold, void_hold
from .transfers import (
    DEPOSITED_BALANCE_MAX_MINOR,
    deposit,
    is_reversible,
    reverse_transfer,
    reversible_minor,
    transfer,
    withdraw,
)

__all__ = [
    "DEPOSITED_BALANCE_MAX_MINOR",
    "OPEN_HOLDS_MAX",
    "capture_hold",
    "clawbacks",
    "close_hold",
    "deposit",
    "due_minor",
    "expire_holds",
    "fee_minor",
    "free_minor",
    "is_reversible",
    "merchants",
    "open_account",
    "place_hold",
    "reverse_transfer",
    "reversible_minor",
    "set_account_status",
    "topups",
    "transfer",
    "void_hold",
    "withdraw",
    "withdrawals",
]
