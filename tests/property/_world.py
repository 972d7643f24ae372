"""A tiny ledger in one `State`, for tests of the rules: no store, no clock, no randomness."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from wallet_gql.domain import commands, ids, rules
from wallet_gql.domain.changes import Changes, Decision, Failed, Scope, Snapshot, State, decide_all
from wallet_gql.domain.model import Account, AccountStatus, Hold
from wallet_gql.verbs.holds import placing

START = datetime(2026, 1, 1, tzinfo=UTC)
_serial = count(1)

Rule = Callable[[Snapshot, Any, datetime], Changes]


def new_user() -> ids.UserId:
    """A user id, never the same twice."""
    return ids.make_user_id(1_700_000_000_000, next(_serial) * 7919)


@dataclass
class World:
    """Accounts in a state of one node; `peers` names slots that live elsewhere."""

    state: State = field(default_factory=lambda: State("n1", lambda _: None))
    now: datetime = START

    def account(self, posted_minor: int = 0, currency: str = "EUR", **values: Any) -> Account:
        """A user's account with money in it."""
        owner = values.pop("owner", None) or new_user()
        account_id = ids.make_account_id(ids.slot_of(owner), 1_700_000_000_000, next(_serial))
        made = Account(account_id, owner, currency, START, START, posted_minor=posted_minor, **values)
        self.state.load_account(made)
        return made

    def current(self, account: Account) -> Account:
        """The account as it is now."""
        return self.state.accounts[account.id]

    def set_status(self, account: Account, status: AccountStatus) -> None:
        """Change an account outside the rules."""
        self.state.load_account(replace(self.current(account), status=status))

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def run(self, rule: Rule, command: Any, scope: Scope) -> Changes:
        """Decide and post one command; raises what it raises."""

        def decide(snapshot: Snapshot) -> Decision[Changes]:
            changes = rule(snapshot, command, self.now)
            return Decision(changes, changes)

        (outcome,) = decide_all(self.state, [(replace(scope, due_at=self.now), decide)])
        if isinstance(outcome, Failed):
            raise outcome.error
        result: Changes = outcome.result
        return result

    def transfer(self, source: Account, target: Account, amount_minor: int, **values: Any) -> Changes:
        """Pay, as the source's owner unless `actor` says otherwise."""
        payee = values.pop("payee", None) or commands.Payee("payee", target.id)
        slot = values.pop("slot", source.slot)
        command = commands.MoveMoney(
            ids.make_transfer_id(slot, 1, next(_serial)),
            values.pop("actor", source.owner),
            f"key-{next(_serial)}",
            source.id,
            payee,
            amount_minor,
            values.pop("currency", "EUR"),
            **values,
        )
        credited = () if payee.account_id in (None, source.id) else (payee.account_id,)
        return self.run(rules.transfer, command, Scope(slot, accounts=(source.id,), credits=credited))

    def hold(self, source: Account, target: Account, amount_minor: int, seconds: float | None = 60, **v: Any) -> Hold:
        """Place a hold that expires after so many seconds (None: never)."""
        command = commands.PlaceHold(
            ids.make_hold_id(source.slot, 1, next(_serial)),
            v.pop("actor", source.owner),
            f"key-{next(_serial)}",
            source.id,
            v.pop("payee", commands.Payee("payee", target.id)),
            amount_minor,
            v.pop("currency", "EUR"),
            None if seconds is None else self.now + timedelta(seconds=seconds),
            **v,
        )
        credited = () if target.id == source.id or ids.is_system(target.id) else (target.id,)
        scope = placing(Scope(source.slot, accounts=(source.id,), credits=credited), command.hold_id)
        changes = self.run(rules.place_hold, command, scope)
        return changes.placed[0]

    def _hold_scope(self, hold: Hold) -> Scope:
        credited = () if ids.is_system(hold.payee_account_id) else (hold.payee_account_id,)
        return Scope(ids.slot_of(hold.id), accounts=(hold.account_id,), credits=credited, holds=(hold.id,))

    def capture(self, hold: Hold, actor: str, amount_minor: int | None = None, fee_points: int = 0) -> Changes:
        """Capture a hold."""
        transfer_id = ids.make_transfer_id(ids.slot_of(hold.id), 1, next(_serial))
        parts = hold.account_id, hold.payee_account_id
        command = commands.CaptureHold(transfer_id, actor, "key", hold.id, *parts, amount_minor, fee_points)
        return self.run(rules.capture_hold, command, self._hold_scope(hold))

    def void(self, hold: Hold, actor: str) -> Changes:
        """Void a hold."""
        return self.run(
            rules.void_hold, commands.VoidHold(actor, "key", hold.id, hold.account_id), self._hold_scope(hold)
        )

    def expire(self, account: Account) -> Changes:
        """Run the sweep's command on one account."""
        return self.run(
            rules.expire_holds, commands.ExpireHolds(account.id), Scope(account.slot, accounts=(account.id,))
        )

    def external(self, rule: Rule, account: Account, amount_minor: int, **values: Any) -> Changes:
        """Deposit or withdraw, as the operator unless `actor` says otherwise."""
        command = commands.MoveExternal(
            ids.make_transfer_id(account.slot, 1, next(_serial)),
            values.pop("actor", ids.OPERATOR),
            f"key-{next(_serial)}",
            account.id,
            ids.system_account("cash", account.currency),
            amount_minor,
            values.pop("currency", account.currency),
        )
        return self.run(rule, command, Scope(account.slot, accounts=(account.id,)))

    def reverse(
        self, original_id: ids.TransferId, source: Account, target: str, actor: str, amount_minor: int | None = None
    ) -> Changes:
        """Send a received transfer back."""
        command = commands.ReverseTransfer(
            ids.make_transfer_id(source.slot, 1, next(_serial)),
            actor,
            f"key-{next(_serial)}",
            original_id,
            source.id,
            ids.AccountId(target),
            amount_minor,
        )
        credited = () if ids.is_system(target) else (ids.AccountId(target),)
        scope = Scope(source.slot, accounts=(source.id,), credits=credited, transfers=(original_id,))
        return self.run(rules.reverse_transfer, command, scope)

    def status(self, account: Account, status: AccountStatus, actor: str = ids.OPERATOR) -> Changes:
        """Freeze, unfreeze or close."""
        command = commands.SetAccountStatus(actor, account.id, status)
        return self.run(rules.set_account_status, command, Scope(account.slot, accounts=(account.id,)))
