"""The rules, verb by verb."""

import pytest

from tests.property._world import World, new_user
from wallet_gql.domain import commands, errors, ids, rules
from wallet_gql.domain.changes import Scope
from wallet_gql.domain.model import AccountStatus, HoldState, TransferKind


@pytest.fixture
def world() -> World:
    """An empty ledger."""
    return World()


class TestOpenAccount:
    """One account per user and currency."""

    def _open(self, world: World, owner: ids.UserId, currency: str) -> None:
        slot = ids.slot_of(owner)
        world.state.wallets.setdefault(owner, [])
        account_id = ids.make_account_id(slot, 1, len(world.state.accounts))
        command = commands.OpenAccount(account_id, owner, currency)
        world.run(rules.open_account, command, Scope(slot, wallets=(owner,)))

    def test_opens_at_zero(self, world: World) -> None:
        """A new account holds nothing and is open."""
        owner = new_user()
        self._open(world, owner, "EUR")
        self._open(world, owner, "USD")

        first, second = (world.state.accounts[i] for i in world.state.wallets[owner])
        assert (
            first.posted_minor,
            first.held_minor,
            first.sequence,
            first.currency,
            first.status,
        ) == (0, 0, 0, "EUR", AccountStatus.OPEN)
        assert second.currency == "USD"

    def test_a_second_one_in_the_currency_is_refused_with_the_id_of_the_first(self, world: World) -> None:
        """The refusal names the account to use."""
        owner = new_user()
        self._open(world, owner, "EUR")

        with pytest.raises(errors.AccountExists) as caught:
            self._open(world, owner, "EUR")

        assert caught.value.fields["account_id"] == world.state.wallets[owner][0]


