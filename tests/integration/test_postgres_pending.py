"""Credits between Postgres nodes: a payment in doubt locks only its payer; what has arrived is money at once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import pytest

from tests.integration._clusters import one_each, quieted, sharded, store_of
from tests.integration._evidence import write_evidence
from tests.integration.test_postgres_doubt import coordinator
from tests.property._splits import batch_again, split_payment
from wallet_gql.backends.postgres import reading
from wallet_gql.backends.postgres import two_phase as _two_phase
from wallet_gql.backends.postgres.commit import Branch
from wallet_gql.backends.postgres.node import PgNode
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.backends.postgres.two_phase import Gid
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import digest_of, export_lines
from wallet_gql.domain.changes import ReadSet, State
from wallet_gql.domain.errors import AccountNotEmpty, Contended, InsufficientFunds, NodeUnavailable
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.domain.model import AccountStatus, PendingCredit
from wallet_gql.storage import PageRequest
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

SMALL: Final = 5


@pytest.fixture
async def quiet(world: World) -> World:
    """The world, whose store neither recovers nor receives by itself."""
    return quieted(world)


def leave_in_doubt(patch: pytest.MonkeyPatch) -> None:
    """Coordinators stop after the decision."""

    async def finish(branch: Branch, gid: Gid) -> bool:
        del branch, gid
        return False

    patch.setattr(_two_phase, "_finish", finish)


def home_of(world: World, person: Person) -> str:
    """The name of the person's node."""
    return sharded(world).placement.home(person.slot)


def node_of(world: World, person: Person) -> PgNode:
    """The person's node."""
    return sharded(world).node(home_of(world, person))


async def pending_of(world: World, person: Person) -> int:
    """How many credits of the person's have no entry yet, as stored."""
    count = await node_of(world, person).ask(
        "SELECT count(*) FROM pending_credits WHERE account_id = $1", person.account
    )
    return int(count)


async def entries_of(world: World, person: Person) -> list[int]:
    """The amounts of the person's entries, oldest first."""
    page = await world.store.list_transfers(person.account, PageRequest(100, newest_first=False))
    return [line.entry.amount_minor for line in page.items]


