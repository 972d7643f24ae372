"""What is measured for operators: Prometheus metrics, those of all processes of a server together.

Nothing is measured until `start`. Each process then writes its values to files of its own in one folder, and
`serving` sums the files of all processes when it is asked. The values of a process that has ended still count, except
those of a `Level`.

Everything is collected in memory, and `flush` writes it: writing each value at once would cost some percent of a
request, and a file that cannot be written must not fail a payment. So the last moment of a process that is killed is
lost. Metrics are not safe for threads: the event loop's thread counts and flushes.
"""

from __future__ import annotations

import logging
import math
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, ClassVar, Final, Literal

from .background import log_once_a_minute
from .processes import lives

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.25
"""How often a process flushes."""

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""How `prometheus_client` is told the folder. Only `start` says whether anything is measured."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
LONG_SECONDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)


class Metric(ABC):
    """One metric. Values of labels are given in the order of `labels`, from small sets: each makes a time series."""

    kind: ClassVar[str]

    def __init__(self, name: str, about: str, *labels: str, **options: object) -> None:
        """`about` is its description for operators; `options` are those of the class of `prometheus_client`."""
        self.name = name
        self.about = about
        self.labels = labels
        self._options = options
        self._whole: Any = None
        self._parts: dict[tuple[str, ...], Any] = {}
        self._waiting: dict[tuple[str, ...], Any] = {}
        """What `flush` will write, by labels."""

    def open(self, library: Any) -> None:
        """Begin to measure."""
        kind = getattr(library, self.kind)
        self._whole = kind(self.name, self.about, self.labels, registry=None, **self._options)

    def close(self) -> None:
        """Measure no more."""
        self._whole = None
        self._parts = {}
        self._waiting = {}

    def flush(self) -> None:
        """Write what was collected. Raises whatever the library raises if its files cannot be written."""
        waiting, self._waiting = self._waiting, {}
        for labels, value in waiting.items():
            self._write(self.part(labels), value)

    @abstractmethod
    def _write(self, part: Any, value: Any) -> None:
        """Write what was collected for one series."""

    def part(self, labels: tuple[str, ...]) -> Any:
        """The series with these labels. They are kept, because the library takes longer to find them."""
        found = self._parts.get(labels)
        if found is None:
            found = self._parts[labels] = self._whole.labels(*labels) if labels else self._whole
        return found


class Count(Metric):
    """How often something happened."""

    kind = "Counter"

    def __init__(self, name: str, about: str, *labels: str) -> None:
        super().__init__(name, about, *labels)
        self._expected: set[tuple[str, ...]] = set()

    def expect(self, *labels: str) -> None:
        """`serving` shows this series from its start, at zero. Without that, `increase` misses what happens first."""
        self._expected.add(labels)

    def show_expected(self) -> None:
        """Let the next `flush` write the expected series."""
        self._waiting.update(dict.fromkeys(self._expected, 0))

    def add(self, *labels: str) -> None:
        """It happened once more."""
        if self._whole is not None:
            self._waiting[labels] = self._waiting.get(labels, 0) + 1

    def _write(self, part: Any, value: Any) -> None:
        part.inc(value)


class Spread(Metric):
    """How values are distributed over `buckets`, which are upper bounds."""

    kind = "Histogram"

    def __init__(self, name: str, about: str, *labels: str, buckets: tuple[float, ...]) -> None:
        super().__init__(name, about, *labels, buckets=buckets)
        self._bounds = buckets

    def note(self, value: float, *labels: str) -> None:
        """Count a value. The next flush sorts what came until then into buckets."""
        if self._whole is not None:
            try:
                self._waiting[labels].append(value)
            except KeyError:
                self._waiting[labels] = [value]

    def _write(self, part: Any, value: Any) -> None:
        part._sum.inc(sum(value))  # noqa: SLF001 - the library itself takes one value at a time
        value.sort()
        below = 0
        for bucket, bound in zip(part._buckets, (*self._bounds, math.inf), strict=True):  # noqa: SLF001 - same
            up_to = bisect_right(value, bound)
            if up_to > below:
                bucket.inc(up_to - below)
            below = up_to