class TestTransfer:
    """Paying somebody."""

    def test_moves_the_amount_and_numbers_the_entries(self, world: World) -> None:
        """Payer loses, payee gains, each entry has the next sequence and the balance after."""
        anna, bert = world.account(1_000), world.account()

        world.transfer(anna, bert, 300)
        world.transfer(anna, bert, 200)

        assert (world.current(anna).posted_minor, world.current(bert).posted_minor) == (500, 500)
        assert [(e.sequence, e.amount_minor, e.balance_minor) for e in world.state.writes.entries] == [
            (1, -300, 700),
            (1, 300, 300),
            (2, -200, 500),
            (2, 200, 500),
        ]

    def test_fee_goes_to_the_fees_account_of_the_leader(self, world: World) -> None:
        """The payee gets the amount less the fee; everything still sums to zero."""
        anna, bert = world.account(1_000), world.account()

        world.transfer(anna, bert, 1_000, fee_minor=25)

        assert world.current(bert).posted_minor == 975
        assert [(e.account_id, e.amount_minor) for e in world.state.writes.system_entries] == [("sys:fees:EUR", 25)]

    @pytest.mark.parametrize(
        ("amount", "points", "fee"), [(1, 5_000, 0), (3, 5_000, 1), (10_000, 250, 250), (99, 0, 0)]
    )
    def test_fee_is_rounded_down(self, amount: int, points: int, fee: int) -> None:
        """The payee never loses a rounding."""
        assert fee == rules.fee_minor(amount, points)

    def test_more_than_available_is_refused_with_both_figures(self, world: World) -> None:
        """Held money cannot be spent."""
        anna, bert = world.account(1_000), world.account()
        world.hold(anna, bert, 400)

        with pytest.raises(errors.InsufficientFunds) as caught:
            world.transfer(anna, bert, 601)

        assert (caught.value.fields["available_minor"], caught.value.fields["required_minor"]) == (600, 601)
        world.transfer(anna, bert, 600)

    def test_expired_holds_are_closed_by_the_command_that_needs_their_money(self, world: World) -> None:
        """Nobody waits for the sweep."""
        anna, bert = world.account(1_000), world.account()
        hold = world.hold(anna, bert, 1_000, seconds=10)
        world.later(10)

        changes = world.transfer(anna, bert, 1_000)

        assert [(hold.id, HoldState.EXPIRED)] == [(h.id, h.state) for h in changes.closed]
        assert (world.current(anna).posted_minor, world.current(anna).held_minor) == (0, 0)

    def test_other_peoples_accounts_look_absent(self, world: World) -> None:
        """The owner is checked in the decision; foreign, absent and other slots' accounts answer alike."""
        anna, bert = world.account(1_000), world.account(1_000)
        absent = ids.make_account_id(anna.slot, 5, 5)
        neighbour = world.account(owner=anna.owner, currency="USD")

        with pytest.raises(errors.AccountNotFound):
            world.transfer(bert, anna, 1, actor=anna.owner, slot=anna.slot)
        with pytest.raises(errors.AccountNotFound):
            world.transfer(anna, bert, 1, actor=bert.owner, slot=bert.slot)
        world.state.accounts.pop(neighbour.id)
        with pytest.raises(errors.AccountNotFound):
            world.transfer(neighbour, bert, 1)
        assert absent not in world.state.accounts

    @pytest.mark.parametrize(
        ("status", "error"),
        [(AccountStatus.FROZEN, errors.AccountFrozen), (AccountStatus.CLOSED, errors.AccountClosed)],
    )
    def test_frozen_and_closed_accounts_pay_nobody(
        self, world: World, status: AccountStatus, error: type[Exception]
    ) -> None:
        """Freezing and closing stop debits and holds."""
        anna, bert = world.account(1_000), world.account()
        world.set_status(anna, status)

        with pytest.raises(error):
            world.transfer(anna, bert, 1)
        with pytest.raises(error):
            world.hold(anna, bert, 1)

    def test_frozen_accounts_receive_and_closed_ones_do_not(self, world: World) -> None:
        """Freezing never stops a credit; a closed payee is refused before anything is decided."""
        anna, bert = world.account(1_000), world.account()
        world.set_status(bert, AccountStatus.FROZEN)
        world.transfer(anna, bert, 1)
        world.set_status(bert, AccountStatus.CLOSED)

        with pytest.raises(errors.PayeeCannotReceive):
            world.transfer(anna, bert, 1)

    def test_payees_that_are_not_there(self, world: World) -> None:
        """Unknown name, unknown account, user without the currency, other currency, oneself."""
        anna, dollars = world.account(1_000), world.account(currency="USD")
        unknown = ids.make_account_id(1, 1, 1)

        with pytest.raises(errors.PayeeNotFound, match="nobody"):
            world.transfer(anna, anna, 1, payee=commands.Payee("nobody", None, known=False))
        with pytest.raises(errors.PayeeNotFound):
            world.transfer(anna, anna, 1, payee=commands.Payee(unknown, unknown))
        with pytest.raises(errors.PayeeCannotReceive, match="bert"):
            world.transfer(anna, anna, 1, payee=commands.Payee("bert", None))
        with pytest.raises(errors.PayeeCannotReceive):
            world.transfer(anna, dollars, 1)
        with pytest.raises(errors.SameAccount):
            world.transfer(anna, anna, 1)
        with pytest.raises(errors.SameAccount):
            world.hold(anna, anna, 1)

    def test_the_currency_must_be_the_accounts(self, world: World) -> None:
        """Nothing is converted."""
        anna, bert = world.account(1_000), world.account()

        with pytest.raises(errors.CurrencyMismatch):
            world.transfer(anna, bert, 1, currency="USD")


