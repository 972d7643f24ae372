"""Commands below the ledger's verbs.

Those that count have no key: each adds one to a record, which tells how often they ran.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..domain.changes import Changes, Decide, Decision, Scope, Snapshot
from ..domain.ids import OPERATOR, make_transfer_id, system_account
from ..domain.model import CASH, Receipt, Record, RecordKey, Transfer, TransferKind
from ..domain.payments import RECEIVABLE
from ..idempotency import fingerprint
from .flushes import Flushes
from .patience import insist
from .world import CURRENCY, Person, World


def counter_key(person: Person, name: str = "counter") -> RecordKey:
    """The key of a record in a person's slot."""
    return RecordKey("test", f"{name}:{person.id}", person.slot)


def written(key: RecordKey, version: int, **body: object) -> Record:
    """A record as a decision writes it."""
    return Record(key.kind, key.id, key.slot, "tests", version, body)


def number(record: Record | None, name: str = "n") -> int:
    """A whole number in a record's body; 0 if there is no record."""
    return 0 if record is None else int(str(record.body[name]))


def increment(key: RecordKey) -> Decide[int]:
    """Increment a record's number and return it. A commit of another command between load and apply shows as a loss."""

    def decide(snapshot: Snapshot) -> Decision[int]:
        before = snapshot.record(key)
        after = number(before) + 1
        return Decision(Changes(records=(written(key, (before.version if before else 0) + 1, n=after),)), after)

    return decide


def movement(world: World, payer: Person, payee: Person, amount_minor: int, key: str) -> Transfer:
    """The header of a transfer, for raw commands; a transfer to the payer is a withdrawal to cash."""
    target = payee.account if payee is not payer else system_account(CASH, CURRENCY)
    return Transfer(
        id=make_transfer_id(payer.slot, 1_767_225_600_000, world.entropy()),
        kind=TransferKind.TRANSFER,
        debit_account_id=payer.account,
        credit_account_id=target,
        amount_minor=amount_minor,
        currency=CURRENCY,
        at=world.clock(),
        actor=payer.id,
        idempotency_key=key,
    )


def receipt_of(world: World, person: Person, key: str, transfer: Transfer | None = None) -> Receipt:
    """A receipt of a person's key in their own slot."""
    moved = transfer.id if transfer else None
    return Receipt(person.slot, person.id, key, "test", fingerprint("test", {}), world.clock(), moved, '{"ok":{}}')


def paying(world: World, payer: Person, payee: Person, amount_minor: int) -> tuple[Scope, Changes]:
    """A valid raw transfer with its receipt; tests break one part of it."""
    key = world.key()
    moved = movement(world, payer, payee, amount_minor, key)
    scope = Scope(payer.slot, accounts=(payer.account,), credits=(payee.account,), receipts=((payer.id, key),))
    return scope, Changes(transfers=(moved,), receipts=(receipt_of(world, payer, key, moved),))


async def endow(world: World, person: Person, amount_minor: int) -> None:
    """A deposit of any amount up to 2^63 - 1, beyond what the ledger takes."""
    key = world.key()
    moved = replace(
        movement(world, person, person, amount_minor, key),
        kind=TransferKind.DEPOSIT,
        actor=OPERATOR,
        debit_account_id=system_account(CASH, CURRENCY),
        credit_account_id=person.account,
    )
    receipt = replace(receipt_of(world, person, key, moved), actor=OPERATOR)
    scope = Scope(person.slot, accounts=(person.account,), credits=(person.account,), receipts=((OPERATOR, key),))
    await world.execute(scope, Changes(transfers=(moved,), receipts=(receipt,)))


async def between_systems(world: World, person: Person, amount_minor: int) -> None:
    """A transfer in a person's slot that has no entry of theirs, such as what a dispute takes that is spent already."""
    key = world.key()
    moved = replace(
        movement(world, person, person, amount_minor, key), debit_account_id=system_account(RECEIVABLE, CURRENCY)
    )
    scope = Scope(person.slot, receipts=((person.id, key),))
    await world.execute(scope, Changes(transfers=(moved,), receipts=(receipt_of(world, person, key, moved),)))


async def flushed(world: World, commands: int) -> Flushes:
    """How many flushes so many commands took, one after another. Opens the world's store again.

    The count is None, with the reason, if they cannot be counted or the store is not durable. A store whose server has
    just come back may refuse a command at first, which is then given again.
    """
    if not world.store.capabilities.durable:
        return Flushes(why="it is not durable")
    person = await insist(world.person)
    key = counter_key(person, "flushed")
    count = partial(world.store.execute, Scope(person.slot, records=(key,)), increment(key))
    async with world.harness.flushes(commands) as counted:
        for _ in range(commands):
            await insist(count)
        await world.reopen()  # some servers count a connection's flushes only at its end
    return counted