async def test_a_payee_in_doubt_pays_and_is_paid(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the credit is only prepared, every other command of the payee's is answered; then the credit arrives."""
    first, second, third = await one_each(quiet)
    with monkeypatch.context() as patch:
        leave_in_doubt(patch)
        assert not (await quiet.pay(first, third, 30, "doubt")).credited
    hasty = quiet.ledger_on(quiet.store, patience(6))  # who waits for what is in doubt waits for ever: nobody recovers
    for payer, payee in ((third, second), (second, third), (first, third), (first, second)):
        assert (await quiet.pay(payer, payee, 10, ledger=hasty)).credited
    held = await quiet.hold(third, first, 10, ledger=hasty)
    await hasty.void_hold(first.id, quiet.key(), held.id)
    again = await quiet.pay(first, third, 30, "doubt", ledger=hasty)
    assert (again.credited, again.replayed) == (False, True)
    assert (await quiet.store.recover(10)).committed == 1
    again = await quiet.pay(first, third, 30, "doubt", ledger=hasty)
    assert (again.credited, again.replayed) == (True, True)
    assert await quiet.balance(third) == (1_000 - 10 + 10 + 10 + 30, 0)


async def test_replays_say_the_truth(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated command says `credited` only when all its payees have their money, also if its look-ups now fail."""
    payer, shop, other = await one_each(quiet)
    with monkeypatch.context() as patch:
        leave_in_doubt(patch)
        again = await split_payment(quiet, payer, shop, other)
    store = store_of(quiet, PostgresStore)
    for name, arrived in (("n2", False), ("n3", True)):
        assert not (await again()).credited
        assert await store._recovery._node(store._nodes[name], 10, at_once=True) == (1, 0, False)
        assert (await again()).credited == arrived


@pytest.mark.parametrize("beside", ["second", "third"])
async def test_a_batch_partly_replayed_says_the_truth(
    quiet: World, monkeypatch: pytest.MonkeyPatch, beside: str
) -> None:
    """It says `credited` only when the replayed part has arrived, too: also beside a payment to the same node."""
    first, second, third = await one_each(quiet)
    with monkeypatch.context() as patch:
        leave_in_doubt(patch)
        assert await batch_again(quiet, first, {"old": third}) == [(False, False)]
    payees = {"old": third, "new": {"second": second, "third": third}[beside]}
    assert await batch_again(quiet, first, payees) == [(True, False), (False, False)]
    await quiet.store.recover(10)
    assert await batch_again(quiet, first, payees) == [(True, True)] * 2


async def test_a_replay_that_cannot_ask_harms_no_neighbour(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that fails after the commit makes its answers wrong: a neighbour in the batch pays once, and knows it."""
    first, _, third = await one_each(quiet)
    await quiet.pay(first, third, 30, "again")
    store = store_of(quiet, PostgresStore)
    rows = PgNode.rows

    async def fail(node: PgNode, statement: str, *values: object, **more: Any) -> list[Any]:
        if statement == store.statements.known_transfers:
            raise NodeUnavailable(node.name)
        return await rows(node, statement, *values, **more)

    with monkeypatch.context() as patch:
        patch.setattr(PgNode, "rows", fail)
        calls = [quiet.pay(first, third, 30, "again"), quiet.pay(first, third, 1)]
        again, fresh = await asyncio.gather(*calls)
    assert (again.replayed, again.credited) == (True, False)
    assert (fresh.replayed, fresh.credited) == (False, True)
    assert await quiet.balance(third) == (1_031, 0)


async def test_no_account_closes_under_a_credit(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while the credit is prepared, and not when it has arrived."""
    first, _, third = await one_each(quiet)
    await quiet.pay(third, first, 1_000)
    with monkeypatch.context() as patch:
        leave_in_doubt(patch)
        assert not (await quiet.pay(first, third, 30)).credited
    hasty = quiet.ledger_on(quiet.store, patience(1.5))
    with pytest.raises(Contended):
        await hasty.set_account_status(OPERATOR, third.account, AccountStatus.CLOSED)
    await quiet.store.recover(10)
    with pytest.raises(AccountNotEmpty):
        await hasty.set_account_status(OPERATOR, third.account, AccountStatus.CLOSED)


async def test_what_is_pending_is_money(quiet: World) -> None:
    """Reads, totals and the audit count it and receive nothing; history has it, in order, after the next command."""
    first, _, third = await one_each(quiet)
    for amount_minor in (1, 2, 3):
        assert (await quiet.pay(first, third, amount_minor)).credited
    snapshot = await quiet.store.fetch(ReadSet(accounts=(third.account,)))
    account = snapshot.account(third.account)
    assert account is not None
    assert (account.posted_minor, account.sequence) == (1_006, 1)
    assert all(total.customer_minor + total.system_minor == 0 for total in await quiet.store.totals())
    report = await audit(quiet.store)
    assert report.clean, report.findings
    assert await pending_of(quiet, third) == 3
    await quiet.pay(third, first, 1_006)
    assert await entries_of(quiet, third) == [1_000, 1, 2, 3, -1_006]
    assert await pending_of(quiet, third) == 0


async def test_an_export_receives_first(quiet: World) -> None:
    """Inside the gate nothing is pending, so that a ledger has one digest whenever it is taken."""
    first, _, third = await one_each(quiet)
    await quiet.pay(first, third, 30)
    lines = [line async for line in export_lines(quiet.store)]
    assert await pending_of(quiet, third) == 0
    assert not any('"pending"' in line for line in lines)
    assert (await digest_of(quiet.store)).text in lines[-1]
    await quiet.pay(first, third, 1)


def count_received(patch: pytest.MonkeyPatch) -> list[int]:
    """How many credits each commit receives, from now on."""
    counts: list[int] = []
    receive = State.receive_pending

    def counted(state: State, pending: Iterable[PendingCredit], backlog: Iterable[AccountId]) -> None:
        receive(state, pending, backlog)
        counts.append(len(state.writes.received))

    patch.setattr(State, "receive_pending", counted)
    return counts


async def test_a_backlog_is_received_in_parts(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded commits, all of it before the next command is decided."""
    monkeypatch.setattr(reading, "RECEIVE_MAX", SMALL)
    first, _, third = await one_each(quiet)
    await quiet.together(quiet.pay(first, third, 1) for _ in range(4 * SMALL))
    assert await pending_of(quiet, third) == 4 * SMALL
    counts = count_received(monkeypatch)
    with pytest.raises(InsufficientFunds):
        await quiet.pay(third, first, 1_000 + 4 * SMALL + 1)
    await quiet.pay(third, first, 1_000 + 4 * SMALL - 1)
    assert await entries_of(quiet, third) == [1_000, *[1] * 4 * SMALL, 1 - 1_000 - 4 * SMALL]
    assert counts == [SMALL] * 4
    assert await quiet.balance(third) == (1, 0)


async def test_a_backlog_leaves_others_their_share(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit receives something for each of its accounts, however much is pending for the others."""
    monkeypatch.setattr(reading, "RECEIVE_MAX", SMALL)
    first, second, third = await one_each(quiet)
    beside = next(p for p in await quiet.people(40) if home_of(quiet, p) == home_of(quiet, third))
    early, late = sorted((third, beside), key=lambda person: person.account)
    await quiet.together(quiet.pay(first, early, 1) for _ in range(3 * SMALL))
    await quiet.pay(second, late, 7)
    await quiet.pay(late, early, 7)
    assert (await entries_of(quiet, late))[-2:] == [7, -7]


async def test_the_receiver_gives_credits_their_entries(world: World) -> None:
    """Of every process, in the background: history follows without anybody who locks the account."""
    first, _, third = await one_each(world)
    await world.pay(first, third, 30)
    lines = world.store.watch(third.account, 1)
    async with asyncio.timeout(patience(10)):
        line = await anext(lines)
    await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert line.entry.amount_minor == 30


KILLED: Final = {
    "postgres-3": ("postgres.prepared", "postgres.committed"),
    "redis-3": ("redis.decided", "redis.committed"),
}
"""Where coordinators are killed, by backend."""


async def killed(world: World, payer: Person, payee: Person, times: int) -> Counter[str]:
    """Coordinators of other processes are killed, before and after the decision in turn. How many at each."""
    counts: Counter[str] = Counter()
    points = KILLED[world.harness.name]
    for number in range(times):
        point = points[number % 2]
        command = coordinator(world, point, "kill", payer, payee)
        victim = await asyncio.create_subprocess_exec(*command)
        assert await victim.wait() == -signal.SIGKILL
        counts[f"coordinators killed at {point}"] += 1
    return counts


async def spent_at_once(world: World, rounds: int, kills: int) -> Counter[str]:
    """An answer that says `credited` lets any other process spend the money, while coordinators are killed.

    Nobody but the first has enough of his own, so that a payment that arrives late is refused. Returns counts.
    """
    first, second, third = await one_each(world, 1)
    await world.fund(first, 1_000_000)
    ledgers = [world.ledger_on(store, patience(10)) for store in await world.stores(3)]
    counts: Counter[str] = Counter()

    async def chain(number: int) -> None:
        here, there, elsewhere = (ledgers[(number + place) % 3] for place in range(3))
        for ledger, payer, payee in ((here, first, second), (there, second, third), (elsewhere, third, first)):
            posted = await world.pay(payer, payee, 2 + number % 7, ledger=ledger)
            assert posted.credited
            counts["answered with `credited: true`"] += 1
            counts["of these, spent at once through another store"] += payee is not first

    async def chains() -> None:
        for _ in range(rounds):
            await asyncio.gather(*map(chain, range(30)))

    _, deaths = await asyncio.gather(chains(), killed(world, first, second, kills))
    return counts + deaths


@pytest.mark.trial
async def test_credited_money_is_spent_at_once_elsewhere(world: World) -> None:
    """See `spent_at_once`."""
    assert (await spent_at_once(world, 8, 4)).total() == 8 * 30 * 5 + 4


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_credited_money_is_spent_at_once_for_long(world: World) -> None:
    """10,020 chains of three payments each, and 60 coordinators killed meanwhile."""
    counts = await spent_at_once(world, 334, 60)
    rows = [f"| {what} | {count:,} |" for what, count in counts.items()]
    table = "\n".join(["| what | count |", "|---|---:|", *rows, "| refused, or answered otherwise | 0 |"])
    said = "What it shows: money acknowledged as `credited: true` can be spent at once through any other process."
    name = world.harness.name.partition("-")[0]
    title = f"{name.title()}: credited money is spent at once elsewhere"
    write_evidence(f"{name}-credited", title, "make soak ARGS='-k spent_at_once_for_long'", f"{said}\n\n{table}")