class TestExternal:
    """Deposits and withdrawals."""

    def test_deposit_and_withdrawal_pass_through_cash(self, world: World) -> None:
        """Money comes from and goes to the system account; a frozen account receives too."""
        anna = world.account()
        world.set_status(anna, AccountStatus.FROZEN)
        world.external(rules.deposit, anna, 500)
        world.set_status(anna, AccountStatus.OPEN)
        world.external(rules.withdraw, anna, 200, actor=anna.owner)
        world.external(rules.withdraw, anna, 100)

        assert world.current(anna).posted_minor == 200
        assert [e.amount_minor for e in world.state.writes.system_entries] == [-500, 200, 100]

    def test_an_operator_takes_what_reached_a_closed_account(self, world: World) -> None:
        """A credit that was decided before the account was closed may come later; the owner cannot move it."""
        anna = world.account(10)
        world.set_status(anna, AccountStatus.CLOSED)
        with pytest.raises(errors.AccountClosed):
            world.external(rules.withdraw, anna, 10, actor=anna.owner)
        with pytest.raises(errors.CurrencyMismatch):
            world.external(rules.withdraw, anna, 10, currency="USD")
        with pytest.raises(errors.InsufficientFunds):
            world.external(rules.withdraw, anna, 11)
        world.external(rules.withdraw, anna, 10)
        assert world.current(anna).posted_minor == 0
        with pytest.raises(errors.AccountClosed):
            world.external(rules.withdraw, anna, 1)

    def test_refusals(self, world: World) -> None:
        """Users make no money; closed, foreign, absent accounts, other currencies, limits and empty accounts refuse."""
        anna, bert = world.account(10), world.account()
        with pytest.raises(errors.NotPermitted):
            world.external(rules.deposit, anna, 1, actor=anna.owner)
        with pytest.raises(errors.CurrencyMismatch):
            world.external(rules.deposit, anna, 1, currency="USD")
        with pytest.raises(errors.LimitExceeded):
            world.external(rules.deposit, anna, rules.DEPOSITED_BALANCE_MAX_MINOR)
        with pytest.raises(errors.InsufficientFunds):
            world.external(rules.withdraw, anna, 11)
        with pytest.raises(errors.AccountNotFound):
            world.external(rules.withdraw, anna, 1, actor=bert.owner)
        world.set_status(anna, AccountStatus.CLOSED)
        with pytest.raises(errors.AccountClosed):
            world.external(rules.deposit, anna, 1)
        world.state.accounts.pop(bert.id)
        with pytest.raises(errors.AccountNotFound):
            world.external(rules.deposit, bert, 1)


