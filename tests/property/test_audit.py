"""The audit finds each kind of damage and names the record; it finds nothing in sound books, even during writes."""

import asyncio
import copy
import sqlite3
from pathlib import Path

import pytest

from wallet_gql.backends import open_store
from wallet_gql.backends.memory import MemoryStore
from wallet_gql.books import audit as audit_module
from wallet_gql.books.audit import Report, audit
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.identity import Identity
from wallet_gql.storage import Store
from wallet_gql.verbs.ledger import Ledger, To, utc_now


async def _books(store: Store) -> tuple[Ledger, list[tuple[str, str]]]:
    """Two users with history: deposits, transfers, a captured, a voided and an open hold, a reversal."""
    identity, ledger = Identity(store, clock=utc_now), Ledger(store, transfer_fee_basis_points=100)
    people: list[tuple[str, str]] = []
    for name in ("anna", "bert"):
        user = await identity.sign_up(name, f"{name}@example.org", "plain maroon bicycle")
        account = await ledger.open_account(user.id, "EUR")
        await ledger.deposit(OPERATOR, f"d-{name}", account.id, 10_000, "EUR")
        people.append((user.id, account.id))
    identity.passwords.close()
    (anna, a), (bert, b) = people
    for n in range(5):
        await ledger.transfer(anna, f"t{n}", source=a, to=To(username="bert"), amount_minor=500, currency="EUR")  # type: ignore[arg-type]  # ids as text
    moved = await ledger.transfer(anna, "t9", source=a, to=To(b), amount_minor=500, currency="EUR")  # type: ignore[arg-type]  # ids as text
    await ledger.reverse_transfer(bert, "r", moved.result.id, amount_minor=100)
    holds = [
        (await ledger.place_hold(anna, f"h{n}", source=a, to=To(b), amount_minor=10, currency="EUR")).result  # type: ignore[arg-type]  # ids as text
        for n in range(3)
    ]
    await ledger.capture_hold(bert, "c", holds[0].id)
    await ledger.void_hold(bert, "v", holds[1].id)
    return ledger, people


@pytest.mark.parametrize("url", ["memory://", "memory://?nodes=3", "sqlite:///{tmp}/w.db"])
async def test_sound_books_are_clean_while_they_are_written(url: str, tmp_path: Path) -> None:
    """An audit beside writers sees each account at one moment."""
    async with open_store(url.format(tmp=tmp_path)) as store:
        ledger, people = await _books(store)
        (anna, a), (_, b) = people

        async def write() -> None:
            for n in range(200):
                await ledger.transfer(anna, f"w{n}", source=a, to=To(b), amount_minor=1, currency="EUR")  # type: ignore[arg-type]  # ids as text

        writer = asyncio.create_task(write())
        reports: list[Report] = []
        while not writer.done():
            reports.append(await audit(store))
        await writer
        reports.append(await audit(store))

    assert [report.findings for report in reports if not report.clean] == []
    assert (reports[-1].accounts, reports[-1].transfers, reports[-1].holds) == (2, 210, 3)