class Level(Metric):
    """A value that goes up and down; it is forgotten with its process."""

    kind = "Gauge"

    def __init__(
        self, name: str, about: str, *labels: str, of_all: Literal["livesum", "livemax", "livemostrecent"]
    ) -> None:
        """`of_all` says how the values of several processes make one."""
        super().__init__(name, about, *labels, multiprocess_mode=of_all)
        self._values: dict[tuple[str, ...], float] = {}

    def close(self) -> None:
        """See `Metric.close`."""
        super().close()
        self._values = {}

    def set(self, value: float, *labels: str) -> None:
        """Its value now."""
        if self._whole is not None:
            self._values[labels] = self._waiting[labels] = value

    def add(self, change: float, *labels: str) -> None:
        """A change of its value. Only for `livesum`."""
        if self._whole is not None:
            self._values[labels] = self._waiting[labels] = self._values.get(labels, 0) + change

    def _write(self, part: Any, value: Any) -> None:
        part.set(value)


ANSWERS: Final = Count(
    "wallet_answers",
    "Answers by operation and code; OK is a success. Operations in one GraphQL document count one by one.",
    "api",
    "verb",
    "code",
)
ANSWER_SECONDS: Final = Spread(
    "wallet_answer_seconds",
    "How long requests took; one with several operations counts for its first.",
    "api",
    "verb",
    buckets=SECONDS,
)
BATCH_COMMANDS: Final = Spread("wallet_batch_commands", "How many commands one commit had.", buckets=SIZES)
COMMIT_SECONDS: Final = Spread("wallet_commit_seconds", "How long commits of the store took.", buckets=SECONDS)
CONNECTIONS: Final = Level(
    "wallet_store_connections", "Connections to the store in use.", "node", "pool", of_all="livesum"
)
CONNECTIONS_MAX: Final = Level(
    "wallet_store_connections_max", "How many may be in use.", "node", "pool", of_all="livesum"
)
CONNECTION_SECONDS: Final = Spread(
    "wallet_store_connection_seconds", "How long requests waited for a connection.", "node", "pool", buckets=SECONDS
)
WRITABLE: Final = Level("wallet_store_writable", "Whether all of the store can write: 1 or 0.", of_all="livemostrecent")
BOOKS_OFF: Final = Level(
    "wallet_books_off_minor",
    "The sum of all entries of a node, which must be zero, in minor units.",
    "node",
    "currency",
    of_all="livemostrecent",
)
BOOKS_AT: Final = Level(
    "wallet_books_timestamp_seconds",
    "When the books of all nodes were last summed; until they have been, when the server began to sum them.",
    of_all="livemax",
)
BOOKS_SECONDS: Final = Level(
    "wallet_books_seconds",
    "The pause between two sums of the books, as set by `WALLET_BOOKS_SECONDS`.",
    of_all="livemax",
)
IN_DOUBT: Final = Level(
    "wallet_in_doubt", "Commits over several nodes that are not settled on this one.", "node", of_all="livemostrecent"
)
INTENTS: Final = Level(
    "wallet_intents",
    "Decided credits of this node to others that they have not confirmed.",
    "node",
    of_all="livemostrecent",
)
PENDING_CREDITS: Final = Level(
    "wallet_pending_credits", "Credits on this node that have no entry yet.", "node", of_all="livemostrecent"
)
UNSETTLED_SECONDS: Final = Level(
    "wallet_unsettled_seconds",
    "The age of the oldest commit in doubt, intent or pending credit of a node.",
    "node",
    of_all="livemostrecent",
)
CLOCK_SECONDS: Final = Level(
    "wallet_store_clock_seconds", "The clock of a node minus that of this server.", "node", of_all="livemostrecent"
)
OVERDUE_SECONDS: Final = Level(
    "wallet_overdue_seconds",
    "For how long the oldest due record of a kind has waited for a sweep; kind `delivery`: events to merchants.",
    "kind",
    of_all="livemostrecent",
)
SWEPT_AT: Final = Level(
    "wallet_swept_timestamp_seconds",
    "When a sweep last succeeded; until it has, when the server started to sweep.",
    "sweep",
    of_all="livemax",
)
SWEEP_SECONDS: Final = Level(
    "wallet_sweep_seconds", "The pause between two sweeps, as set by `WALLET_SWEEP_SECONDS`.", of_all="livemax"
)
SWEEP_FAILURES: Final = Count("wallet_sweep_failures", "Sweeps that failed.", "sweep")
WEBHOOKS: Final = Count("wallet_webhooks", "Attempts to send an event to a merchant, by outcome.", "outcome")
WEBHOOK_AGE_SECONDS: Final = Spread(
    "wallet_webhook_age_seconds", "How old events were at an attempt to send them.", "outcome", buckets=LONG_SECONDS
)
PAYMENT_ALARMS: Final = Level(
    "wallet_payment_alarms",
    "Alarms about payments that no operator has settled yet; at most 1,000 are counted.",
    of_all="livemostrecent",
)
DEAD_LETTERS: Final = Level(
    "wallet_dead_letters", "Events that were given up; at most 1,000 are counted.", of_all="livemostrecent"
)
WORKER_DEATHS: Final = Count("wallet_worker_deaths", "Worker processes that died or were killed for not answering.")
WORKERS: Final = Level("wallet_workers", "Worker processes that have their wallet open.", of_all="livesum")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


