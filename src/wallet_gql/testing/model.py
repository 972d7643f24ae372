"""A small ledger in dictionaries, with which the machine compares the real one.

It was written from the documentation, not from `domain.rules`. People, holds and transfers are numbers. `Model.expect`
returns the one right answer to a command that runs alone. `judge` checks whether the answers to concurrent commands are
possible in some order, and takes their effects over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Verb = Literal["transfer", "hold", "capture", "void", "reverse", "deposit", "withdraw", "status"]
Status = Literal["open", "frozen", "closed"]

OPERATOR: Final = -1


@dataclass(frozen=True, slots=True)
class Command:
    """One request. The verb says which fields count; `actor` is a person's number or `OPERATOR`.

    `amount` is in minor units, None for all; `key` is None where a verb takes no key.
    """

    verb: Verb
    actor: int
    key: int | None = None
    account: int = 0
    payee: int = 0
    amount: int | None = None
    seconds: int = 0
    hold: int = 0
    transfer: int = 0
    status: Status = "open"

    @property
    def asked(self) -> tuple[object, ...]:
        """The input that a key stands for: everything but the actor and the key."""
        return (self.verb, self.account, self.payee, self.amount, self.seconds, self.hold, self.transfer)


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok` or an error's code; `made` is the number of the new transfer or hold, `detail` the amounts in the answer."""

    code: str
    replayed: bool = False
    made: int | None = None
    detail: tuple[int, ...] = ()


@dataclass(slots=True)
class HoldRow:
    """A hold: open until it is captured, voided or expired."""

    payer: int
    payee: int
    amount: int
    expires_at: float
    state: str = "open"


@dataclass(slots=True)
class TransferRow:
    """A movement between two people; `payer` or `payee` is `OPERATOR` for the world outside."""

    kind: str
    payer: int
    payee: int
    amount: int
    net: int
    undone: int = 0


