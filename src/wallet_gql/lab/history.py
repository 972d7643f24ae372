"""A history: every call with its outcome and its times, and the journal of its accounts at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..domain.ids import OPERATOR
from ..testing.books import Books
from ..testing.history import Operations, add_line

Outcome = Literal["ok", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read told of one account: its version, which is the sequence of its last entry, and its amounts.

    `open_minor` is the sum of the open holds that came with it.
    """

    sequence: int
    posted_minor: int
    held_minor: int = 0
    open_minor: int = 0


@dataclass(slots=True)
class Call:
    """One call of one client. Times are nanoseconds of the monotonic clock.

    `verb` is one of `wallet_gql.testing.writer.perform`, or `read` (the accounts in `asked`) or `page` (of one
    account's entries). A repeated request is another call under the same actor and key.
    """

    process: int
    verb: str
    sent_at: int
    ended_at: int
    outcome: Outcome
    actor: str = ""
    key: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    """`made`, `replayed`, `credited` of a success; `code` of a failure, with `available_minor` or `retryable`."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """By account, for reads."""
    page: tuple[tuple[int, str, int, int], ...] = ()
    """The lines of a page: sequence, transfer, amount, balance."""
    result: object = None
    """The answered object itself; it is not written to files."""

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.verb in ("read", "page")


@dataclass(slots=True)
class History:
    """One run. `homes` maps each account to the node that holds its entries, `opening` to its entries at the start."""

    backend: str
    seed: int
    homes: Mapping[str, str]
    opening: Mapping[str, int]
    keeps_pending: bool = False
    """Whether the backend claims that balances may count credits of other nodes whose entries follow."""
    calls: list[Call] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    strange: list[str] = field(default_factory=list)
    """What the clients met that no backend may do, such as an error of its driver."""
    asking: set[object] = field(default_factory=set)
    """One object for each request that has no final answer yet."""
    nemesis: list[Mapping[str, Any]] = field(default_factory=list)
    """The faults that were injected meanwhile, with their times on the calls' clock."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """In the order in which they were opened."""
        return tuple(self.homes)

    def opening_minor(self, account_id: str) -> int:
        """The balance at the start."""
        return sum(entry.amount_minor for entry in self.books.entries[account_id][: self.opening[account_id]])

    def operations(self) -> Operations:
        """The writes by actor and key, as `wallet_gql.testing.history.check` takes them."""
        found: Operations = {}
        for line in _lines(call for call in self.calls if not call.is_read):
            add_line(found, line)
        for item in self.books.transfers.values():
            if item.actor == OPERATOR:  # set-up; the clients are others
                name = (item.actor, item.idempotency_key)
                found.setdefault(name, _set_up(*name))
        return found


def _set_up(actor: str, key: str) -> Any:
    known: Operations = {}
    add_line(known, {"event": "invoke", "at": 0, "actor": actor, "key": key, "verb": "deposit"})
    return known[actor, key]


def _lines(calls: Iterator[Call]) -> Iterator[dict[str, Any]]:
    for call in calls:
        whose = {"actor": call.actor, "key": call.key}
        yield {"event": "invoke", "at": call.sent_at, **whose, "verb": call.verb, **call.asked}
        yield {"event": call.outcome, "at": call.ended_at, **whose, **call.told}
