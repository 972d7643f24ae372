"""Alarms and dashboard: every query has its metrics, every alarm a page, and the worst of them go off."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import re
import resource
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import AsyncMock

import httpx
import pytest

from tests.integration._alarms import ALERTS, ROOT, RULES, fires, promtool
from tests.integration._metrics import Scrape, touch
from wallet_gql import background, metrics
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.sqlite import connection as sqlite
from wallet_gql.backends.sqlite.store import SqliteStore
from wallet_gql.domain.changes import Changes, Decision, Scope
from wallet_gql.domain.errors import NodeUnavailable
from wallet_gql.domain.ids import slot_of
from wallet_gql.domain.merchants import delivery_key
from wallet_gql.domain.model import Record
from wallet_gql.domain.payments import Alarm
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.webhooks.dead_letters import DEAD
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.storage import PAGE_MAX, NodeVitals
from wallet_gql.survey import Survey
from wallet_gql.testing.harness import HARNESSES, Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import World
from wallet_gql.transports.catalogue.operations import OPERATIONS
from wallet_gql.transports.http.record import RequestRecord
from wallet_gql.verbs.ledger import utc_now

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "wallet.json"
PAGE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

_SELECTOR: Final = re.compile(r"(?P<name>wallet_\w+)(\{(?P<matchers>[^}]*)\})?")
_GROUPING: Final = re.compile(r"\bby \(([^)]*)\)")

PANELS: Final = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
DRAWN: Final = [target["expr"] for panel in PANELS for target in panel["targets"]]


def queries() -> list[str]:
    """All queries of the rules and of the dashboard."""
    return [*(rule["expr"] for rule in ALERTS.values()), *DRAWN]


def metrics_of(asked: Iterable[str]) -> set[str]:
    """The metrics that queries name; `up` is Prometheus's own."""
    names = {name for query in asked for name in re.findall(r"\b(?:wallet_\w+|up)\b", query)}
    names = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in names}
    return {name.removesuffix("_total") for name in names}


@pytest.fixture
def measured() -> Iterator[Callable[[], Scrape]]:
    """Metrics of this process; the result scrapes them."""
    with metrics.serving("127.0.0.1", 0) as port:

        def scraped() -> Scrape:
            metrics.flush()
            return Scrape(httpx.get(f"http://127.0.0.1:{port}/metrics").text)

        yield scraped


@pytest.fixture(autouse=True)
def _every_cause_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


def test_every_query_asks_for_metrics_and_labels_that_are_scraped(measured: Callable[[], Scrape]) -> None:
    """Each name is that of a sample, with these labels, in a scrape where every metric has been touched."""
    for metric in metrics.ALL:
        touch(metric)
    found = measured()
    labels_of = {name: {label for label, _ in next(iter(samples))} for name, samples in found.samples.items()}
    for query in queries():
        grouped = {label for text in _GROUPING.findall(query) for label in re.findall(r"\w+", text)}
        for selector in _SELECTOR.finditer(query):
            used = {name for name, _ in re.findall(r"(\w+)(=~|!=|=)", selector["matchers"] or "")}
            assert used | grouped <= labels_of[selector["name"]] | {"instance"}, query
    subprocess.run([promtool(), "check", "rules", str(RULES)], check=True)


def test_every_metric_has_a_panel() -> None:
    """Whoever an alarm calls sees its metric on the dashboard, as all others."""
    assert metrics_of(DRAWN) == {metric.name for metric in metrics.ALL} | {"up"}
    for name, rule in ALERTS.items():
        assert metrics_of([rule["expr"]]), name
        assert metrics_of([rule["expr"]]) <= metrics_of(DRAWN), name


