"""The audit: entries sum to zero, balances equal folded entries, no gap, no overdraft, no key paid twice.

It can run while the wallet serves: it reads an account first, then its entries up to the sequence it had then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from ..domain.changes import ReadSet
from ..domain.errors import InvariantViolated
from ..domain.ids import TransferId, is_clearing
from ..domain.merchants import Terms, refundable_minor, terms_key
from ..domain.model import Account, Hold, HoldState, Receipt, Transfer, TransferKind
from ..storage import SCAN_MAX, JournalItem, PageRequest, ScanItem, ScanKind, Store

FINDINGS_MAX: Final = 100
FLIGHT_LOOKS: Final = 3
FLIGHT_WAIT_SECONDS: Final = 1.0
"""How often, and with which pause, money between nodes is checked again before it is reported as lost."""
KEYS_MAX: Final = 250
"""For how many transfers one read asks for the receipts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and the record it was found at."""

    record: str
    problem: str


@dataclass(slots=True)
class Report:
    """What an audit read and found. `findings` holds the first `FINDINGS_MAX`; `problems` counts all."""

    accounts: int = 0
    entries: int = 0
    transfers: int = 0
    holds: int = 0
    receipts: int = 0
    findings: list[Finding] = field(default_factory=list)
    problems: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return self.problems == 0

    def add(self, record: str, problem: str) -> None:
        """Add a problem."""
        self.problems += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(record, problem))


Progress = Callable[[str, int], None]
"""Called with the kind that is being read, and how many records of it were read."""


async def audit(store: Store, progress: Progress = lambda _kind, _count: None) -> Report:
    """Check the whole ledger; safe beside writers. Raises Unavailable if the store fails meanwhile."""
    report = Report()
    try:
        await _audit(store, report, progress)
    except (InvariantViolated, ValueError, TypeError, KeyError, OverflowError) as error:
        # No version of the wallet can have written this record. The audit stops here.
        report.add("a record that cannot even be read", str(error))
    return report


async def _audit(store: Store, report: Report, progress: Progress) -> None:
    await _check_totals(store, report)
    owners: set[tuple[str, str]] = set()
    async for item in _scan(store, "account", progress):
        assert isinstance(item, Account)
        report.accounts += 1
        if not item.is_closed and (item.owner, item.currency) in owners:
            report.add(item.id, f"is a second {item.currency} account of {item.owner} that is not closed")
        if not item.is_closed:
            owners.add((item.owner, item.currency))
        await _check_account(store, item, report)
    flight = _Flight()
    async for item in _scan(store, "journal", progress):
        assert isinstance(item, JournalItem)
        await _check_journal(store, item, report)
        flight.add(item)
    await _check_flight(store, flight, report)
    async for item in _scan(store, "hold", progress):
        assert isinstance(item, Hold)
        report.holds += 1
        await _check_hold(store, item, report)
    await _check_receipts(store, report, progress)


async def _scan(store: Store, kind: ScanKind, progress: Progress) -> AsyncIterator[ScanItem]:
    after: str | None = None
    count = 0
    while True:
        page = await store.scan(kind, after, SCAN_MAX)
        for item in page.items:
            yield item
        count += len(page.items)
        progress(kind, count)
        after = page.after
        if after is None:
            return


async def _check_totals(store: Store, report: Report) -> None:
    for total in await store.totals():
        off_minor = total.customer_minor + total.system_minor
        if off_minor:
            report.add(f"node {total.node}", f"its {total.currency} entries sum to {off_minor}, not to zero")


@dataclass(slots=True)
class _Flight:
    """Money between nodes: the sum of each transfer's clearing entries over the nodes that have been read.

    The leader's entry and the payee's cancel out. A transfer whose sum is not zero is in flight, was read between its
    two commits, or is lost; reading it again shows which.
    """

    open_minor: dict[TransferId, int] = field(default_factory=dict)

    def add(self, item: JournalItem) -> None:
        """Add one node's part of a transfer."""
        lines = (line.amount_minor for line in item.system_entries if is_clearing(line.account_id))
        amount_minor = self.open_minor.pop(item.transfer.id, 0) + sum(lines)
        if amount_minor:
            self.open_minor[item.transfer.id] = amount_minor