_folder: Path | None = None


def start(folder: Path) -> None:
    """Measure from now on, into files in `folder`. Raises OSError."""
    global _folder  # noqa: PLW0603 - a process measures once
    os.environ[VARIABLE] = str(folder)
    import prometheus_client  # noqa: PLC0415 - it looks at the variable when it is loaded
    from prometheus_client import values  # noqa: PLC0415 - same

    untyped: Any = values
    untyped.ValueClass = untyped.get_value_class()  # for a process that had loaded it before
    _folder = folder
    for metric in ALL:
        metric.open(prometheus_client)


def flush() -> None:
    """Write what this process has collected since the last time. What cannot be written is logged, and lost."""
    for metric in ALL:
        try:
            metric.flush()
        except Exception as error:  # noqa: BLE001 - whatever the library raises, nobody's work depends on metrics
            text = f"metrics cannot be written: {type(error).__name__}: {error}"
            log_once_a_minute(log, logging.ERROR, "flush", text)


def start_like_parent(folder: Path | None) -> None:
    """In a worker: measure where its parent does, if it does. Without the folder, log that and measure nothing."""
    if folder is None:
        return
    try:
        start(folder)
    except OSError as error:
        stop()
        log.error("this worker measures nothing: %s", error)  # noqa: TRY400 - the reason says it all


def stop() -> None:
    """Measure no more, and close this process's files."""
    global _folder  # noqa: PLW0603 - see `start`
    for metric in ALL:
        metric.close()
    if _folder is not None:
        _folder = None
        del os.environ[VARIABLE]
        from prometheus_client import values  # noqa: PLC0415 - after `start`

        untyped: Any = values
        untyped.close_all_multiprocess_files()


def folder() -> Path | None:
    """The folder of this process's metrics; None if nothing is measured."""
    return _folder


@contextmanager
def serving(host: str, port: int) -> Iterator[int]:
    """Measure, and serve the metrics of this process and its children over HTTP; port 0 picks a free one.

    Yields the port. Raises OSError if it cannot be had.
    """
    with TemporaryDirectory(prefix="wallet-metrics-", ignore_cleanup_errors=True) as name:
        start(Path(name))
        for metric in ALL:
            if isinstance(metric, Count):
                metric.show_expected()
        flush()
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - after `start`

        registry = CollectorRegistry()
        registry.register(_Together(Path(name)))
        try:
            server, thread = start_http_server(port, host, registry)
            try:
                yield server.server_port
            finally:
                server.shutdown()
                server.server_close()
                thread.join()
        finally:
            stop()


_ENDED: Final = 0
"""Stands for the processes that have ended, in the names of files."""


class _Together:
    """The metrics of all processes that write into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = Lock()
        """Requests for metrics are answered in threads."""

    def describe(self) -> Iterable[Any]:
        """Nothing, so that registering it does not collect."""
        return ()

    def collect(self) -> Iterable[Any]:
        """All metrics; levels only of processes that live."""
        from prometheus_client import multiprocess  # noqa: PLC0415 - after `start`

        untyped: Any = multiprocess
        with self._turn:
            for path in self._folder.glob("*_*.db"):
                pid = int(path.stem.rpartition("_")[2])
                if pid != _ENDED and not lives(pid):
                    self._fold(path)
            # a file that a process has just begun is empty
            begun = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
            found: Iterable[Any] = untyped.MultiProcessCollector.merge(begun)
        return found

    def _fold(self, path: Path) -> None:
        """Add a file of a process that has ended to the one of all such processes. Levels are forgotten."""
        from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - after `start`

        untyped: Any = MmapedDict
        kind = path.name.partition("_")[0]
        if kind != "gauge" and path.stat().st_size:  # it is empty if the process was killed while making it
            with closing(untyped(str(self._folder / f"{kind}_{_ENDED}.db"))) as ended:
                for key, value, _, _ in untyped.read_all_values_from_file(str(path)):
                    ended.write_value(key, ended.read_value(key)[0] + value, 0.0)
        path.unlink()
