"""Three nodes, four, and three again, while clients pay over HTTP and movers, servers and nodes are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from asyncio import IncompleteReadError
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.integration._evidence import write_evidence
from tests.integration._server import TRANSFER, Person, Server, Wire, serving, settle_all
from tests.integration.test_graphql_holds import CAPTURE, PLACE, VOID
from tests.integration.test_postgres_moves import PROGRAM, STEPS
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres.placement import GONE, SERVING
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.books.audit import audit
from wallet_gql.domain.ids import AccountId
from wallet_gql.domain.model import Account
from wallet_gql.testing.books import scan_all
from wallet_gql.testing.patience import patience, until
from wallet_gql.testing.servers.keeper import keep
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresServer
from wallet_gql.testing.servers.process import free_port, is_stopped
from wallet_gql.testing.servers.redis import FORBIDDEN, RedisServer

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres"), pytest.mark.trial]

CLIENTS: Final = 32
MONEY_MINOR: Final = 1_000_000
THINKING_SECONDS: Final = 1.0
"""How long a client waits after each answer, so that the machine is not the limit."""

WAIT_SECONDS_MAX: Final = 2.0
"""How long a request may take while slots move and nothing is killed."""

SETTLED_SECONDS: Final = 5.0
"""How long after the last process has returned everything must be answered."""

BEAT_SECONDS: Final = 0.3
"""How long a mover goes on after it was stopped, before it is killed."""

SEEDS: Final = "1-100"
"""Of the soak. `WALLET_SOAK_SEEDS` names others, so that its trials can run side by side."""

TO_COME_BACK: Final = {"UNAVAILABLE", "NODE_UNAVAILABLE", "IN_DOUBT", "CONTENDED"}
"""The last is what a machine answers that is too busy for the time given; no trial of the evidence has met it."""
BROKEN: Final = "broken connection"


@dataclass(frozen=True, slots=True)
class Nodes:
    """Three nodes and a fourth, and the Redis of those that work by leases. Nobody else uses them: they are killed."""

    cluster: PostgresCluster
    fourth: PostgresServer
    redis: RedisServer | None = None

    def storage(self, database: str) -> str:
        """The three as a server's setting."""
        nodes = self.cluster.url(database)
        return nodes if self.redis is None else f"{self.redis.url()},{nodes}"

    @property
    def steps(self) -> Sequence[str]:
        """Where a mover can be stopped."""
        return STEPS if self.redis is None else (*STEPS, "moves.announced")


BY_COMMIT: Final = "two-phase commit"
BY_LEASES: Final = pytest.param(
    "leases", marks=[pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.soak]
)
by_commit = pytest.mark.parametrize("nodes", [BY_COMMIT], indirect=True)
by_each = pytest.mark.parametrize("nodes", [BY_COMMIT, BY_LEASES], indirect=True)


class Window(NamedTuple):
    """Where the mover is stopped, and who is killed there: the mover, a server or a node."""

    step: str
    victim: str
    hit: int = 2


VICTIMS: Final = ("mover", "server", "node")
ADDING: Final = (
    Window("moves.joined", "mover", 1),
    Window("moves.told", "mover"),
    *map(Window, STEPS, cycle(VICTIMS)),
)
DRAINING: Final = (
    *(Window(one.step, "mover") for one in ADDING if one.victim != "mover"),
    Window("moves.copied", "server"),
    Window("moves.activated", "node"),
    Window("moves.drained", "mover", 1),
)


@dataclass(slots=True)
class Asked:
    """One request and what came of it. Times are of the monotonic clock."""

    token: str
    document: str
    given: dict[str, Any]
    began: float
    ended: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Told:
    """What all clients have seen: the codes of answers that they came back from, and every request."""

    codes: Counter[str] = field(default_factory=Counter)
    asked: list[Asked] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    """When a killed process was there again."""

    def longest(self) -> float:
        """How long a request took at most."""
        return max(one.ended - one.began for one in self.asked)

    def latest(self) -> float:
        """How long after the last process had returned a request was answered that had begun before."""
        waits = [0.0]
        for one in self.asked:
            back = [moment for moment in self.returned if one.began < moment < one.ended]
            waits += [one.ended - max(back)] if back else []
        return max(waits)