DAMAGE = {
    "balance": ("UPDATE accounts SET posted_minor = posted_minor + 1 WHERE id = :a", "says posted"),
    "held": ("UPDATE accounts SET held_minor = held_minor - 1 WHERE id = :a", "open holds sum to"),
    "entry amount": ("UPDATE entries SET amount_minor = -499 WHERE account_id = :a AND sequence = 2", "sum to 1"),
    "entry balance": ("UPDATE entries SET balance_minor = 0 WHERE account_id = :a AND sequence = 2", "says balance 0"),
    "entry lost": ("DELETE FROM entries WHERE account_id = :a AND sequence = 3", "entry 4 right after entry 2"),
    "last entries lost": ("DELETE FROM entries WHERE account_id = :a AND sequence > 2", "lacks entries 3 to"),
    "entry time": ("UPDATE entries SET at = 0 WHERE account_id = :a AND sequence = 3", "earlier than the one before"),
    "system entry lost": ("DELETE FROM system_entries WHERE account_id = 'sys:fees:EUR'", "not to zero"),
    "header": ("UPDATE transfers SET amount_minor = 501 WHERE kind = 'transfer'", "does not explain"),
    "fee": ("UPDATE system_entries SET amount_minor = 6 WHERE account_id = 'sys:fees:EUR'", "does not explain 6"),
    "key twice": ("UPDATE transfers SET idempotency_key = 't0' WHERE idempotency_key = 't1'", "the key paid twice"),
    "receipt lost": ("DELETE FROM receipts WHERE key = 't1'", "no receipt names it"),
    "transfer lost": ("DELETE FROM transfers WHERE idempotency_key = 't2'", "names the missing transfer"),
    "account set back": (
        "UPDATE accounts SET sequence = 1, posted_minor = 10000, held_minor = 0 WHERE id = :a",
        "although it counts 1",
    ),
    "header lost": ("DELETE FROM transfers WHERE idempotency_key = 't3'", "right after entry"),
    "reversal unlinked": ("UPDATE transfers SET reverses = NULL WHERE kind = 'reversal'", "reverses None"),
    "reversed too much": ("UPDATE transfers SET amount_minor = 99 WHERE idempotency_key = 't9'", "reversed for more"),
    "currency": ("UPDATE transfers SET currency = 'USD' WHERE idempotency_key = 't3'", "moves USD"),
    "captured amount": ("UPDATE holds SET captured_minor = 9 WHERE state = 'captured'", "says otherwise"),
    "capture undone": (
        "UPDATE holds SET state='open', transfer_id=NULL, captured_minor=0, closed_at=NULL WHERE captured_minor > 0",
        "says otherwise",
    ),
    "unknown state": ("UPDATE holds SET state = 'lost' WHERE state = 'voided'", "lost"),
    "hold state": ("UPDATE holds SET transfer_id = NULL WHERE state = 'captured'", "is captured with transfer None"),
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_each_kind_of_damage_is_found(name: str, tmp_path: Path) -> None:
    """The finding names a record and says what is wrong with it."""
    statement, words = DAMAGE[name]
    url = f"sqlite:///{tmp_path}/w.db"
    async with open_store(url) as store:
        _, people = await _books(store)
    with sqlite3.connect(tmp_path / "w.db") as connection:
        damaged = connection.execute(statement, {"a": people[0][1]} if ":a" in statement else {}).rowcount
    connection.close()
    async with open_store(url) as store:
        report = await audit(store)

    assert damaged >= 1
    assert not report.clean
    assert any(words in f.problem for f in report.findings), report.findings
    assert all(f.record for f in report.findings)


@pytest.mark.parametrize("side", ["lost", "invented"])
async def test_credits_between_nodes_are_matched(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node set back to before a payment is found, on whichever side it is."""
    monkeypatch.setattr(audit_module, "FLIGHT_WAIT_SECONDS", 0.01)
    async with MemoryStore("memory://?nodes=3") as store:
        ledger, people = await _books(store)
        apart = [p for p in people if store._node(p[1]) is not store._node(people[0][1])]
        identity = Identity(store, clock=utc_now)
        while not apart:
            user = await identity.sign_up(
                f"user{len(people)}", f"user{len(people)}@example.org", "plain maroon bicycle"
            )
            account = await ledger.open_account(user.id, "EUR")
            people.append((user.id, account.id))
            apart = [p for p in people if store._node(p[1]) is not store._node(people[0][1])]
        identity.passwords.close()
        (anna, a), (_, b) = people[0], apart[0]
        node = store._node(b if side == "lost" else a)
        before = copy.deepcopy(vars(node))
        await ledger.transfer(anna, "x", source=a, to=To(b), amount_minor=300, currency="EUR")  # type: ignore[arg-type]  # ids as text
        assert (await audit(store)).findings == []
        vars(node).update(before)
        report = await audit(store)

    words = "has not reached" if side == "lost" else "no leader has sent"
    assert any(words in finding.problem for finding in report.findings), report.findings
