"""A Hypothesis state machine: random commands, alone and concurrent, compared with the small ledger of `model`.

A command that runs alone must get exactly the model's answer, on every backend. Concurrent commands are drawn first and
then started together; their answers must be possible in some order. After every step balances, holds and sequences are
compared, and at the end the whole store is read, checked and audited.

```python
TestMine = machine_for("mystore://{tmp}/ledger").TestCase
```
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ..domain.errors import Rejected, WalletError
from ..domain.ids import OPERATOR, HoldId, TransferId
from ..domain.model import AccountStatus, Hold, Transfer
from ..verbs.ledger import Ledger, Posted, To
from . import model as m
from .books import faults
from .faults import Flaky
from .harness import Harness, harness_for
from .loop import ShuffledLoop
from .world import CURRENCY, Person, World

T = TypeVar("T")

PEOPLE: Final = 4
MONEY_MINOR: Final = 100
ATTEMPTS_MAX: Final = 100
DETAILS: Final = {
    "INSUFFICIENT_FUNDS": ("available_minor", "required_minor"),
    "CAPTURE_EXCEEDS_HOLD": ("held_minor", "requested_minor"),
    "REVERSAL_EXCEEDS_ORIGINAL": ("remaining_minor", "requested_minor"),
    "ACCOUNT_NOT_EMPTY": ("posted_minor", "held_minor"),
}
"""The fields of a refusal that the model predicts."""

persons = st.integers(0, PEOPLE - 1)
amounts = st.integers(1, 130)
numbers = st.integers(0, 40)
"""Numbers of holds and transfers: taken modulo how many there are."""
keys = st.integers(0, 12)

commands: st.SearchStrategy[m.Command] = st.one_of(
    st.builds(
        m.Command,
        st.sampled_from(("transfer", "transfer", "transfer", "hold", "hold", "withdraw")),
        actor=persons,
        key=keys,
        account=st.just(-1) | st.just(-1) | st.just(-1) | persons,  # -1 stands for the actor's own account
        payee=persons,
        amount=amounts,
        seconds=st.sampled_from((5, 60, 3600)),
    ),
    st.builds(
        m.Command,
        st.sampled_from(("capture", "capture", "void")),
        actor=st.sampled_from((0, 0, 0, 1, 2)),  # payee, payer, somebody else
        key=keys,
        amount=st.none() | amounts,
        hold=numbers,
    ),
    st.builds(
        m.Command,
        st.just("reverse"),
        actor=st.sampled_from((0, m.OPERATOR)),
        key=keys,
        amount=st.none() | amounts,
        transfer=numbers,
    ),
    st.builds(m.Command, st.just("deposit"), actor=st.just(m.OPERATOR), key=keys, account=persons, amount=amounts),
    st.builds(
        m.Command,
        st.just("status"),
        actor=st.just(m.OPERATOR),
        account=persons,
        status=st.sampled_from(("open", "open", "open", "frozen", "frozen", "closed")),
    ),
)


class LedgerMachine(RuleBasedStateMachine):
    """The machine. Subclasses make the harness of a backend; see `machine_for`."""

    made: ClassVar[Callable[[], Harness]]
    shuffled: ClassVar[bool] = False
    """Run on a `ShuffledLoop` and behind a `Flaky` network: for stores that live in the process."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wallet-machine-"))

    # Beginning and end

    @initialize(seed=st.integers(0, 2**32 - 1), fee=st.sampled_from((0, 0, 250)))
    def begin(self, seed: int, fee: int) -> None:
        """An empty ledger with a few people in it."""
        factory: Callable[[], asyncio.AbstractEventLoop] | None = None
        if self.shuffled:
            factory = lambda: ShuffledLoop(seed)  # noqa: E731 - as Runner takes it
        self.runner = asyncio.Runner(loop_factory=factory)
        world = World(type(self).made(), self.folder, seed=seed, fee_basis_points=fee)
        self.world = self.run(world.__aenter__())
        self.people: list[Person] = self.run(self.world.people(PEOPLE, MONEY_MINOR))
        self.holds: list[HoldId] = []
        self.transfers: list[TransferId] = []
        self.model = m.Model(PEOPLE, fee)
        for person in range(PEOPLE):
            self.model.posted[person] += MONEY_MINOR
            self.model.entries[person] += 1
        self.ledger = self._client(seed)

    def _client(self, seed: int) -> Ledger:
        store = Flaky(self.world.store, seed) if self.shuffled else self.world.store
        return self.world.ledger_on(store)

    def teardown(self) -> None:
        """Read and audit everything."""
        if hasattr(self, "world"):
            try:
                self.run(self.world.__aexit__(None, None, None))
            finally:
                self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the machine's own loop."""
        return self.runner.run(work)

    # Steps

    @rule(command=commands)
    def alone(self, command: m.Command) -> None:
        """One command gets exactly the answer that the model gives."""
        fitted = self._fit(command)
        if fitted is None:
            return
        answer, posted = self.run(self._ask(fitted))
        before = len(self.model.holds), len(self.model.transfers)
        expected = self.model.expect(fitted)
        note(f"{fitted} -> {answer}")
        if self.shuffled:  # a lost reply makes a first success look like a replay
            answer, expected = replace(answer, replayed=False), replace(expected, replayed=False)
        if answer.code == "ok":
            answer = replace(answer, detail=())
        assert answer == replace(expected, made=None), fitted
        if before != (len(self.model.holds), len(self.model.transfers)):
            self._remember(posted)
        elif posted is not None and expected.made is not None:
            assert posted.result.id == self._made(fitted, expected.made)
        self._compare()

    @rule(crowd=st.lists(commands, min_size=2, max_size=8))
    def at_once(self, crowd: list[m.Command]) -> None:
        """Concurrent commands get answers that are possible in some order."""
        fitted = [command for command in map(self._fit, crowd) if command is not None]
        asked = self.run(self._together(fitted))
        answers = [answer for answer, _ in asked]
        if self.shuffled:
            answers = self._first_is_fresh(fitted, answers)
        for command, answer in zip(fitted, answers, strict=True):
            note(f"at once {command} -> {answer}")
        wrong = m.judge(self.model, fitted, answers)
        assert not wrong, wrong
        for answer, (_, posted) in zip(answers, asked, strict=True):
            if answer.code == "ok" and not answer.replayed:
                self._remember(posted)
        self.run(self._adopt_statuses(fitted, answers))
        self._compare()

    @rule(seconds=st.sampled_from((1, 10, 100, 4000)))
    def wait(self, seconds: int) -> None:
        """Time passes, and holds expire by themselves."""
        self.world.clock.advance(seconds)
        self.model.now += seconds
        self._compare()

    @rule()
    def sweep(self) -> None:
        """Sweeping expired holds changes nothing that clients can see."""
        self.run(self.world.ledger.expire_due_holds())
        self.run(self.world.store.recover(100))
        self._compare()
        self.run(self._read())

    @precondition(lambda self: self.world.store.capabilities.durable)
    @rule(politely=st.booleans(), seed=st.integers(0, 2**32 - 1))
    def restart(self, politely: bool, seed: int) -> None:  # noqa: FBT001 - drawn
        """After the store was closed or killed, everything is as before."""
        self.run(self.world.reopen() if politely else self.world.kill())
        self.ledger = self._client(seed)
        self._compare()

    # Between the model's numbers and the ledger's ids

    def _fit(self, command: m.Command) -> m.Command | None:
        """Map drawn numbers to existing holds and transfers; None if there are none yet."""
        if command.verb in ("capture", "void"):
            return self._fit_hold(command) if self.holds else None
        if command.verb == "reverse":
            return self._fit_reversal(command) if self.transfers else None
        if command.verb in ("transfer", "hold", "withdraw"):
            account = command.actor if command.account < 0 else command.account
            payee = 0 if command.verb == "withdraw" else command.payee
            seconds = command.seconds if command.verb == "hold" else 0
            return replace(command, account=account, payee=payee, seconds=seconds)
        return command

    def _fit_hold(self, command: m.Command) -> m.Command:
        number = command.hold % len(self.holds)
        row = self.model.holds[number]
        actor = (row.payee, row.payer, (row.payee + 1) % PEOPLE)[command.actor]
        return replace(command, hold=number, actor=actor, amount=None if command.verb == "void" else command.amount)

    def _fit_reversal(self, command: m.Command) -> m.Command | None:
        number = command.transfer % len(self.transfers)
        payee = self.model.transfers[number].payee
        if payee == m.OPERATOR:  # a withdrawal has no payee here
            return None
        return replace(command, transfer=number, actor=payee if command.actor == 0 else m.OPERATOR)

    async def _adopt_statuses(self, crowd: Sequence[m.Command], answers: Sequence[m.Answer]) -> None:
        """Take over the ledger's order of concurrent status changes of one account."""
        chosen: dict[int, set[str]] = {}
        for command, answer in zip(crowd, answers, strict=True):
            if command.verb == "status" and answer.code == "ok":
                chosen.setdefault(command.account, set()).add(command.status)
        for person, statuses in chosen.items():
            status = (await self.world.account(self.people[person])).status
            assert status in statuses
            self.model.status[person] = status.value

    def _made(self, command: m.Command, number: int) -> str:
        return self.holds[number] if command.verb in ("hold", "void") else self.transfers[number]

    def _remember(self, posted: Posted[Any] | None) -> None:
        if posted is None:
            return
        if isinstance(posted.result, Transfer):
            self.transfers.append(posted.result.id)
        elif isinstance(posted.result, Hold) and posted.result.id not in self.holds:
            self.holds.append(posted.result.id)

    async def _together(self, crowd: Sequence[m.Command]) -> list[tuple[m.Answer, Posted[Any] | None]]:
        return await asyncio.gather(*map(self._ask, crowd))

    async def _ask(self, command: m.Command) -> tuple[m.Answer, Posted[Any] | None]:
        """Repeat a request with the same key until it is answered."""
        for _ in range(ATTEMPTS_MAX):
            try:
                posted = await self._send(command)
            except Rejected as error:
                names = DETAILS.get(error.code, ())
                return m.Answer(error.code, detail=tuple(int(str(error.fields[name])) for name in names)), None
            except WalletError as error:
                if not error.retryable:
                    raise
            else:
                return _answer_of(posted), posted
        raise AssertionError(f"no answer to {command}")

    async def _send(self, command: m.Command) -> Posted[Any] | None:
        ledger, amount = self.ledger, command.amount
        actor = OPERATOR if command.actor == m.OPERATOR else self.people[command.actor].id
        key, account = f"k{command.key}", self.people[command.account].account
        if command.verb == "capture":
            return await ledger.capture_hold(actor, key, self.holds[command.hold], amount_minor=amount)
        if command.verb == "void":
            return await ledger.void_hold(actor, key, self.holds[command.hold])
        if command.verb == "reverse":
            return await ledger.reverse_transfer(actor, key, self.transfers[command.transfer], amount_minor=amount)
        if command.verb in ("deposit", "withdraw"):
            external = ledger.deposit if command.verb == "deposit" else ledger.withdraw
            return await external(actor, key, account, amount or 0, CURRENCY)
        if command.verb in ("transfer", "hold"):
            return await self._pay(command, key)
        await ledger.set_account_status(actor, account, AccountStatus(command.status))
        return None

    async def _pay(self, command: m.Command, key: str) -> Posted[Any]:
        payer, payee = self.people[command.actor].id, self.people[command.payee].account
        source = self.people[command.account].account
        money: dict[str, Any] = {"amount_minor": command.amount, "currency": CURRENCY}
        if command.verb == "transfer":
            return await self.ledger.transfer(payer, key, source=source, to=To(payee), **money)
        seconds = command.seconds
        return await self.ledger.place_hold(
            payer, key, source=source, to=To(payee), expires_in_seconds=seconds, **money
        )

    def _first_is_fresh(self, crowd: Sequence[m.Command], answers: Sequence[m.Answer]) -> list[m.Answer]:
        """Treat the first of equal successes as the fresh one: after lost replies, all may say `replayed`."""
        told: list[m.Answer] = []
        seen = set(self.model.keys)
        for command, answer in zip(crowd, answers, strict=True):
            name = (command.actor, -1 if command.key is None else command.key)
            fresh = answer.code == "ok" and (command.key is None or name not in seen)
            told.append(replace(answer, replayed=answer.code == "ok" and not fresh))
            if fresh and command.key is not None:
                seen.add(name)
        return told

    # What must be equal

    def _compare(self) -> None:
        self.run(self._check())

    async def _check(self) -> None:
        model, ledger = self.model, self.world.ledger
        for number, person in enumerate(self.people):
            account = await self.world.account(person)
            found = account.posted_minor, account.held_minor, account.sequence, str(account.status)
            expected = model.posted[number], model.held(number), model.entries[number], model.stands(number)
            assert found == expected, f"person {number}"
        for row, hold_id in zip(model.holds, self.holds, strict=True):
            hold = await ledger.hold(OPERATOR, hold_id)
            state = "expired" if hold.is_due(self.world.clock()) else str(hold.state)
            assert state == model.state_of(row), hold

    async def _read(self) -> None:
        """Read the whole store and compare every transfer."""
        books = await self.world.books()
        assert not faults(books)
        for moved, transfer_id in zip(self.model.transfers, self.transfers, strict=True):
            transfer = books.transfers[transfer_id]
            assert (transfer.amount_minor, transfer.net_minor) == (moved.amount, moved.net)


def _answer_of(posted: Posted[Any] | None) -> m.Answer:
    """The answer of a success, with what moved as its detail."""
    if posted is None:
        return m.Answer("ok")
    return m.Answer("ok", posted.replayed, detail=(posted.result.amount_minor,))


Backend = str | Callable[[], Harness]
"""A harness's name, a storage URL, or what makes a harness."""


def machine_for(backend: Backend, *, shuffled: bool = False) -> type[LedgerMachine]:
    """The machine of a backend."""
    made = partial(harness_for, backend) if isinstance(backend, str) else backend
    return type("Machine", (LedgerMachine,), {"made": staticmethod(made), "shuffled": shuffled})


def run_machine(
    backend: Backend, *, shuffled: bool = False, examples: int, steps: int, profile: str | None = None
) -> None:
    """Run a backend's machine with so many examples of at most so many steps. Raises the failure that is found.

    `profile` names the Hypothesis profile to start from, by default the one that is loaded.
    """
    parent = settings.get_profile(profile) if profile else settings()
    chosen = settings(parent, max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(machine_for(backend, shuffled=shuffled), settings=chosen)