class TestHold:
    """Reserving, capturing, voiding, expiring."""

    def test_capture_of_a_part_releases_the_rest(self, world: World) -> None:
        """One capture closes the hold; fee and remainder are where they belong."""
        anna, bert = world.account(1_000), world.account()
        hold = world.hold(anna, bert, 600, reference="room 12")

        changes = world.capture(hold, bert.owner, 500, fee_points=100)

        assert (world.current(anna).posted_minor, world.current(anna).held_minor) == (500, 0)
        assert world.current(bert).posted_minor == 495
        (closed,), (moved,) = changes.closed, changes.transfers
        assert (HoldState.CAPTURED, 500, moved.id) == (closed.state, closed.captured_minor, closed.transfer_id)
        assert (TransferKind.CAPTURE, "room 12", hold.id) == (moved.kind, moved.reference, moved.hold_id)

    def test_capture_defaults_to_all_and_never_takes_more(self, world: World) -> None:
        """The held amount is the most."""
        anna, bert = world.account(1_000), world.account()
        first, second = world.hold(anna, bert, 300), world.hold(anna, bert, 300)

        with pytest.raises(errors.CaptureExceedsHold):
            world.capture(first, bert.owner, 301)
        world.capture(second, bert.owner)

        assert world.current(bert).posted_minor == 300

    def test_a_hold_closes_once(self, world: World) -> None:
        """After capture or void, both are refused with the state it is in."""
        anna, bert = world.account(1_000), world.account()
        captured, voided = world.hold(anna, bert, 1), world.hold(anna, bert, 1)
        world.capture(captured, bert.owner)
        world.void(voided, bert.owner)

        for hold, state in ((captured, "captured"), (voided, "voided")):
            with pytest.raises(errors.HoldNotOpen, match=state):
                world.capture(hold, bert.owner)
            with pytest.raises(errors.HoldNotOpen, match=state):
                world.void(hold, bert.owner)
        assert world.current(anna).held_minor == 0

    def test_expiry_counts_before_the_sweep_ran(self, world: World) -> None:
        """At the instant of expiry the hold can no longer be captured or voided; the sweep then closes it once."""
        anna, bert = world.account(1_000), world.account()
        hold, keeps = world.hold(anna, bert, 10, seconds=5), world.hold(anna, bert, 10, seconds=6)
        world.later(5)

        with pytest.raises(errors.HoldNotOpen, match="expired"):
            world.capture(hold, bert.owner)
        with pytest.raises(errors.HoldNotOpen, match="expired"):
            world.void(hold, bert.owner)
        assert [hold.id] == [h.id for h in world.expire(anna).closed]
        assert world.expire(anna).closed == ()
        assert (world.current(anna).held_minor, world.state.holds[keeps.id].state) == (10, HoldState.OPEN)

    def test_only_the_closer_closes_and_strangers_see_nothing(self, world: World) -> None:
        """The payer waits; anybody else is told that there is no such hold."""
        anna, bert, eve = world.account(1_000), world.account(), world.account()
        hold = world.hold(anna, bert, 10)

        for act in (world.capture, world.void):
            with pytest.raises(errors.NotPermitted):
                act(hold, anna.owner)
            with pytest.raises(errors.HoldNotFound):
                act(hold, eve.owner)
        world.state.holds.pop(hold.id)
        with pytest.raises(errors.HoldNotFound):
            world.void(hold, bert.owner)

    def test_frozen_payers_are_not_captured_and_voiding_is_always_allowed(self, world: World) -> None:
        """A freeze stops captures, never the release of money."""
        anna, bert = world.account(1_000), world.account()
        hold = world.hold(anna, bert, 10)
        world.set_status(anna, AccountStatus.FROZEN)

        with pytest.raises(errors.AccountFrozen):
            world.capture(hold, bert.owner)
        world.void(hold, bert.owner)

    def test_a_closed_payee_captures_nothing(self, world: World) -> None:
        """No credit is decided for a closed account."""
        anna, bert = world.account(1_000), world.account()
        hold = world.hold(anna, bert, 10)
        world.set_status(bert, AccountStatus.CLOSED)

        with pytest.raises(errors.PayeeCannotReceive):
            world.capture(hold, bert.owner)

    def test_open_holds_are_limited_and_expired_ones_do_not_count(self, world: World) -> None:
        """Nobody makes others wait for the closing of more than that."""
        anna, bert = world.account(10_000), world.account()
        for _ in range(rules.OPEN_HOLDS_MAX):
            world.hold(anna, bert, 1, seconds=5)

        with pytest.raises(errors.LimitExceeded, match="open holds"):
            world.hold(anna, bert, 1)
        world.later(5)
        world.hold(anna, bert, 1)
        assert world.current(anna).held_minor == 1

    def test_a_withdrawals_hold_never_expires_and_only_its_flow_closes_it(self, world: World) -> None:
        """Captured into the system account, it is a withdrawal."""
        anna = world.account(1_000)
        cash = ids.system_account("cash", "EUR")
        target = world.account()
        hold = world.hold(anna, target, 100, seconds=None, payee=commands.Payee("cash", cash), closer="job:withdrawals")
        world.later(10**9)

        with pytest.raises(errors.NotPermitted):
            world.void(hold, anna.owner)
        changes = world.capture(hold, "job:withdrawals")

        assert changes.transfers[0].kind is TransferKind.WITHDRAWAL
        assert world.current(anna).posted_minor == 900