class Client:
    """Somebody who pays, reserves money, and repeats earlier requests, at one server or the other."""

    def __init__(self, me: Person, everybody: Sequence[Person], urls: Sequence[str], told: Told, seed: int) -> None:
        self.me = me
        self.paid: Counter[str] = Counter()
        """How much to each of the others, by username, in cents."""
        self._others = [person for person in everybody if person is not me]
        self._urls = urls
        self._told = told
        self._drawn = random.Random(f"{seed} {me.username}")
        self._wires: dict[str, Wire] = {}
        self._done: list[Asked] = []
        self._count = 0

    async def work(self, ended: Callable[[], bool]) -> None:
        """One request after the other, each until it is answered."""
        turns = (self._pay, self._reserve, self._again)
        try:
            while not ended():
                await self._drawn.choice(turns)()
                await asyncio.sleep(THINKING_SECONDS)
            for earlier in self._drawn.sample(self._done, min(5, len(self._done))):
                await self._repeat(earlier)
        finally:
            for wire in self._wires.values():
                wire.drop()

    def _key(self) -> str:
        self._count += 1
        return f"{self.me.username}-{self._count}"

    async def _pay(self) -> None:
        payee, amount = self._drawn.choice(self._others), self._drawn.randint(1, 9)
        await self._first(self.me, TRANSFER, self.me.pay(payee.username, amount, self._key()))
        self.paid[payee.username] += amount

    async def _reserve(self) -> None:
        """A hold, which the payee takes or releases."""
        payee = self._drawn.choice(self._others)
        placed = await self._first(self.me, PLACE, self.me.pay(payee.username, 3, self._key()))
        given = {"holdId": placed.answer["hold"]["id"], "idempotencyKey": self._key()}
        if self._drawn.random() < 0.5:
            await self._first(payee, VOID, given)
            return
        await self._first(payee, CAPTURE, given)
        self.paid[payee.username] += 3

    async def _again(self) -> None:
        if self._done:
            await self._repeat(self._drawn.choice(self._done))

    async def _repeat(self, earlier: Asked) -> None:
        """The answer of a key is the same for ever, but for what says that it is a repetition, and the balance now."""
        again = await self._ask(earlier.token, earlier.document, earlier.given)
        assert again.answer["replayed"], again
        assert _kept(again.answer) == _kept(earlier.answer)

    async def _first(self, who: Person, document: str, given: dict[str, Any]) -> Asked:
        found = await self._ask(who.token, document, given)
        assert found.answer["__typename"].endswith("Success"), (given, found.answer)
        self._done.append(found)
        return found

    async def _ask(self, token: str, document: str, given: dict[str, Any]) -> Asked:
        """Ask, and again under the same key as long as the answer says so, or the connection breaks."""
        one = Asked(token, document, given, time.monotonic())
        self._told.asked.append(one)
        while True:
            code, answer = await self._once(self._drawn.choice(self._urls), one)
            if not code:
                break
            assert code in {*TO_COME_BACK, BROKEN}, (given, code, answer)
            self._told.codes[code] += 1
            await asyncio.sleep(0.05)
        one.ended, one.answer = time.monotonic(), answer
        return one

    async def _once(self, url: str, one: Asked) -> tuple[str, dict[str, Any]]:
        """The code of what went wrong, and the answer."""
        wire = self._wires.pop(url, None)
        try:
            wire = wire or await Wire.connect(url)
            _, body = await wire.ask(one.token, one.document, {"input": one.given})
        except (OSError, IncompleteReadError):
            if wire is not None:
                wire.drop()
            return BROKEN, {}
        self._wires[url] = wire
        if "errors" in body:
            return body["errors"][0]["extensions"]["code"], body
        (answer,) = body["data"].values()
        return answer.get("code", ""), answer


def _kept(answer: dict[str, Any]) -> dict[str, Any]:
    """What never changes of an answer. A hold is told as it is now."""
    hold = answer.get("hold") or {}
    return {"transfer": answer.get("transfer"), "hold": hold.get("id"), "name": answer["__typename"]}


