"""Refusals that nothing justified: a store that says "insufficient funds" of money that was there all the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..testing.history import NEVER
from .graph import Operation, operations_of
from .history import Call, History

INSUFFICIENT: str = "INSUFFICIENT_FUNDS"


@dataclass(slots=True)
class _Reserved:
    """When a hold may have been open: surely from `sure_from` to `closing_from`, at most from `from_` to `until`."""

    amount_minor: int = 0
    from_: int = NEVER
    sure_from: int = NEVER
    closing_from: int = NEVER
    until: int = NEVER


@dataclass(slots=True)
class _Account:
    """The balances of one account by version, who made them, and its holds."""

    balances: list[int]
    makers: dict[int, Operation] = field(default_factory=dict)
    holds: list[_Reserved] = field(default_factory=list)

    def available(self, sent_at: int, ended_at: int) -> tuple[int, int]:
        """The least and the most that can have been available at some moment between two times."""
        low = max((v for v, maker in self.makers.items() if maker.answered_at < sent_at), default=0)
        late = [version for version, maker in self.makers.items() if maker.sent_at > ended_at]
        first = len(self.balances) - 1 - len(self.makers)
        high = min(late, default=len(self.balances)) - 1
        posted = self.balances[max(low, first) : high + 1]
        most = sum(h.amount_minor for h in self.holds if h.from_ < ended_at and h.until > sent_at)
        least = sum(h.amount_minor for h in self.holds if h.sure_from < sent_at and h.closing_from > ended_at)
        return min(posted) - most, max(posted) - least


def illegal_refusals(history: History) -> Iterator[str]:
    """Refusals that no order of the calls explains, one line each.

    The workload gives a store one reason to refuse: a payment or hold of more than is available. The amount that the
    refusal names must have been available at some moment between the request and its first answer.
    """
    accounts = {name: _account(history, name) for name in history.accounts}
    _add_holds(history, accounts)
    for calls in _by_key(history).values():
        refused = [call for call in calls if call.outcome == "refused"]
        if not refused:
            continue
        first = min(refused, key=lambda call: call.ended_at)
        said = f"{first.verb} {first.key} was refused"
        if first.told["code"] != INSUFFICIENT or first.verb not in ("transfer", "hold"):
            yield f"{said} ({first.told['code']}) without a cause"
            continue
        sent_at = min(call.sent_at for call in calls)
        least, most = accounts[first.asked["debit_account_id"]].available(sent_at, first.ended_at)
        wanted, told = first.asked["amount_minor"], first.told["available_minor"]
        if not (least <= told <= most and told < wanted):
            yield f"{said} with {told} available of {wanted}; there were {least} to {most}"


def _by_key(history: History) -> dict[tuple[str, str], list[Call]]:
    found: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in history.calls:
        if not call.is_read:
            found[call.actor, call.key].append(call)
    return found


def _account(history: History, name: str) -> _Account:
    known = _Account([0, *(entry.balance_minor for entry in history.books.entries[name])])
    for operation in operations_of(history, (name,)):
        known.makers.update((version, operation) for version in operation.made.values())
    return known


def _add_holds(history: History, accounts: dict[str, _Account]) -> None:
    """From the calls: who placed and closed each hold, and when."""
    reserved: dict[str, _Reserved] = defaultdict(_Reserved)
    for calls in _by_key(history).values():
        made = {call.told["made"] for call in calls if call.outcome == "ok"}
        sent_at = min(call.sent_at for call in calls)
        ended_at = min((call.ended_at for call in calls if call.outcome == "ok"), default=NEVER)
        first = calls[0]
        if first.verb == "hold" and made:
            one = reserved[made.pop()]
            one.amount_minor, one.from_, one.sure_from = first.asked["amount_minor"], sent_at, ended_at
            accounts[first.asked["debit_account_id"]].holds.append(one)
        elif first.verb in ("capture", "void"):
            one = reserved[first.asked["hold"]]
            one.closing_from, one.until = min(one.closing_from, sent_at), min(one.until, ended_at)
