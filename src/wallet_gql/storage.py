"""The storage protocol: what every backend promises.

The author of a backend writes: load these records in isolation, write these changes, commit, recover. Batching, running
the decisions, retries and the checks of what is written are shared code (`domain.changes`,
`backends.kit.group_commit`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Generic, Literal, Protocol, Self, TypeVar, runtime_checkable

from .domain.changes import Decide, ReadSet, Scope, Snapshot
from .domain.errors import InvariantViolated, Unavailable, WalletError
from .domain.frozen import frozen
from .domain.ids import AccountId, TransferId, is_system
from .domain.model import Account, Entry, Hold, PendingCredit, Receipt, Record, RecordKey, SystemEntry, Transfer
from .domain.money import BALANCE_MAX_MINOR

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_SECONDS: Final = 10.0
"""How long `execute` may take if its caller sets no timeout."""

PAGE_MAX: Final = 100
"""The most items of one page of history or of a list."""

SCAN_MAX: Final = 1_000
"""The most items of one page of a scan."""

ScanKind = Literal["account", "journal", "hold", "receipt", "record"]
SCAN_KINDS: Final[tuple[ScanKind, ...]] = ("account", "journal", "hold", "receipt", "record")

Away = Mapping[str, Unavailable]
"""The parts of a store that cannot write now, by name, and why."""


@frozen
class Capabilities:
    """What a store can do beyond the guarantees; shown to clients, never hidden.

    `durable`: answered commands survive a crash. `multi_process`: several processes may share it. `spans_nodes`: it has
    more than one node. `snapshot_reads`: a `fetch` across nodes sees one moment. `remote_credit`: `atomic` if a credit
    on another node is applied before the reply as long as that node answers, `eventual` if it may come later even then.
    """

    durable: bool
    multi_process: bool
    spans_nodes: bool
    snapshot_reads: bool
    remote_credit: Literal["atomic", "eventual"] = "atomic"


@frozen
class Committed(Generic[R]):
    """A committed command. `credited` is False if a credit on another node was not applied yet."""

    result: R
    credited: bool = True
    accounts: tuple[Account, ...] = ()
    """Accounts of the command's scope as it left them. One that is missing was not changed, or has to be read."""


@frozen
class PageRequest:
    """A keyset page of history: `limit` items (1 to `PAGE_MAX`) below `before` or above `after` (sequences, exclusive).

    `newest_first` gives the order of the items; the page is taken from that end.
    """

    limit: int
    before: int | None = None
    after: int | None = None
    newest_first: bool = True

    def __post_init__(self) -> None:
        """Clamp bounds to the range of sequences that stores can represent."""
        for name in ("before", "after"):
            bound = getattr(self, name)
            if bound is not None and not 0 <= bound <= BALANCE_MAX_MINOR:
                object.__setattr__(self, name, min(max(bound, 0), BALANCE_MAX_MINOR))


@frozen
class Page(Generic[T]):
    """Some items, and whether there are more in the same direction."""

    items: tuple[T, ...]
    has_more: bool


@frozen
class HistoryLine:
    """An entry with the header of its transfer; and what pages show of them, which some backends have at hand."""

    entry: Entry
    transfer: Transfer

    @property
    def sequence(self) -> int:
        """The entry's."""
        return self.entry.sequence

    @property
    def at(self) -> datetime:
        """The entry's."""
        return self.entry.at

    @property
    def amount_minor(self) -> int:
        """The entry's."""
        return self.entry.amount_minor

    @property
    def balance_minor(self) -> int:
        """The entry's."""
        return self.entry.balance_minor

    @property
    def transfer_id(self) -> TransferId:
        """The transfer's."""
        return self.transfer.id

    @property
    def reference(self) -> str:
        """The transfer's."""
        return self.transfer.reference


@frozen
class JournalItem:
    """One transfer as stored on one node: its header, and its entries and pending credit there, which sum to zero."""

    node: str
    transfer: Transfer
    entries: tuple[Entry, ...]
    system_entries: tuple[SystemEntry, ...]
    pending: tuple[PendingCredit, ...] = ()
    """Its credit, if that has no entry yet."""

    @property
    def lines(self) -> tuple[Entry | PendingCredit, ...]:
        """What it did to customers' accounts on this node, with and without an entry."""
        return (*self.entries, *self.pending)

    def check(self) -> None:
        """Raise InvariantViolated unless the header explains every entry and credit of a customer account, once."""
        legs = dict(self.transfer.legs())
        for entry in self.lines:
            if entry.transfer_id != self.transfer.id or legs.pop(entry.account_id, None) != entry.amount_minor:
                raise InvariantViolated(f"transfer {self.transfer.id} does not explain {entry}")

    @property
    def is_copy(self) -> bool:
        """Whether the node is not the leader: it holds only the credit, against a clearing account."""
        debit = self.transfer.debit_account_id
        return not is_system(debit) and all(entry.account_id != debit for entry in self.entries)


ScanItem = Account | JournalItem | Hold | Receipt | Record


@frozen
class ScanPage:
    """Some items of a scan; `after` is the cursor for the next page, None at the end."""

    items: tuple[ScanItem, ...]
    after: str | None