@dataclass(slots=True)
class Model:
    """Balances, holds, transfers and keys; `now` is in seconds, `fee` in 1/10,000 of a transfer."""

    people: int
    fee: int = 0
    now: float = 0.0
    posted: Counter[int] = field(default_factory=Counter)
    entries: Counter[int] = field(default_factory=Counter)
    status: dict[int, Status] = field(default_factory=dict)
    holds: list[HoldRow] = field(default_factory=list)
    transfers: list[TransferRow] = field(default_factory=list)
    keys: dict[tuple[int, int], tuple[tuple[object, ...], Answer]] = field(default_factory=dict)

    # The present state

    def is_open(self, hold: HoldRow) -> bool:
        """Whether a hold still reserves its money."""
        return hold.state == "open" and hold.expires_at > self.now

    def state_of(self, hold: HoldRow) -> str:
        """A hold's state now; an expired hold counts as expired before any sweep."""
        return "expired" if hold.state == "open" and hold.expires_at <= self.now else hold.state

    def held(self, person: int) -> int:
        """What a person's open holds reserve."""
        return sum(hold.amount for hold in self.holds if hold.payer == person and self.is_open(hold))

    def available(self, person: int) -> int:
        """What a person can spend."""
        return self.posted[person] - self.held(person)

    def stands(self, person: int) -> Status:
        """The account's status."""
        return self.status.get(person, "open")

    # One command alone

    def expect(self, command: Command) -> Answer:
        """The right answer to a command that runs alone; applies its effect."""
        if command.key is not None:
            known = self.keys.get((command.actor, command.key))
            if known is not None:
                return self._again(command, *known)
        answer = self.refusal(command)
        if answer is None:
            answer = Answer("ok", made=self.apply(command))
        if command.key is not None and answer.code != "HOLD_NOT_FOUND":  # a refused stranger leaves no receipt
            self.keys[command.actor, command.key] = (command.asked, answer)
        return answer

    def _again(self, command: Command, asked: tuple[object, ...], answer: Answer) -> Answer:
        if asked != command.asked:
            return Answer("IDEMPOTENCY_KEY_REUSED")
        return Answer(answer.code, answer.code == "ok", answer.made, answer.detail)

    def refusal(self, command: Command) -> Answer | None:
        """The code with which a new command would be refused; None if it would succeed."""
        checks: dict[Verb, Callable[[Command], Answer | None]] = {
            "transfer": self._paying,
            "hold": self._paying,
            "withdraw": self._paying,
            "capture": self._closing,
            "void": self._closing,
            "reverse": self._reversing,
            "deposit": self._depositing,
            "status": self._changing,
        }
        return checks[command.verb](command)

    def _paying(self, command: Command) -> Answer | None:
        if command.actor != command.account:
            return Answer("ACCOUNT_NOT_FOUND")
        payee = None if command.verb == "withdraw" else self._receiving(command)
        return self._standing(command.account) or payee or self._affordable(command.account, command.amount or 0)

    def _receiving(self, command: Command) -> Answer | None:
        if command.account == command.payee:
            return Answer("SAME_ACCOUNT")
        return Answer("PAYEE_CANNOT_RECEIVE") if self.stands(command.payee) == "closed" else None

    def _depositing(self, command: Command) -> Answer | None:
        return Answer("ACCOUNT_CLOSED") if self.stands(command.account) == "closed" else None

    def _standing(self, person: int) -> Answer | None:
        stands = self.stands(person)
        return None if stands == "open" else Answer("ACCOUNT_FROZEN" if stands == "frozen" else "ACCOUNT_CLOSED")

    def _affordable(self, person: int, amount: int) -> Answer | None:
        available = self.available(person)
        return None if amount <= available else Answer("INSUFFICIENT_FUNDS", detail=(available, amount))

    def _closing(self, command: Command) -> Answer | None:
        hold = self.holds[command.hold]
        if command.actor != hold.payee:
            return Answer("NOT_PERMITTED" if command.actor == hold.payer else "HOLD_NOT_FOUND")
        if not self.is_open(hold):
            return Answer("HOLD_NOT_OPEN")
        return None if command.verb == "void" else self._capturing(command, hold)

    def _capturing(self, command: Command, hold: HoldRow) -> Answer | None:
        if self.stands(hold.payer) == "frozen":
            return Answer("ACCOUNT_FROZEN")
        if self.stands(hold.payee) == "closed":
            return Answer("PAYEE_CANNOT_RECEIVE")
        if command.amount is not None and command.amount > hold.amount:
            return Answer("CAPTURE_EXCEEDS_HOLD", detail=(hold.amount, command.amount))
        return None

    def _reversing(self, command: Command) -> Answer | None:
        moved = self.transfers[command.transfer]
        if moved.kind not in ("transfer", "capture"):
            return Answer("NOT_REVERSIBLE")
        if self.stands(moved.payee) == "open" and self.stands(moved.payer) == "closed":
            return Answer("PAYEE_CANNOT_RECEIVE")
        left = moved.amount - moved.undone
        amount = left if command.amount is None else command.amount
        if self.stands(moved.payee) == "open" and (left == 0 or amount > left):
            return Answer("REVERSAL_EXCEEDS_ORIGINAL", detail=(left, amount))
        return self._standing(moved.payee) or self._affordable(moved.payee, amount)

    def _changing(self, command: Command) -> Answer | None:
        if self.stands(command.account) == "closed":
            return Answer("ACCOUNT_CLOSED")
        left = self.posted[command.account], self.held(command.account)
        return Answer("ACCOUNT_NOT_EMPTY", detail=left) if command.status == "closed" and any(left) else None

    # Effects

    def apply(self, command: Command) -> int | None:
        """Apply the effect of a command that succeeded; returns the number of what it made."""
        amount = command.amount or 0
        if command.verb == "hold":
            self.holds.append(HoldRow(command.account, command.payee, amount, self.now + command.seconds))
            return len(self.holds) - 1
        if command.verb == "void":
            self.holds[command.hold].state = "voided"
            return command.hold
        if command.verb == "status":
            self.status[command.account] = command.status
            return None
        return self._move(self._movement(command, amount))

    def _movement(self, command: Command, amount: int) -> TransferRow:
        if command.verb == "capture":
            hold = self.holds[command.hold]
            hold.state = "captured"
            taken = hold.amount if command.amount is None else amount
            return TransferRow("capture", hold.payer, hold.payee, taken, taken - taken * self.fee // 10_000)
        if command.verb == "reverse":
            moved = self.transfers[command.transfer]
            undone = moved.amount - moved.undone if command.amount is None else amount
            moved.undone += undone
            return TransferRow("reversal", moved.payee, moved.payer, undone, undone)
        if command.verb == "deposit":
            return TransferRow("deposit", OPERATOR, command.account, amount, amount)
        if command.verb == "withdraw":
            return TransferRow("withdrawal", command.account, OPERATOR, amount, amount)
        return TransferRow("transfer", command.account, command.payee, amount, amount - amount * self.fee // 10_000)

    def _move(self, row: TransferRow) -> int:
        self.transfers.append(row)
        for person, amount in ((row.payer, -row.amount), (row.payee, row.net)):
            if person != OPERATOR:
                self.posted[person] += amount
                self.entries[person] += 1
        return len(self.transfers) - 1


def judge(model: Model, commands: Sequence[Command], answers: Sequence[Answer]) -> list[str]:
    """Check the answers to concurrent commands and apply their effects; returns those that are impossible."""
    wrong = _judge_keys(model, commands, answers)
    moved = {c: a.detail[0] for c, a in zip(commands, answers, strict=True) if c.verb == "reverse" and a.code == "ok"}
    done = [c for c, a in zip(commands, answers, strict=True) if a.code == "ok" and not a.replayed]
    wrong += _judge_refusals(model, commands, answers, [replace(c, amount=moved.get(c, c.amount)) for c in done])
    for command in done:
        if command.verb in ("void", "capture") and not model.is_open(model.holds[command.hold]):
            wrong.append(f"{command} closed a hold that was not open")
        made = model.apply(replace(command, amount=moved[command]) if command in moved else command)
        if command.key is not None:
            model.keys[command.actor, command.key] = (command.asked, Answer("ok", made=made))
    for command, answer in zip(commands, answers, strict=True):
        if command.key is not None and answer.code not in ("ok", "IDEMPOTENCY_KEY_REUSED", "HOLD_NOT_FOUND"):
            model.keys.setdefault((command.actor, command.key), (command.asked, answer))
    wrong += [f"person {p} is overdrawn: {model.posted[p]}" for p in range(model.people) if model.available(p) < 0]
    wrong += [f"transfer {i} is undone too far" for i, row in enumerate(model.transfers) if row.undone > row.amount]
    whole = {command.transfer for command in done if command.verb == "reverse" and command.amount is None}
    wrong += [f"not all of {i} was undone" for i in whole if model.transfers[i].undone < model.transfers[i].amount]
    return wrong


def _judge_keys(model: Model, commands: Sequence[Command], answers: Sequence[Answer]) -> list[str]:
    """Each key has one effect and one meaning, before this batch and in it."""
    wrong: list[str] = []
    groups: dict[tuple[int, int], list[tuple[Command, Answer]]] = defaultdict(list)
    for command, answer in zip(commands, answers, strict=True):
        if command.key is not None and answer.code != "HOLD_NOT_FOUND":  # a refused stranger leaves no receipt
            groups[command.actor, command.key].append((command, answer))
    for name, group in groups.items():
        known = model.keys.get(name)
        meanings = {known[0]} if known else {c.asked for c, a in group if a.code != "IDEMPOTENCY_KEY_REUSED"}
        if len(meanings) != 1:
            wrong.append(f"key {name} has {len(meanings)} meanings: {group}")
            continue
        (meaning,) = meanings
        fresh = sum(answer.code == "ok" and not answer.replayed for _, answer in group)
        codes = {a.code for c, a in group if c.asked == meaning} | ({known[1].code} if known else set())
        if len(codes) > 1 or fresh > (known is None):
            wrong.append(f"key {name} had {fresh} effects and the answers {sorted(codes)}: {group}")
        if any(a.code != "IDEMPOTENCY_KEY_REUSED" for c, a in group if c.asked != meaning):
            wrong.append(f"key {name} was taken for another input: {group}")
        if codes == {"ok"} and known is None and fresh != 1:
            wrong.append(f"key {name} was replayed before it was used: {group}")
    return wrong


def _judge_refusals(
    model: Model, commands: Sequence[Command], answers: Sequence[Answer], done: Sequence[Command]
) -> list[str]:
    """Check that each refusal had a reason, before the batch or because of another command in it."""
    out: Counter[int] = Counter()
    for command in done:
        if command.verb in ("transfer", "hold", "withdraw"):
            out[command.account] += command.amount or 0
        elif command.verb == "reverse":
            out[model.transfers[command.transfer].payee] += command.amount or 0
    closed = {command.hold for command in done if command.verb in ("capture", "void")}
    wrong = []
    for command, answer in zip(commands, answers, strict=True):
        known = command.key is not None and (command.actor, command.key) in model.keys
        if known or answer.code in ("ok", "IDEMPOTENCY_KEY_REUSED"):
            continue
        if answer.code == "HOLD_NOT_OPEN":
            sound = command.hold in closed or not model.is_open(model.holds[command.hold])
        elif answer.code == "INSUFFICIENT_FUNDS":
            payer = model.transfers[command.transfer].payee if command.verb == "reverse" else command.account
            sound = answer.detail[1] > model.available(payer) - out[payer]
        else:
            sound = _has_reason(model, command, answer, done)
        if not sound:
            wrong.append(f"{command} was refused without a reason: {answer}")
    return wrong


def _has_reason(model: Model, command: Command, answer: Answer, done: Sequence[Command]) -> bool:
    """Whether it would be refused alone, too, or another command of the batch changed what it depends on."""
    refusal = model.refusal(command)
    if refusal is not None and refusal.code == answer.code:
        return True
    return any(other != command for other in done)