async def _check_flight(store: Store, flight: _Flight, report: Report) -> None:
    """Run recovery and read the open transfers again, a few times; report those that stay open."""
    for _ in range(FLIGHT_LOOKS):
        if not flight.open_minor:
            return
        await store.recover(SCAN_MAX)
        await asyncio.sleep(FLIGHT_WAIT_SECONDS)
        again = _Flight()
        async for item in _scan(store, "journal", lambda _kind, _count: None):
            assert isinstance(item, JournalItem)
            if item.transfer.id in flight.open_minor:
                again.add(item)
        flight.open_minor = again.open_minor
    for transfer_id, amount_minor in flight.open_minor.items():
        if amount_minor > 0:
            report.add(transfer_id, f"its credit of {amount_minor} has not reached the payee's node: lost, or in doubt")
        else:
            report.add(transfer_id, f"a credit of {-amount_minor} was applied that no leader has sent")


async def _check_account(store: Store, listed: Account, report: Report) -> None:
    snapshot = await store.fetch(ReadSet(accounts=(listed.id,), open_holds=True))
    account = snapshot.received_account(listed.id)
    if account is None:
        report.add(listed.id, "was listed and cannot be found")
        return
    held_minor = sum(hold.amount_minor for hold in snapshot.holds_of(account.id))
    if held_minor != account.held_minor:
        report.add(account.id, f"holds {account.held_minor}, its open holds sum to {held_minor}")
    await _fold(store, account, report)


async def _fold(store: Store, account: Account, report: Report) -> None:
    """Fold an account's entries up to the sequence it had, and compare the balance at every step."""
    sequence = balance_minor = 0
    at = account.created_at
    while sequence < account.sequence:
        request = PageRequest(SCAN_MAX, after=sequence, before=account.sequence + 1, newest_first=False)
        page = await store.list_transfers(account.id, request)
        for line in page.items:
            entry = line.entry
            report.entries += 1
            if line.transfer.currency != account.currency:
                report.add(line.transfer.id, f"moves {line.transfer.currency} on a {account.currency} account")
            balance_minor += entry.amount_minor
            if entry.sequence != sequence + 1:
                report.add(account.id, f"has entry {entry.sequence} right after entry {sequence}")
            if entry.balance_minor != balance_minor:
                problem = f"entry {entry.sequence} says balance {entry.balance_minor}, folded it is {balance_minor}"
                report.add(account.id, problem)
            if balance_minor < 0:
                report.add(account.id, f"is overdrawn by entry {entry.sequence}")
            if entry.at < at:
                report.add(account.id, f"entry {entry.sequence} is earlier than the one before")
            sequence, at = entry.sequence, entry.at
        if not page.items:
            report.add(account.id, f"lacks entries {sequence + 1} to {account.sequence}")
            break
    above = await store.list_transfers(account.id, PageRequest(1, after=account.sequence, newest_first=False))
    if above.items:  # either written since, or the account's row was reset
        now = (await store.fetch(ReadSet(accounts=(account.id,)))).received_account(account.id)
        newest = above.items[0].entry.sequence
        if now is None or now.sequence < newest:
            report.add(account.id, f"has an entry {newest} although it counts {account.sequence}")
    if balance_minor != account.posted_minor:
        report.add(account.id, f"says posted {account.posted_minor}, its entries sum to {balance_minor}")


async def _check_journal(store: Store, item: JournalItem, report: Report) -> None:
    transfer = item.transfer
    if not item.is_copy:
        report.transfers += 1
        await _check_links(store, transfer, report)
    off_minor = sum(line.amount_minor for line in (*item.lines, *item.system_entries))
    if off_minor or not (item.lines or item.system_entries):
        report.add(transfer.id, f"its entries on node {item.node} sum to {off_minor}, or there are none")
    legs = dict(transfer.legs())
    for entry in item.lines:
        if legs.get(entry.account_id) != entry.amount_minor:
            report.add(transfer.id, f"its header does not explain {entry.amount_minor} on {entry.account_id}")
    for line in item.system_entries:
        if not is_clearing(line.account_id) and legs.get(line.account_id) != line.amount_minor:
            report.add(transfer.id, f"its header does not explain {line.amount_minor} on {line.account_id}")


