"""The one place that posts money: what it computes, and what it refuses even if a rule asks for it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.property._world import START, World, new_user
from wallet_gql.domain import ids
from wallet_gql.domain.changes import (
    Changes,
    Credit,
    Decision,
    Done,
    Failed,
    ReadSet,
    Scope,
    Snapshot,
    State,
    Trial,
    decide_all,
)
from wallet_gql.domain.errors import InsufficientFunds, InvariantViolated
from wallet_gql.domain.model import (
    Account,
    AccountFacts,
    AccountStatus,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    Transfer,
    TransferKind,
)


@pytest.fixture
def world() -> World:
    """An empty ledger."""
    return World()


def _transfer(source: Account, target: ids.AccountId, amount_minor: int = 5, **values: object) -> Transfer:
    transfer_id = ids.make_transfer_id(source.slot, 1, 77)
    made = Transfer(
        transfer_id, TransferKind.TRANSFER, source.id, target, amount_minor, "EUR", START, source.owner, "key"
    )
    return replace(made, **values)  # type: ignore[arg-type]  # fields of the test's choosing


def _refused(world: World, scope: Scope, changes: Changes, match: str) -> None:
    before = dict(world.state.accounts)
    with pytest.raises(InvariantViolated, match=match):
        world.run(lambda *_: changes, None, scope)
    assert before == world.state.accounts
    assert not world.state.writes


class TestAcrossNodes:
    """A transfer across nodes passes through clearing entries, so that each node sums to zero."""

    def _remote(self, world: World) -> tuple[Account, Account]:
        anna, bert = world.account(100), world.account()
        world.state.accounts.pop(bert.id)
        world.state.peer_of = lambda slot: "n2" if slot == bert.slot else None
        return anna, bert

    def test_the_leader_books_against_clearing_and_sends_a_credit(self, world: World) -> None:
        """The remote account is known by its facts alone."""
        anna, bert = self._remote(world)
        world.state.facts[bert.id] = AccountFacts(bert.id, bert.owner, "EUR", AccountStatus.OPEN)

        world.transfer(anna, bert, 60, fee_minor=2)

        writes = world.state.writes
        assert [(e.account_id, e.amount_minor) for e in writes.system_entries] == [
            ("sys:clearing/n2:EUR", 58),
            ("sys:fees:EUR", 2),
        ]
        assert [(bert.id, 58, "n1")] == [(c.account_id, c.amount_minor, c.leader) for c in writes.credits]
        assert sum(e.amount_minor for e in (*writes.entries, *writes.system_entries)) == 0  # type: ignore[attr-defined]

    def test_the_payees_node_applies_it_against_clearing(self, world: World) -> None:
        """Sequence and balance are assigned there; time never goes back."""
        anna, bert = world.account(100), world.account(7)
        late = replace(bert, changed_at=START + timedelta(hours=1))
        state = State("n2", lambda _: None)
        state.load_account(late)

        state.receive(Credit(bert.id, 58, _transfer(anna, bert.id), "n1"))

        (entry,), (line,) = state.writes.entries, state.writes.system_entries
        assert (1, 58, 65, late.changed_at) == (entry.sequence, entry.amount_minor, entry.balance_minor, entry.at)
        assert (line.account_id, line.amount_minor) == ("sys:clearing/n1:EUR", -58)

    def test_a_credit_never_opens_an_account(self, world: World) -> None:
        """An unknown account is our bug."""
        anna = world.account(100)
        with pytest.raises(InvariantViolated, match="no account"):
            world.state.receive(Credit(ids.make_account_id(1, 1, 1), 5, _transfer(anna, anna.id[:-1]), "n2"))  # type: ignore[arg-type]  # any other id

    def test_an_unseen_remote_account_is_not_credited(self, world: World) -> None:
        """The decision must have known its currency."""
        anna, bert = self._remote(world)
        scope = Scope(anna.slot, accounts=(anna.id,), credits=(bert.id,))

        _refused(world, scope, Changes(transfers=(_transfer(anna, bert.id),)), "unseen")


class TestRefusals:
    """Whatever a rule asks for, these are never posted."""

    def test_money(self, world: World) -> None:
        """Foreign slots, unscoped accounts, overdrafts, repeated ids, unseen originals, other currencies."""
        anna, bert = world.account(100), world.account()
        scope = Scope(anna.slot, accounts=(anna.id,), credits=(bert.id,))
        fine = _transfer(anna, bert.id)

        _refused(world, replace(scope, home=bert.slot), Changes(transfers=(fine,)), "another slot")
        _refused(world, replace(scope, accounts=()), Changes(transfers=(fine,)), "outside its scope")
        _refused(world, replace(scope, credits=()), Changes(transfers=(fine,)), "outside its scope")
        _refused(world, scope, Changes(transfers=(replace(fine, amount_minor=101),)), "overdrawn")
        _refused(world, scope, Changes(transfers=(replace(fine, currency="USD"),)), "USD")
        _refused(world, scope, Changes(transfers=(replace(fine, reverses=ids.TransferId("x")),)), "unseen")
        absent = ids.make_account_id(bert.slot, 9, 9)
        wider = replace(scope, credits=(bert.id, absent))
        _refused(world, wider, Changes(transfers=(_transfer(anna, absent),)), "absent")
        world.state.load_transfer(fine, 0)
        _refused(world, scope, Changes(transfers=(fine,)), "repeats")

    def test_accounts(self, world: World) -> None:
        """A second one in a currency, one not at zero, one abroad, one of an unseen owner."""
        owner = new_user()
        slot = ids.slot_of(owner)
        first = Account(ids.make_account_id(slot, 1, 1), owner, "EUR", START, START)
        second = replace(first, id=ids.make_account_id(slot, 1, 2))
        scope = Scope(slot, wallets=(owner,))

        _refused(world, scope, Changes(opened=(first,)), "unseen")
        world.state.load_wallet(owner, [])
        _refused(world, scope, Changes(opened=(first, second)), "second EUR")
        _refused(world, scope, Changes(opened=(replace(first, posted_minor=1),)), "not at zero")
        abroad = replace(first, id=ids.make_account_id(slot ^ 1, 1, 1))
        _refused(world, scope, Changes(opened=(abroad,)), "abroad")

    def test_holds(self, world: World) -> None:
        """Placed twice, closed when not open, in another currency, above what is there."""
        anna, bert = world.account(100), world.account()
        scope = Scope(anna.slot, accounts=(anna.id,))
        hold_id = ids.make_hold_id(anna.slot, 1, 1)
        hold = Hold(hold_id, anna.id, bert.id, bert.owner, 60, "EUR", START, None)
        closed = replace(hold, state=HoldState.VOIDED, closed_at=START)

        _refused(world, scope, Changes(closed=(closed,)), "not open")
        _refused(world, scope, Changes(placed=(replace(hold, currency="USD"),)), "USD")
        _refused(world, scope, Changes(placed=(hold, replace(hold, id=ids.make_hold_id(anna.slot, 1, 2)))), "overdrawn")
        world.state.load_hold(hold)
        _refused(world, scope, Changes(placed=(hold,)), "twice")
        _refused(world, scope, Changes(closed=(hold,)), "not open")

    def test_receipts_and_records(self, world: World) -> None:
        """Outside the scope, twice, over a newer version, a claim away from home, removing what was not seen."""
        user = new_user()
        slot = ids.slot_of(user)
        receipt = Receipt(slot, user, "key", "op", "f", START)
        scope = Scope(slot, receipts=((user, "key"),))

        _refused(world, Scope(slot), Changes(receipts=(receipt,)), "outside")
        away = replace(receipt, actor="op:operator", leader=3)
        _refused(world, Scope(slot, receipts=(("op:operator", "key"),)), Changes(receipts=(away,)), "away")
        world.state.load_receipt(receipt)
        _refused(world, scope, Changes(receipts=(receipt,)), "twice")

        record = Record("user", user, slot, user, 2)
        scope = Scope(slot, records=(record.key,))
        _refused(world, scope, Changes(records=(record,)), "newer version")
        _refused(world, Scope(slot), Changes(records=(replace(record, version=1),)), "outside")
        _refused(world, scope, Changes(removed=(record.key,)), "did not see")

    def test_receipts_of_other_slots_answer_or_raise(self, world: World) -> None:
        """None is: looked for, and not there. What was not looked for is an error, never None."""
        user = new_user()
        slot = ids.slot_of(user)
        receipt = Receipt(slot ^ 1, user, "key", "op", "f", START)
        world.state.load_receipt(receipt)

        at_home = Snapshot(world.state, Scope(slot, receipts=((user, "key"),)))
        assert at_home.receipt(user, "key") is None
        assert at_home.receipt(user, "key", slot) is None
        with pytest.raises(InvariantViolated, match="does not name"):
            at_home.receipt(user, "key", slot ^ 1)
        read = Snapshot(world.state, ReadSet(receipts=((slot, user, "key"), (slot ^ 1, user, "key"))))
        assert read.receipt(user, "key", slot ^ 1) == receipt
        assert read.receipt(user, "key", slot) is None
        for away in (None, slot ^ 2):
            with pytest.raises(InvariantViolated, match="does not name"):
                read.receipt(user, "key", away)

    def test_nothing_is_tried_on_what_a_read_has_loaded(self, world: World) -> None:
        """It was loaded without locks, and names no home."""
        with pytest.raises(InvariantViolated, match="a read"):
            Trial(Snapshot(world.state, ReadSet()))

    def test_scopes_name_only_their_home(self) -> None:
        """What is locked lives in one slot."""
        owner = new_user()
        elsewhere = ids.slot_of(owner) ^ 1
        key = RecordKey("user", owner, ids.slot_of(owner))
        Scope(ids.slot_of(owner), wallets=(owner,), records=(key,)).check_home()

        with pytest.raises(InvariantViolated, match="other slots"):
            Scope(elsewhere, wallets=(owner,)).check_home()
        with pytest.raises(InvariantViolated, match="other slots"):
            Scope(elsewhere, records=(key,)).check_home()


class TestBatch:
    """Decisions in order over one growing state."""

    def test_each_sees_what_those_before_it_wrote_and_no_refusal_sinks_a_neighbour(self, world: World) -> None:
        """The second fails, the third spends what the first brought."""
        anna, bert, carl = world.account(100), world.account(), world.account()

        def pay(source: Account, target: Account, amount_minor: int) -> tuple[Scope, object]:
            scope = Scope(source.slot, accounts=(source.id,), credits=(target.id,))

            def decide(snapshot: Snapshot) -> Decision[None]:
                found = snapshot.account(source.id)
                assert found is not None
                if found.available_minor < amount_minor:
                    raise InsufficientFunds(source.id, found.available_minor, amount_minor, "EUR")
                moved = _transfer(
                    source, target.id, amount_minor, id=ids.make_transfer_id(source.slot, 1, amount_minor)
                )
                return Decision(Changes(transfers=(moved,)), None)

            return scope, decide

        batch = [pay(anna, bert, 80), pay(anna, bert, 30), pay(bert, carl, 70)]
        outcomes = decide_all(world.state, batch)  # type: ignore[arg-type]  # a list of pairs

        assert [Done, Failed, Done] == [type(outcome) for outcome in outcomes]
        assert [world.current(a).posted_minor for a in (anna, bert, carl)] == [20, 10, 70]
        assert {anna.id: 100, bert.id: 0, carl.id: 0} == {
            account_id: before.posted_minor for account_id, (before, _) in world.state.writes.accounts.items()
        }

    def test_a_bug_in_one_decision_is_its_own_outcome(self, world: World) -> None:
        """A plain exception passes through and takes nobody with it."""

        def broken(_: Snapshot) -> Decision[None]:
            raise ZeroDivisionError

        (failed,) = decide_all(world.state, [(Scope(0), broken)])

        assert isinstance(failed, Failed)
        assert isinstance(failed.error, ZeroDivisionError)

    def test_a_record_removed_and_made_again_in_one_batch(self, world: World) -> None:
        """The write names what was loaded and what shall be there in the end."""
        user = new_user()
        slot = ids.slot_of(user)
        old = Record("claim", "x", slot, user, 5)
        again, gone = Record("claim", "x", slot, user, 1), Record("claim", "y", slot, user, 1)
        world.state.records[old.key] = old
        scope = Scope(slot, records=(old.key, gone.key))

        for changes in (
            Changes(removed=(old.key,), records=(gone,)),
            Changes(records=(again,), removed=(gone.key,)),
        ):
            world.run(lambda *_, changes=changes: changes, None, scope)

        assert {old.key: (old, again), gone.key: (None, None)} == world.state.writes.records

    def test_an_account_opened_and_credited_at_once(self, world: World) -> None:
        """It is written once, as it is after both."""
        owner = new_user()
        slot = ids.slot_of(owner)
        account = Account(ids.make_account_id(slot, 1, 1), owner, "EUR", START, START)
        world.state.load_wallet(owner, [])
        cash = ids.system_account("cash", "EUR")
        moved = Transfer(
            ids.make_transfer_id(slot, 1, 1),
            TransferKind.DEPOSIT,
            cash,
            account.id,
            9,
            "EUR",
            START,
            "op:operator",
            "k",
        )
        scope = Scope(slot, wallets=(owner,), credits=(account.id,))

        both = Changes(opened=(account,)) + Changes(transfers=(moved,))
        world.run(lambda *_: both, None, scope)

        (opened,) = world.state.writes.opened
        assert (opened.id, opened.posted_minor, opened.sequence) == (account.id, 9, 1)
        assert account.id not in world.state.writes.accounts


class TestSnapshot:
    """A decision sees exactly what its scope names."""

    def test_looking_elsewhere_is_our_bug(self, world: World) -> None:
        """Not even what the batch happens to have loaded."""
        anna = world.account(100)
        snapshot = Snapshot(world.state, Scope(anna.slot))
        looks: list[Callable[[], object]] = [
            lambda: snapshot.account(anna.id),
            lambda: snapshot.facts(anna.id),
            lambda: snapshot.wallet(anna.owner),
            lambda: snapshot.hold(ids.HoldId("h")),
            lambda: snapshot.transfer(ids.TransferId("t")),
            lambda: snapshot.reversed_minor(ids.TransferId("t")),
            lambda: snapshot.receipt("a", "k"),
            lambda: snapshot.record(RecordKey("user", "u", 0)),
        ]
        for look in looks:
            with pytest.raises(InvariantViolated, match="does not name"):
                look()

    def test_open_holds_on_request(self, world: World) -> None:
        """`open_holds` shows all of them, `due_at` only those whose time is over, neither shows none."""
        anna, bert = world.account(100), world.account()
        first, second = world.hold(anna, bert, 1, seconds=1), world.hold(anna, bert, 1, seconds=None)
        plain = Scope(anna.slot, accounts=(anna.id,))

        def seen(scope: Scope) -> set[ids.HoldId]:
            return {hold.id for hold in Snapshot(world.state, scope).holds_of(anna.id)}

        assert seen(plain) == set()
        assert {first.id} == seen(replace(plain, due_at=START + timedelta(seconds=1)))
        assert {first.id, second.id} == seen(replace(plain, open_holds=True))


class TestRecordsCheckThemselves:
    """No malformed record can be made."""

    @pytest.mark.parametrize(
        "values", [{"held_minor": 1}, {"posted_minor": -1, "held_minor": -1}, {"posted_minor": 2**63}]
    )
    def test_accounts(self, values: dict[str, int]) -> None:
        """Floor zero, held below posted, 64 bits."""
        with pytest.raises(InvariantViolated):
            Account(ids.make_account_id(1, 1, 1), new_user(), "EUR", START, START, **values)  # type: ignore[arg-type]  # amounts

    def test_entries_and_transfers(self) -> None:
        """Sequences count from 1, balances stay above zero, money goes somewhere, fees stay below the amount."""
        account_id = ids.make_account_id(1, 1, 1)
        with pytest.raises(InvariantViolated):
            Entry(account_id, 0, ids.TransferId("t"), 1, 1, START)
        with pytest.raises(InvariantViolated):
            Entry(account_id, 1, ids.TransferId("t"), -1, -1, START)
        for credit, fee in ((account_id, 0), (ids.AccountId("x"), 5)):
            with pytest.raises(InvariantViolated):
                Transfer(ids.TransferId("t"), TransferKind.TRANSFER, account_id, credit, 5, "EUR", START, "a", "k", fee)