@frozen
class NodeTotal:
    """The sums of one node and currency at one moment: customers' money and system entries sum to zero."""

    node: str
    currency: str
    customer_minor: int
    """Customers' balances, with their pending credits."""
    system_minor: int
    clearing_minor: int
    """The part of `system_minor` on clearing accounts: money in flight between nodes."""


@frozen
class Recovered:
    """What one call of `recover` settled."""

    committed: int = 0
    rolled_back: int = 0
    credited: int = 0


@frozen
class NodeVitals:
    """The state of one node, for operators."""

    node: str
    clock_seconds: float
    """Its clock minus ours."""
    in_doubt: int = 0
    """Commits over several nodes that are prepared here and not settled."""
    intents: int = 0
    """Decided credits to other nodes that these have not confirmed."""
    pending_credits: int = 0
    """Credits that are here and have no entry yet."""
    unsettled_seconds: float = 0.0
    """The age of the oldest of all these."""


@runtime_checkable
class Observed(Protocol):
    """What a store may offer in addition to `Store`: something to tell operators about its nodes."""

    async def vitals(self) -> Sequence[NodeVitals]:
        """The state of every node that answers; the others are left out."""
        ...


@runtime_checkable
class SummedApart(Protocol):
    """What a store of several nodes may offer in addition to `Store`: sums although a node is down."""

    async def totals_apart(self) -> Mapping[str, Sequence[NodeTotal] | WalletError]:
        """`Store.totals` of each node; the error of a node that could not be summed. Raises Unavailable."""
        ...


class Store(Protocol):
    """A ledger's storage. Every implementation keeps these guarantees; the conformance suite tests each one.

    - **G1** All of a command's `Changes` or none, as every later `execute` sees it.
    - **G2** Nothing that overlaps the scope commits between load and apply.
    - **G3** Durable on return; the backend's docstring names its flush setting.
    - **G4** A receipt key is unique: (slot, actor, key).
    - **G5** `decide` is synchronous and pure; it may run several times, on another thread; one result is kept.
    - **G6** What `decide` raises passes through with nothing written; no driver's exception ever leaves.
    - **G7** A `fetch` after the return of `execute` sees the write.
    - **G8** `execute` returns by its deadline, else raises `Contended` (nothing written) or `InDoubt` (unknown: ask
      again with the same key). A cancelled caller never leaves half a commit.

    G1, G2 and G7 cover the home slot. A credit on another node is certain once the leader has committed; it is applied
    before the reply when that node answers, else later: then the result says `credited=False`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    @property
    def name(self) -> str:
        """The backend's name, such as `sqlite`."""
        ...

    async def __aenter__(self) -> Self:
        """Open pools, check the schema's version and the node list. Raises ConfigurationError with the remedy."""
        ...

    async def __aexit__(self, *exc_info: object) -> None:
        """Wait for commits in flight, then close everything in reverse order."""
        ...

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """The only write: isolate the scope, load it, call `decide`, apply all or nothing, durable on return.

        Raises:
            WalletError: whatever `decide` raises, with nothing written.
            Contended, NodeUnavailable: nothing was written; retry with the same key.
            InDoubt: the commit was not confirmed in time; ask again with the same key.
            InvariantViolated: the decision broke a rule of the protocol; nothing was written.
        """
        ...

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """Load records of any slots, without locks. Raises Unavailable."""
        ...

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """A page of an account's entries with their transfers; its cost does not grow with the number of entries."""
        ...

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """An owner's records of a kind, ordered by id: those behind the id `after`; from the start if it is empty."""
        ...

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """Open holds (`kind="hold"`) or records that are due before a time, oldest first, for a sweep."""
        ...

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """All items of a kind, each once, in any order, for audit and export. A journal item comes once per node."""
        ...

    async def totals(self) -> Sequence[NodeTotal]:
        """Sums per node and currency, each node's taken at one moment. May take minutes. Raises Unavailable."""
        ...

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """Import scanned items into a store that nobody else uses. Clearing entries are built again.

        Raises:
            InvariantViolated: an item is there already, or its parts contradict one another.
        """
        ...

    def gate(self) -> AbstractAsyncContextManager[None]:
        """Hold back every commit of every process inside the `with` block, so that an export sees one moment.

        Writers wait, and get `Contended` at their deadline.

        Raises:
            Contended: the gate cannot be closed in time.
            Unavailable: at the end of the block, the gate was lost meanwhile, so others may have written.
        """
        ...

    def watch(self, account_id: AccountId, after_sequence: int) -> AsyncIterator[HistoryLine]:
        """An account's entries above a sequence, then each new one as it commits; ends only when closed."""
        ...

    def on_records(self, hear: Callable[[Sequence[RecordKey]], None]) -> None:
        """Call `hear` with the records of the scope of each command of this store object, as soon as it has ended.

        It may have written them or not. `hear` must not raise.
        """
        ...

    async def recover(self, limit: int) -> Recovered:
        """Settle at most `limit` pieces of in-doubt work. May run at any time, in any process, repeatedly."""
        ...

    async def ping(self) -> Away:
        """Whether the store can write now. Cheap, and changes nothing.

        Returns the parts that cannot, none if all is well. A store of one part has none to name.

        Raises:
            Unavailable: nothing can be written.
        """
        ...


async def check_writable(store: Store) -> None:
    """Raise Unavailable unless every part of the store can write now."""
    for error in (await store.ping()).values():
        raise error