class Site:
    """Two servers on one ledger, each on a port that it keeps."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.storage = storage
        self.ports = [free_port(), free_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self._running: dict[int, tuple[ExitStack, Server]] = {}

    def start(self, port: int) -> None:
        """Start one of them; returns when it answers."""
        stack = ExitStack()
        self._running[port] = (
            stack,
            stack.enter_context(serving(self.folder, "--port", str(port), storage=self.storage)),
        )

    def lose(self, port: int) -> None:
        """Kill one, and start it again."""
        stack, server = self._running.pop(port)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(patience(30))
        stack.close()
        self.start(port)

    def stop(self) -> None:
        """End both as a service manager does."""
        for stack, _ in self._running.values():
            stack.close()
        self._running.clear()


class Trial:
    """A ledger on three nodes, a fourth that is empty, two servers, and clients at them."""

    def __init__(self, folder: Path, nodes: Nodes, seed: int) -> None:
        database = nodes.cluster.take()
        nodes.fourth.run(f"CREATE DATABASE {database}")
        self.told = Told()
        self.hit: Counter[tuple[str, str]] = Counter()
        self._drawn = random.Random(seed)
        self._nodes = [*nodes.cluster.nodes, nodes.fourth]
        self._storage = nodes.storage(database)
        self._fourth = nodes.fourth.url(database).partition("?")[0]
        self._site = Site(folder, self._storage)
        self._seed = seed
        self.clients: list[Client] = []

    @asynccontextmanager
    async def paying(self) -> AsyncIterator[None]:
        """Clients are at work meanwhile. At the end everything has been answered, and the books agree with it."""
        people = await asyncio.to_thread(settle_all, self._storage, *[MONEY_MINOR] * CLIENTS)
        for port in self._site.ports:
            await asyncio.to_thread(self._site.start, port)
        ended = asyncio.Event()
        self.clients = [Client(one, people, self._site.urls, self.told, self._seed) for one in people]
        working = [asyncio.create_task(client.work(ended.is_set)) for client in self.clients]
        try:
            yield
            ended.set()
            await asyncio.gather(*working)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            await asyncio.to_thread(self._site.stop)
        await self._prove()

    async def _prove(self) -> None:
        paid = sum((client.paid for client in self.clients), Counter[str]())
        async with open_store(self._storage, migrates=False) as store:
            assert isinstance(store, PgStore)
            while (await store.recover(1_000)).credited:
                pass
            report = await audit(store)
            assert report.clean, report.findings[0]
            assert report.transfers == CLIENTS + len(self._keys(TRANSFER) | self._keys(CAPTURE))
            members = {name: member.state for name, member in store.placement.members.items()}
            assert (members["n2"], members["n4"]) == (GONE, SERVING)
            accounts = {one.id: one for one in await scan_all(store, "account") if isinstance(one, Account)}
        for client in self.clients:
            account = accounts[AccountId(client.me.account_id)]
            left = MONEY_MINOR + paid[client.me.username] - client.paid.total()
            assert (account.posted_minor, account.held_minor) == (left, 0), client.me.username

    def _keys(self, document: str) -> set[str]:
        return {one.given["idempotencyKey"] for one in self.told.asked if one.document == document}

    async def through(self, words: str, windows: Sequence[Window]) -> None:
        """A command of `wallet-gql nodes`, of which each window loses a mover; then once more, to its end."""
        for window in windows:
            await self._suffer(words, window)
        with self._mover("rebalance" if windows else words) as mover:
            said = await asyncio.to_thread(mover.communicate)
        assert mover.returncode == 0, said

    async def _suffer(self, words: str, window: Window) -> None:
        """Let a mover come to the window, kill the victim there, and let it start again."""
        stops = window.victim != "mover"
        with self._mover(words, f"{window.step}={'stop' if stops else 'kill'}@{window.hit}") as mover:
            await until(lambda: mover.poll() is not None or (stops and is_stopped(mover.pid)), 60, str(window))
            if mover.poll() not in (None, -signal.SIGKILL):
                return
            if window.victim == "server":
                await asyncio.to_thread(self._site.lose, self._drawn.choice(self._site.ports))
            elif window.victim == "node":
                node = self._drawn.choice(self._nodes)
                await asyncio.to_thread(node.kill)
                await asyncio.to_thread(node.restart)
            self.told.returned.append(time.monotonic())
            self.hit[window.step, window.victim] += 1
            if stops:
                mover.send_signal(signal.SIGCONT)
                await asyncio.sleep(BEAT_SECONDS)
                mover.kill()
                await asyncio.to_thread(mover.communicate)
                self.told.returned.append(time.monotonic())

    @contextmanager
    def _mover(self, words: str, killed_at: str = "") -> Iterator[subprocess.Popen[str]]:
        """The command line, in a process of its own."""
        settings = {"WALLET_STORAGE": self._storage, "WALLET_MODE": "test", "KILLED_AT": killed_at}
        asked = f"{words.replace('URL', self._fourth)} --share 1".split()
        command = [sys.executable, "-c", PROGRAM, "nodes", *asked]
        pipe = subprocess.PIPE
        mover = subprocess.Popen(command, env={**os.environ, **settings}, stdout=pipe, stderr=pipe, text=True)
        keep(mover.pid)
        with mover:
            try:
                yield mover
            finally:
                mover.kill()


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """Nodes of the kind that the test names."""
    leases = request.param != BY_COMMIT
    settings = FORBIDDEN if leases else {}
    with ExitStack() as stack:
        cluster, fourth = PostgresCluster(3, settings), PostgresServer("n4", settings)
        stack.callback(cluster.stop)
        stack.callback(fourth.stop)
        redis = RedisServer() if leases else None
        if redis is not None:
            stack.callback(redis.stop)
        made = Nodes(cluster, fourth, redis)
        yield made


@by_commit
async def test_everything_is_lost_at_every_step(nodes: Nodes, tmp_path: Path) -> None:
    """A mover at each, and a server or a node at some: nothing is missing or doubled, and all is soon answered."""
    trial = Trial(tmp_path, nodes, seed=1)
    async with trial.paying():
        await trial.through("add n4 URL", ADDING)
        await trial.through("drain n2", DRAINING)
    assert trial.hit == Counter((one.step, one.victim) for one in (*ADDING, *DRAINING))
    assert trial.told.latest() <= patience(SETTLED_SECONDS)


@pytest.mark.soak
@by_each
async def test_nobody_waits_long_for_a_move(nodes: Nodes, tmp_path: Path) -> None:
    """Nothing is killed: three nodes, four, and three again."""
    trial = Trial(tmp_path, nodes, seed=2)
    async with trial.paying():
        await trial.through("add n4 URL", ())
        await trial.through("drain n2", ())
    assert trial.told.longest() <= patience(WAIT_SECONDS_MAX)


def drawn(rng: random.Random, steps: Sequence[str], count: int) -> list[Window]:
    """Windows at random."""
    return [Window(rng.choice(steps), rng.choice(VICTIMS), rng.randint(1, 5)) for _ in range(count)]


@pytest.mark.soak
@pytest.mark.timeout(0)
@by_each
async def test_everything_is_lost_anywhere(nodes: Nodes, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Many trials; each loses eight processes somewhere. A window that the move does not come to is left out."""
    hit: Counter[tuple[str, str]] = Counter()
    codes: Counter[str] = Counter()
    requests, latest = 0, 0.0
    first, _, last = os.environ.get("WALLET_SOAK_SEEDS", SEEDS).partition("-")
    for count, seed in enumerate(range(int(first), int(last) + 1), 1):
        folder, rng = tmp_path / str(seed), random.Random(seed)
        folder.mkdir()
        trial = Trial(folder, nodes, seed=seed)
        async with trial.paying():
            await trial.through("add n4 URL", drawn(rng, nodes.steps, 4))
            await trial.through("drain n2", drawn(rng, nodes.steps, 4))
        assert trial.told.latest() <= patience(SETTLED_SECONDS), f"seed {seed}"
        hit, codes = hit + trial.hit, codes + trial.told.codes
        requests, latest = requests + len(trial.told.asked), max(latest, trial.told.latest())
        rows = [f"| {victim} at {step} | {times} |" for (step, victim), times in sorted(hit.items())]
        told = ", ".join(f"{times:,} {code}" for code, times in codes.most_common())
        text = (
            f"{count} trials (seeds {first} to {seed}), each from three nodes to four and to three again, {CLIENTS} "
            f"clients at two servers: {requests:,} requests were answered, none was lost or done twice; the books were "
            f"clean each time. On the way they were answered: {told or 'nothing else'}. Of those begun before a "
            f"process was there again, the last was answered {latest:.2f} s after that.\n\n"
        )
        table = "\n".join(["| killed | times |", "|---|---:|", *rows])
        kind = request.node.callspec.params["nodes"]
        ending = "" if kind == BY_COMMIT else f"-{kind}"
        command = f"make soak ARGS='-k \"lost_anywhere and {kind.split()[0]}\"'"
        write_evidence(
            f"moves-over-http{ending}", f"Nodes that come and go under kills, by {kind}", command, text + table
        )
