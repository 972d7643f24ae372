"""The driver as awaitables, and its settings: no retries of its own, explicit consistency.

The driver runs in threads of its own. It puts its answers into a queue; one wake-up of the event loop handles many.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, TypeVar

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import (
    ConstantReconnectionPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import BatchStatement, BatchType, PreparedStatement, tuple_factory

from ...domain.errors import Unavailable, WalletError
from .errors import Failure
from .tables import DECIDING, READING, Op, bound, writing
from .url import Address

REQUEST_SECONDS: Final = 3.0
"""How long a node may take for one request; a slower node counts as not answering."""

CONNECT_SECONDS: Final = 5.0
HEARTBEAT_SECONDS: Final = 2
BATCH_BYTES_MAX: Final = 40 * 1024
"""Below the server's limit for batches over several partitions, which is 50 KiB."""

T = TypeVar("T")

KEYS_MAX: Final = 100
"""The most keys that one statement reads."""

Rows = list[tuple[Any, ...]]


class _Expected(logging.Filter):
    """Drops the server's warnings about batches over many rows, which are intended here."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the line."""
        text = record.getMessage()
        return not text.startswith(("Server warning: Batch for", "Server warning: Unlogged batch"))


logging.getLogger("cassandra.protocol").addFilter(_Expected())


async def _driven(work: Awaitable[T]) -> T:
    """Await a call of the driver. Raises Failure for its errors; WalletError unchanged."""
    try:
        return await work
    except WalletError:
        raise
    except Exception as error:
        raise Failure(error) from error


class Client:
    """One ledger's connections and statements. `requests` counts the requests by name."""

    def __init__(self, address: Address) -> None:
        """Opens nothing; `connect` does."""
        self.address = address
        self.requests: Counter[str] = Counter()
        self._session: Session | None = None
        self._statements: dict[str, PreparedStatement] = {}
        self._answers: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False

    # Opening and closing

    async def connect(self) -> None:
        """Find the cluster. Raises Failure."""
        self._loop = asyncio.get_running_loop()
        self._session = await _driven(asyncio.to_thread(self._connected))

    def _connected(self) -> Session:
        address = self.address
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(RoundRobinPolicy()),
            retry_policy=FallthroughRetryPolicy(),
            consistency_level=ConsistencyLevel.QUORUM,
            serial_consistency_level=ConsistencyLevel.SERIAL,
            request_timeout=REQUEST_SECONDS,
            row_factory=tuple_factory,
        )
        auth = None if address.user is None else PlainTextAuthProvider(address.user, address.password)
        cluster = Cluster(
            list(address.hosts),
            port=address.port,
            auth_provider=auth,
            protocol_version=5,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            reconnection_policy=ConstantReconnectionPolicy(0.5, None),
            schema_metadata_enabled=False,
            connect_timeout=CONNECT_SECONDS,
            idle_heartbeat_interval=HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=HEARTBEAT_SECONDS,
        )
        try:
            session = cluster.connect()
        except BaseException:
            cluster.shutdown()
            raise
        session.default_fetch_size = None  # whole answers, except for scans
        return session

    async def prepare(self) -> None:
        """Prepare every statement; the tables must exist. Raises Failure."""
        keyspace = self.address.keyspace
        texts = {name: text.format(keyspace) for name, text in (READING | DECIDING).items()}
        await _driven(asyncio.to_thread(self._prepare, texts | writing(keyspace)))

    def _prepare(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            statement = self._open_session().prepare(text)
            statement.consistency_level = ConsistencyLevel.QUORUM
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            statement.retry_policy = FallthroughRetryPolicy()
            self._statements[name] = statement

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.cluster.shutdown)

    def _open_session(self) -> Session:
        if self._session is None:
            raise Unavailable("the store is not open")
        return self._session

    @property
    def hosts(self) -> list[Any]:
        """The nodes that the driver knows of."""
        return list(self._open_session().cluster.metadata.all_hosts())

    # Asking

    async def ask(self, name: str, *values: Any) -> Rows:
        """Run a statement. Returns its rows. Raises Failure."""
        found: Rows = await self._send(name, self._statements[name].bind(values))
        return found

    async def ask_keys(self, name: str, keys: Iterable[str], *more: Any) -> Rows:
        """Run a statement for many keys, a hundred at a time."""
        wanted = sorted(keys)
        parts = [wanted[start : start + KEYS_MAX] for start in range(0, len(wanted), KEYS_MAX)]
        found = await asyncio.gather(*(self.ask(name, part, *more) for part in parts))
        return [row for rows in found for row in rows]

    async def page(self, name: str, state: bytes | None, limit: int) -> tuple[Rows, bytes | None]:
        """A page of a scan, and where the next page begins. Raises Failure."""
        statement = self._statements[name].bind(())
        statement.fetch_size = limit
        found: tuple[Rows, bytes | None] = await self._send(name, statement, paged=True, paging_state=state)
        return found

    async def run(self, text: str, *, host: Any = None) -> Rows:
        """Run a statement that was not prepared, on the node `host` if one is given. Raises Failure."""
        session = self._open_session()
        seconds = 10 * REQUEST_SECONDS
        found = await _driven(asyncio.to_thread(session.execute, text, timeout=seconds, host=host))
        return list(found)

    async def write(self, ops: Sequence[Op], stamp: int) -> None:
        """Write all rows with one time stamp, in any order, in as few requests as the server accepts.

        Raises:
            Failure: some rows may have been written; writing all of them again is safe.
        """
        batches: list[list[Op]] = [[]]
        size = 0
        for op in ops:
            length = 64 + sum(len(value) if isinstance(value, str) else 8 for value in op[1])
            if size + length > BATCH_BYTES_MAX and batches[-1]:
                batches.append([])
                size = 0
            batches[-1].append(op)
            size += length
        found = await asyncio.gather(*(self._write(batch, stamp) for batch in batches if batch), return_exceptions=True)
        for failure in found:
            if isinstance(failure, BaseException):
                raise failure

    async def _write(self, ops: Sequence[Op], stamp: int) -> None:
        if len(ops) == 1:
            (op,) = ops
            await self._send(op[0], self._statements[op[0]].bind(bound(op, stamp)))
            return
        batch = BatchStatement(
            BatchType.UNLOGGED,
            retry_policy=FallthroughRetryPolicy(),
            consistency_level=ConsistencyLevel.QUORUM,
            serial_consistency_level=ConsistencyLevel.SERIAL,
        )
        for op in ops:
            batch.add(self._statements[op[0]], bound(op, stamp))
        await self._send("batch", batch)

    async def _send(self, name: str, statement: Any, *, paged: bool = False, paging_state: bytes | None = None) -> Any:
        """Send one request. The driver's threads pass the answer to `_put`: rows, or a page and its paging state."""
        self.requests[name] += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        session = self._open_session()
        try:
            answer = session.execute_async(statement, paging_state=paging_state)
        except Exception as error:
            raise Failure(error) from error

        def arrived(rows: Any) -> None:
            found = list(rows or ())
            self._put(future, (found, answer._paging_state) if paged else found)  # noqa: SLF001 - the driver has no public way

        answer.add_callbacks(arrived, lambda error: self._put(future, None, error))
        return await _driven(future)

    def _put(self, future: asyncio.Future[Any], answer: Any, error: BaseException | None = None) -> None:
        self._answers.append((future, answer, error))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: no caller is waiting any more
                self._answers.clear()

    def _drain(self) -> None:
        self._woken = False
        while self._answers:
            future, answer, error = self._answers.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)