def test_every_panel_is_drawn_at_its_own_place(tmp_path: Path) -> None:
    """No two have one id, none covers another, and Prometheus understands every query."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(DRAWN)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # which is YAML, too
    subprocess.run([promtool(), "check", "rules", str(file)], check=True)


def test_every_alarm_has_a_page_that_names_its_metric() -> None:
    """The run-book says which metric and which log line belong to it; no section is left without an alarm."""
    sections = dict(re.findall(r"^## (Wallet\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert sections.keys() == ALERTS.keys()
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "log line" in sections[name].lower()
        for selector in _SELECTOR.finditer(rule["expr"]):
            assert re.sub(r"_(bucket|max)$", "", selector["name"]) in sections[name]


def answered(code: str) -> Callable[[str, str], None]:
    """An operation that is answered with this code."""

    def answer(api: str, verb: str) -> None:
        record = RequestRecord(api, (verb,))
        record.fail(code)
        record.end(None)

    return answer


@pytest.mark.parametrize(
    ("alert", "operations", "happens"),
    [
        ("WalletBugs", [*OPERATIONS, "-"], answered("INTERNAL")),
        ("WalletInDoubt", [one.name for one in OPERATIONS.values() if not one.reads], answered("IN_DOUBT")),
        ("WalletWorkerDied", ["-"], lambda *_: metrics.WORKER_DEATHS.add()),
        ("WalletDeadLetters", ["-"], lambda *_: metrics.WEBHOOKS.add("given_up")),
    ],
)
def test_the_first_time_already_raises_the_alarm(
    alert: str, operations: Iterable[str], happens: Callable[[str, str], None], measured: Callable[[], Scrape]
) -> None:
    """An increase is seen only where the series was there before: so every one of them is, from the start."""
    before = measured()
    assert not fires(alert, before, before)
    for api, verb in itertools.product(("graphql", "rest"), operations):
        happens(api, verb)
    after = measured()
    assert fires(alert, after, before)
    assert all(labels in before.samples[name] for name, found in after.samples.items() for labels in found)


def test_every_alarm_is_provoked() -> None:
    """Some test here sees each of the rules go off; the one above has all that compare two moments."""
    (mark,) = (mark for mark in test_the_first_time_already_raises_the_alarm.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]  # pytest's own
    first = {row[0] for row in mark.args[1]}
    assert first == {name for name, rule in ALERTS.items() if "increase(" in rule["expr"]}
    text = Path(__file__).read_text(encoding="utf-8")
    assert first | set(re.findall(r'assert fires\("(\w+)"', text)) == ALERTS.keys()


def test_answers_that_are_late_or_turned_away(measured: Callable[[], Scrape]) -> None:
    """One of fifty is enough; one of a thousand is not."""

    def answer(times: int, code: str, seconds: float) -> None:
        for _ in range(times):
            record = RequestRecord("rest", ("transfer",))
            if code:
                record.fail(code)
            record.end(seconds)

    answer(1, "", 0.01)
    answer(1, "UNAVAILABLE", 0.01)
    before = measured()
    answer(999, "", 0.01)
    answer(1, "UNAVAILABLE", 2.0)
    few = measured()
    assert not fires("WalletUnavailable", few, before)
    assert not fires("WalletSlow", few, before)
    answer(50, "UNAVAILABLE", 2.0)
    many = measured()
    assert fires("WalletUnavailable", many, few)
    assert fires("WalletSlow", many, few)


def test_a_server_that_has_ended(measured: Callable[[], Scrape]) -> None:
    """Prometheus itself notes whether it got metrics; here whether the address answers says so."""
    del measured
    with metrics.serving("127.0.0.1", 0) as port:
        assert not fires("WalletDown", scraped_at(port))
    assert fires("WalletDown", scraped_at(port))


def scraped_at(port: int) -> Scrape:
    """What Prometheus notes of a scrape."""
    try:
        up = httpx.get(f"http://127.0.0.1:{port}/metrics").is_success
    except httpx.ConnectError:
        up = False
    return Scrape(f"# TYPE up gauge\nup {int(up)}\n")


async def test_no_worker_has_its_store(measured: Callable[[], Scrape]) -> None:
    """Until a worker has opened its store, the alarm is on."""
    assert fires("WalletNoWorker", await asyncio.to_thread(measured))
    async with open_wallet(load_settings(storage="memory://", mode="test")):
        await asyncio.sleep(0)
        assert not fires("WalletNoWorker", await asyncio.to_thread(measured))


@pytest.mark.trial
@pytest.mark.backend("postgres")
@pytest.mark.service("postgres")
async def test_all_connections_are_in_use(measured: Callable[[], Scrape], harness: Harness, tmp_path: Path) -> None:
    """The store is opened while it is measured, and commands hold all its connections."""
    async with World(harness, tmp_path) as world, AsyncExitStack() as stack:
        assert isinstance(world.store, PgStore)
        node = world.store._nodes["n1"]
        await world.people(1, 100)
        assert not fires("WalletPoolFull", await asyncio.to_thread(measured))
        deadline = asyncio.get_running_loop().time() + patience(30)
        for _ in range(node.pool_max):
            await stack.enter_async_context(node.connection(deadline))
        assert fires("WalletPoolFull", await asyncio.to_thread(measured))


@asynccontextmanager
async def surveyed(folder: Path) -> AsyncIterator[tuple[World, Survey]]:
    """A SQLite ledger, and a survey that sums the books each time."""
    async with World(HARNESSES["sqlite"](), folder) as world:
        survey = Survey(world.store, folder, utc_now, books_seconds=1e-9)
        try:
            yield world, survey
        finally:
            survey.close()


async def look(survey: Survey, measured: Callable[[], Scrape]) -> Scrape:
    """What the metrics say after a look."""
    await survey.look()
    await survey.sum_books()
    return await asyncio.to_thread(measured)


def lines(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged as a warning or worse."""
    return "\n".join(line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING)