async def _check_hold(store: Store, hold: Hold, report: Report) -> None:
    if (hold.state is HoldState.CAPTURED) != (hold.transfer_id is not None):
        report.add(hold.id, f"is {hold.state} with transfer {hold.transfer_id}")
    elif hold.transfer_id is not None:
        wanted = ReadSet(transfers=(hold.transfer_id,))
        moved = (await store.fetch(wanted)).transfer(hold.transfer_id)
        if moved is None or moved.hold_id != hold.id:
            report.add(hold.id, f"was captured by transfer {hold.transfer_id}, which says otherwise")


async def _check_links(store: Store, transfer: Transfer, report: Report) -> None:
    """Check that reversals add up to at most the original, and that a capture closed its hold."""
    if (transfer.kind is TransferKind.REVERSAL) != (transfer.reverses is not None):
        report.add(transfer.id, f"is a {transfer.kind} that reverses {transfer.reverses}")
    if transfer.reverses is not None:
        snapshot = await store.fetch(ReadSet(transfers=(transfer.reverses,)))
        original = snapshot.transfer(transfer.reverses)
        if original is None or snapshot.reversed_minor(original.id) > await _refundable(store, original):
            report.add(
                transfer.id, f"reverses {transfer.reverses}, which is missing, or reversed for more than it moved"
            )
    if transfer.hold_id is not None:
        hold = (await store.fetch(ReadSet(holds=(transfer.hold_id,)))).hold(transfer.hold_id)
        if hold is None or (hold.transfer_id, hold.captured_minor) != (transfer.id, transfer.amount_minor):
            report.add(transfer.id, f"captures hold {transfer.hold_id}, which says otherwise")


async def _refundable(store: Store, original: Transfer) -> int:
    """How much of a transfer may be reversed: its amount, or the payment's total if it is the first part of one."""
    key = terms_key(original.id)
    return refundable_minor(original, Terms.from_record((await store.fetch(ReadSet(records=(key,)))).record(key)))


async def _check_receipts(store: Store, report: Report, progress: Progress) -> None:
    """Check that each key has one transfer and each transfer one key.

    It is enough to check every receipt's transfer and every transfer's receipt: a transfer stores only one actor and
    key, so two receipts cannot both name it and agree with it.
    """
    batch: list[Receipt] = []
    async for item in _scan(store, "receipt", progress):
        assert isinstance(item, Receipt)
        report.receipts += 1
        if item.transfer_id is not None:
            batch.append(item)
        if len(batch) >= SCAN_MAX:
            await _check_named(store, batch, report)
            batch = []
    await _check_named(store, batch, report)
    pending: list[Transfer] = []
    async for journal in _scan(store, "journal", progress):
        assert isinstance(journal, JournalItem)
        if not journal.is_copy:
            pending.append(journal.transfer)
        if len(pending) >= KEYS_MAX:
            await _check_keys(store, pending, report)
            pending = []
    await _check_keys(store, pending, report)


async def _check_named(store: Store, receipts: list[Receipt], report: Report) -> None:
    wanted = tuple({r.transfer_id for r in receipts if r.transfer_id is not None})
    snapshot = await store.fetch(ReadSet(transfers=wanted))
    for receipt in receipts:
        assert receipt.transfer_id is not None
        transfer = snapshot.transfer(receipt.transfer_id)
        if transfer is None:
            report.add(f"key {receipt.key!r} of {receipt.actor}", f"names the missing transfer {receipt.transfer_id}")
        elif (transfer.actor, transfer.idempotency_key) != (receipt.actor, receipt.key):
            report.add(transfer.id, f"belongs to another key than the one that names it, {receipt.key!r}")


async def _check_keys(store: Store, transfers: list[Transfer], report: Report) -> None:
    names = tuple({(one.slot, one.actor, one.idempotency_key) for one in transfers})
    snapshot = await store.fetch(ReadSet(receipts=names))
    for one in transfers:
        _check_key(one, snapshot.receipt(one.actor, one.idempotency_key, one.slot), report)


def _check_key(transfer: Transfer, receipt: Receipt | None, report: Report) -> None:
    if receipt is not None and receipt.transfer_id == transfer.id:
        return
    key = f"key {transfer.idempotency_key!r} of {transfer.actor}"
    if receipt is None:
        report.add(transfer.id, f"no receipt names it, not even that of its {key}")
    else:
        report.add(transfer.id, f"{key} stands for {receipt.transfer_id}: the key paid twice")