class TestReversal:
    """Sending back what was received."""

    def test_parts_add_up_to_at_most_the_original(self, world: World) -> None:
        """Two parts, then nothing is left; a fee is not returned."""
        anna, bert = world.account(1_000), world.account(50)
        original = world.transfer(anna, bert, 1_000, fee_minor=10).transfers[0]

        world.reverse(original.id, bert, anna.id, bert.owner, 400)
        with pytest.raises(errors.ReversalExceedsOriginal) as caught:
            world.reverse(original.id, bert, anna.id, bert.owner, 601)
        rest = world.reverse(original.id, bert, anna.id, bert.owner).transfers[0]
        with pytest.raises(errors.ReversalExceedsOriginal):
            world.reverse(original.id, bert, anna.id, bert.owner)

        assert caught.value.fields["remaining_minor"] == 600
        assert (600, original.id, TransferKind.REVERSAL) == (rest.amount_minor, rest.reverses, rest.kind)
        assert (world.current(anna).posted_minor, world.current(bert).posted_minor) == (1_000, 40)

    def test_who_may(self, world: World) -> None:
        """The payee and operators may, the payer may not, strangers see nothing."""
        anna, bert, eve = world.account(1_000), world.account(), world.account()
        original = world.transfer(anna, bert, 10).transfers[0]

        with pytest.raises(errors.NotPermitted):
            world.reverse(original.id, bert, anna.id, anna.owner)
        with pytest.raises(errors.TransferNotFound):
            world.reverse(original.id, bert, anna.id, eve.owner)
        with pytest.raises(errors.TransferNotFound):
            world.reverse(original.id, eve, anna.id, eve.owner)
        with pytest.raises(errors.TransferNotFound):
            world.reverse(ids.make_transfer_id(1, 1, 1), bert, anna.id, bert.owner)
        world.reverse(original.id, bert, anna.id, ids.OPERATOR)

    def test_nothing_is_sent_back_into_a_closed_account(self, world: World) -> None:
        """Money there could never be used again."""
        anna, bert = world.account(10), world.account()
        original = world.transfer(anna, bert, 10).transfers[0]
        world.status(anna, AccountStatus.CLOSED, anna.owner)

        with pytest.raises(errors.PayeeCannotReceive):
            world.reverse(original.id, bert, anna.id, bert.owner)

    def test_what_cannot_be_reversed(self, world: World) -> None:
        """Reversals and deposits; a payee who is frozen or has spent the money."""
        anna, bert = world.account(1_000), world.account()
        original = world.transfer(anna, bert, 10).transfers[0]
        back = world.reverse(original.id, bert, anna.id, bert.owner, 5).transfers[0]
        deposit = world.external(rules.deposit, bert, 10).transfers[0]

        with pytest.raises(errors.NotReversible):
            world.reverse(back.id, anna, bert.id, anna.owner)
        with pytest.raises(errors.NotReversible):
            world.reverse(deposit.id, bert, deposit.debit_account_id, bert.owner)
        with pytest.raises(errors.TransferNotFound):
            world.reverse(deposit.id, bert, deposit.debit_account_id, anna.owner)
        world.external(rules.withdraw, bert, 15)
        with pytest.raises(errors.InsufficientFunds):
            world.reverse(original.id, bert, anna.id, bert.owner)
        world.set_status(bert, AccountStatus.FROZEN)
        with pytest.raises(errors.AccountFrozen):
            world.reverse(original.id, bert, anna.id, bert.owner)


class TestAccountStatus:
    """Freezing and closing."""

    def test_operators_freeze_and_unfreeze(self, world: World) -> None:
        """Owners may not, strangers see nothing."""
        anna, bert = world.account(), world.account()
        with pytest.raises(errors.NotPermitted):
            world.status(anna, AccountStatus.FROZEN, anna.owner)
        with pytest.raises(errors.AccountNotFound):
            world.status(anna, AccountStatus.CLOSED, bert.owner)
        world.status(anna, AccountStatus.FROZEN)
        world.status(anna, AccountStatus.OPEN)

        assert world.current(anna).status is AccountStatus.OPEN

    def test_closing_needs_an_empty_account_and_is_final(self, world: World) -> None:
        """Money or open holds keep it open; expired holds do not."""
        anna, bert = world.account(100), world.account()
        hold = world.hold(anna, bert, 100, seconds=5)
        with pytest.raises(errors.AccountNotEmpty) as caught:
            world.status(anna, AccountStatus.CLOSED, anna.owner)
        world.later(5)
        with pytest.raises(errors.AccountNotEmpty):
            world.status(anna, AccountStatus.CLOSED, anna.owner)
        world.external(rules.withdraw, anna, 100)
        world.status(anna, AccountStatus.CLOSED, anna.owner)

        assert (caught.value.fields["posted_minor"], caught.value.fields["held_minor"]) == (100, 100)
        assert world.state.holds[hold.id].state is HoldState.EXPIRED
        with pytest.raises(errors.AccountClosed):
            world.status(anna, AccountStatus.OPEN)