async def test_books_that_do_not_sum_to_zero(
    tmp_path: Path, measured: Callable[[], Scrape], caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody changes a balance in the database: the alarm goes off, and the log names node and currency."""
    async with surveyed(tmp_path) as (world, survey):
        await world.people(2, 100)
        assert not fires("WalletBooksOff", await look(survey, measured))

        assert isinstance(world.store, SqliteStore)
        file = world.store.path

        def spoil(minor: int) -> None:
            with closing(sqlite3.connect(file, timeout=patience(30))) as connection, connection:
                one = "(SELECT min(id) FROM accounts)"
                connection.execute(f"UPDATE accounts SET posted_minor = posted_minor + {minor} WHERE id = {one}")

        await asyncio.to_thread(spoil, 5)
        assert fires("WalletBooksOff", await look(survey, measured))
        assert "the books are wrong: EUR on local sums to 5 minor units" in lines(caplog)
        await asyncio.to_thread(spoil, -5)
        assert not fires("WalletBooksOff", await look(survey, measured))


async def test_books_that_cannot_be_summed(
    tmp_path: Path, measured: Callable[[], Scrape], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot see whether the books are wrong is told; a sum that takes its time delays no other look."""
    begun = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    totals = SqliteStore.totals
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        await world.people(1, 100)
        let = asyncio.Event()

        async def slow(store: SqliteStore) -> Any:
            await let.wait()
            return await totals(store)

        with (
            monkeypatch.context() as patch,
            closing(Survey(world.store, tmp_path, lambda: begun, books_seconds=300)) as one,
        ):
            patch.setattr(SqliteStore, "totals", slow)
            summing = asyncio.create_task(one.sum_books())
            await one.look()
            found = await asyncio.to_thread(measured)
            assert not summing.done()
            assert found.sum("wallet_store_writable") == 1
            assert found.sum("wallet_books_seconds") == 300
            assert not fires("WalletBooksUnknown", found, minutes=20)
            assert fires("WalletBooksUnknown", found, minutes=30)
            let.set()
            await summing
        with closing(
            Survey(world.store, tmp_path, lambda: begun + timedelta(minutes=20), books_seconds=300)
        ) as next_one:
            assert not fires("WalletBooksUnknown", await look(next_one, measured), minutes=30)


async def test_a_server_that_sums_no_books_is_not_late(tmp_path: Path, measured: Callable[[], Scrape]) -> None:
    """Another server of the ledger does it."""
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        assert not fires("WalletBooksUnknown", await asyncio.to_thread(measured), minutes=60)  # before the first look
        with closing(Survey(world.store, tmp_path, utc_now, books_seconds=0)) as survey:
            assert not fires("WalletBooksUnknown", await look(survey, measured), minutes=60)


async def test_alarms_about_payments(
    tmp_path: Path, measured: Callable[[], Scrape], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only an operator can settle reaches one, for as long as nobody has settled it; then no more."""
    monkeypatch.setattr("wallet_gql.survey._COUNT_SECONDS", 0.0)
    async with surveyed(tmp_path) as (world, survey):
        assert not fires("WalletPaymentAlarms", await look(survey, measured))
        desk = Desk(world.store, utc_now, lambda: 1)
        for _ in range(2):
            await desk.alarm(Alarm("ch_1", "it has another amount than was asked for"))
        found = await look(survey, measured)
        assert found.sum("wallet_payment_alarms") == 1
        assert fires("WalletPaymentAlarms", found)
        assert "payments need an operator: ch_1" in lines(caplog)
        later = utc_now() + timedelta(days=100)
        survey.close()
        with closing(Survey(world.store, tmp_path, lambda: later, books_seconds=0)) as another:
            assert fires("WalletPaymentAlarms", await look(another, measured))
            (raised,) = await desk.alarms()
            await desk.settle(raised.id, "refunded at Stripe")
            found = await look(another, measured)
            assert found.sum("wallet_payment_alarms") == 0
            assert not fires("WalletPaymentAlarms", found)


async def test_counting_alarms_costs_no_more_than_the_open_ones(
    tmp_path: Path, measured: Callable[[], Scrape], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled ones are not read, and of very many open ones only some."""
    monkeypatch.setattr("wallet_gql.survey._COUNT_SECONDS", 0.0)
    monkeypatch.setattr("wallet_gql.survey._ALARMS_MAX", 2 * PAGE_MAX)
    async with surveyed(tmp_path) as (world, survey):
        desk = Desk(world.store, utc_now, lambda: 1)
        for number in range(3 * PAGE_MAX):
            await desk.alarm(Alarm(f"ch_{number}", "it is in USD, not EUR"))
        listed = AsyncMock(side_effect=world.store.list_records)
        monkeypatch.setattr(world.store, "list_records", listed)
        assert (await look(survey, measured)).sum("wallet_payment_alarms") == 2 * PAGE_MAX
        assert listed.await_count == 2
        for one in await desk.alarms():
            await desk.settle(one.id, "refunded at Stripe")
        listed.reset_mock()
        assert (await look(survey, measured)).sum("wallet_payment_alarms") == 0
        assert listed.await_count == 1


@contextmanager
def read_only() -> Iterator[None]:
    """Connections that cannot write, as on a file system that was mounted again without the right to write."""
    connect = sqlite.connect

    def restricted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA query_only = 1")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "connect", restricted)
        yield


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def node_away() -> Iterator[None]:
    """One of several nodes cannot write; `/readyz` is no reason to look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteStore, "ping", AsyncMock(return_value={"n2": NodeUnavailable("n2")}))
        yield


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(read_only, "readonly database"), (full_disk, "disk I/O error"), (node_away, "does not answer")],
)
async def test_a_store_that_cannot_write(
    trouble: Callable[[], Any],
    reason: str,
    tmp_path: Path,
    measured: Callable[[], Scrape],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The alarm goes off and the log has the reason, in words of the page; afterwards it is over by itself."""
    async with surveyed(tmp_path) as (_world, survey):
        assert not fires("WalletCannotWrite", await look(survey, measured))
        with trouble():
            await survey.look()
        assert fires("WalletCannotWrite", await asyncio.to_thread(measured))
        logged = lines(caplog)
        assert "the check whether the store can write will be tried again" in logged
        assert reason in logged
        assert f"`{reason}`" in PAGE
        assert not fires("WalletCannotWrite", await look(survey, measured))


@pytest.mark.parametrize("kind", ["delivery", "session"])
async def test_what_nobody_sends_or_sweeps(kind: str, tmp_path: Path, measured: Callable[[], Scrape]) -> None:
    """A record that has been due for long: of events the alarm of webhooks goes off, of others that of sweeps."""
    async with surveyed(tmp_path) as (world, survey):
        (ann,) = await world.people(1, 100)
        key = delivery_key(ann.id)._replace(kind=kind)
        due_at = utc_now() - timedelta(minutes=10)
        record = Record(key.kind, key.id, slot_of(ann.id), ann.id, 1, {}, due_at)
        write = partial(Decision, Changes(records=(record,)), None)
        await world.store.execute(Scope(key.slot, records=(key,)), lambda _: write())
        found = await look(survey, measured)
        assert found.sum("wallet_overdue_seconds", kind=kind) >= 600
        assert found.sum("wallet_overdue_seconds", kind="hold") == 0
        if kind == "delivery":
            assert fires("WalletWebhookLag", found)
            assert not fires("WalletOverdue", found)
        else:
            assert fires("WalletOverdue", found)
            assert not fires("WalletWebhookLag", found)


async def test_nothing_is_known_of_a_node_that_does_not_answer(
    tmp_path: Path, measured: Callable[[], Scrape], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last values would keep an alarm on, or keep it off."""
    answers: list[NodeVitals] = [NodeVitals("n1", 9.0, 1, 1, 1, 99.0), NodeVitals("n2", 0.0)]

    async def vitals(_store: object) -> list[NodeVitals]:
        return answers

    monkeypatch.setattr(SqliteStore, "vitals", vitals, raising=False)
    async with surveyed(tmp_path) as (_world, survey):
        found = await look(survey, measured)
        assert fires("WalletUnsettled", found)
        assert fires("WalletClock", found)
        del answers[0]
        found = await look(survey, measured)
        assert not fires("WalletUnsettled", found)
        assert not fires("WalletClock", found)
        for metric in (metrics.IN_DOUBT, metrics.PENDING_CREDITS, metrics.UNSETTLED_SECONDS, metrics.CLOCK_SECONDS):
            assert math.isnan(found.sum(metric.name, node="n1"))
            assert found.sum(metric.name, node="n2") == 0


async def test_dead_letters_are_counted_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting reads all of them; they stay for days."""
    read: list[str] = []
    list_due = SqliteStore.list_due

    async def noted(self: SqliteStore, kind: str, before: datetime, limit: int) -> Any:
        read.append(kind)
        return await list_due(self, kind, before, limit)

    monkeypatch.setattr(SqliteStore, "list_due", noted)
    async with surveyed(tmp_path) as (_world, survey):
        for _ in range(5):
            await survey.look()
    assert read.count(DEAD) == 1
    assert read.count("hold") == 5


async def test_a_sweep_that_never_succeeds_is_late(
    measured: Callable[[], Scrape], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sweep has its time from the start, and the rule allows for the pause in the settings.

    `promtool` asks ten minutes after the time 0, at which the sweeps here begin.
    """
    monkeypatch.setattr("wallet_gql.runtime.time", SimpleNamespace(time=lambda: 0.0))
    for pause_seconds, is_late in ((60, True), (600, False)):
        async with open_wallet(load_settings(storage="memory://", mode="test", sweep_seconds=pause_seconds)):
            await asyncio.sleep(0)
            found = await asyncio.to_thread(measured)
        assert len(found.samples["wallet_swept_timestamp_seconds"]) == 5
        assert found.sum("wallet_sweep_seconds") == pause_seconds
        assert fires("WalletSweepStuck", found) == is_late
