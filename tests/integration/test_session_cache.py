"""How long a session is trusted without being read: a moment, by requests that only read, and never once it has ended.

"Ended" is certain in the process that ended it; another process learns it within `WALLET_SESSION_CACHE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.integration._server import PASSWORD, Client, serving, settle_all
from wallet_gql.backends.memory import MemoryStore
from wallet_gql.domain.changes import ReadSet, Snapshot
from wallet_gql.domain.errors import Unauthenticated
from wallet_gql.identity.access import SEEN_EVERY, LoggedIn
from wallet_gql.identity.resets import reset_password
from wallet_gql.identity.sessions import SessionReads
from wallet_gql.testing.patience import patience, turns
from wallet_gql.testing.world import CheapIdentity, Clock
from wallet_gql.transports.catalogue.operations import OPERATIONS, READS
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.rest.routes import OPERATIONS as ROUTES

VIEWER: Final = "{ viewer { id } }"
LOG_OUT: Final = "mutation { logOut { __typename } }"
CLOSE: Final = "mutation($input: CloseAccountInput!) { closeAccount(input: $input) { __typename } }"
LONG_SECONDS: Final = 3_600.0


class Slow(MemoryStore):
    """A store whose answers to reads can be kept back on their way."""

    held: asyncio.Event | None = None

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """See `Store.fetch`."""
        held = self.held
        found = await super().fetch(reads)
        if held is not None:
            await held.wait()
        return found


@dataclass(slots=True)
class Home:
    """Anna, logged in twice."""

    store: Slow
    clock: Clock
    identity: CheapIdentity
    here: LoggedIn
    other: LoggedIn


@asynccontextmanager
async def at_home(keep_seconds: float = LONG_SECONDS) -> AsyncIterator[Home]:
    """One process that trusts a session for very long."""
    async with Slow() as store:
        clock = Clock()
        identity = CheapIdentity(store, clock, keep_seconds)
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        here, other = [await identity.log_in("anna", PASSWORD) for _ in range(2)]
        yield Home(store, clock, identity, here, other)


End = Callable[[Home], Awaitable[object]]

ENDS: Final[dict[str, End]] = {
    "log out": lambda home: home.identity.log_out(home.here.session),
    "revoke": lambda home: home.identity.revoke(home.here.user.id, home.here.session.id),
    "log out everywhere": lambda home: home.identity.log_out_everywhere(home.here.user.id),
    "log out of the others": lambda home: home.identity.log_out_everywhere(home.here.user.id, keep=home.other.session),
    "change the password": lambda home: home.identity.change_password(
        home.other.session, PASSWORD, "another pass phrase"
    ),
    "reset the password": lambda home: reset_password(home.identity, home.here.user, "another pass phrase"),
    "renew": lambda home: home.identity.renew(home.here.session),
}


async def ends_at_once(end: End, *, in_flight: bool) -> None:
    """After `end` the session is refused; also if a read of it began before and comes back after."""
    async with at_home() as home:
        token = home.here.token
        await home.identity.authenticate(token)
        assert home.identity.recent(token) is not None
        held = home.store.held = asyncio.Event() if in_flight else None
        reading = asyncio.create_task(home.identity.authenticate(token))
        await turns()
        home.store.held = None
        await end(home)
        if held is not None:
            held.set()
        with suppress(Unauthenticated):
            await reading
        assert home.identity.recent(token) is None
        with pytest.raises(Unauthenticated):
            await home.identity.authenticate(token)


@pytest.mark.parametrize("in_flight", [False, True], ids=["at rest", "while it is read"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_session_ends_at_once_where_it_was_ended(end: str, *, in_flight: bool) -> None:
    """By every way to end one."""
    await ends_at_once(ENDS[end], in_flight=in_flight)


@pytest.mark.parametrize("in_flight", [False, True], ids=["at rest", "while it is read"])
async def test_a_session_that_outlives_its_end_is_convicted(
    monkeypatch: pytest.MonkeyPatch, *, in_flight: bool
) -> None:
    """The test above fails where the cache does not hear of the log-out."""
    monkeypatch.setattr(SessionReads, "_written", lambda *_: None)
    with pytest.raises(AssertionError):
        await ends_at_once(ENDS["log out"], in_flight=in_flight)


async def test_the_moment_begins_with_the_read() -> None:
    """An answer that was long on its way is not kept longer for that."""
    async with Slow() as store:
        now = 100.0
        identity = CheapIdentity(store, Clock())
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        token = (await identity.log_in("anna", PASSWORD)).token
        reads = SessionReads(store, keep_seconds=1.0, monotonic=lambda: now)
        store.held = asyncio.Event()
        reading = asyncio.create_task(reads.of(token))
        await turns()
        now = 100.9
        store.held.set()
        assert await reading
        assert reads.recent(token)
        now = 101.0
        assert reads.recent(token) is None


@pytest.mark.parametrize("seconds", [SEEN_EVERY.total_seconds(), timedelta(days=31).total_seconds()])
async def test_idle_and_absolute_time_count_all_the_same(seconds: float) -> None:
    """A use is still noted every minute, and a session over its time is refused, whatever is kept."""
    async with at_home() as home:
        await home.identity.authenticate(home.here.token)
        home.clock.advance(seconds)
        assert home.identity.recent(home.here.token) is None


async def test_nothing_is_kept_at_zero() -> None:
    """With `WALLET_SESSION_CACHE_SECONDS=0` every request reads its session."""
    async with at_home(0.0) as home:
        await home.identity.authenticate(home.here.token)
        assert home.identity.recent(home.here.token) is None


async def test_whatever_does_not_only_read_asks_the_store() -> None:
    """For each operation of the catalogue, where another process has ended the session a moment ago."""
    async with at_home() as home:
        elsewhere = CheapIdentity(home.store, home.clock)
        await home.identity.authenticate(home.here.token)
        home.store._hearers.clear()
        await elsewhere.log_out(home.here.session)
        for name in OPERATIONS:
            caller = Caller(home.identity, home.here.token)
            await caller.count(name)
            if name in READS:
                assert (await caller.session()).id == home.here.session.id
            else:
                with pytest.raises(Unauthenticated):
                    await caller.session()
        for verbs in ([], ["viewer", "transfer"], ["unheardOf"]):
            caller = Caller(home.identity, home.here.token)
            await caller.spend(1)
            await caller.count(*verbs)
            with pytest.raises(Unauthenticated):
                await caller.session()


@pytest.mark.parametrize(("verb", "reads"), [("viewer", 0), ("transfer", 1)])
async def test_a_user_comes_with_the_session(verb: str, reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only reads does not read the user again, unless the user was written in this process."""
    async with at_home() as home:
        caller = Caller(home.identity, home.here.token)
        await home.identity.authenticate(home.here.token)
        await caller.count(verb)
        await caller.session()
        fetched: list[ReadSet] = []
        sound = Slow.fetch

        async def fetch(store: Slow, asked: ReadSet) -> Snapshot:
            fetched.append(asked)
            return await sound(store, asked)

        monkeypatch.setattr(Slow, "fetch", fetch)
        assert await caller.user() == home.here.user
        assert len(fetched) == reads
        await home.identity.change_password(home.here.session, PASSWORD, "another pass phrase")
        changed = await caller.user()
        assert changed
        assert changed.password_hash != home.here.user.password_hash


def test_what_reads_is_no_mutation_and_no_other_method_than_get() -> None:
    """The catalogue says of each operation what the two APIs say."""
    graphql = schema._schema
    assert graphql.query_type
    assert graphql.mutation_type
    queries = set(graphql.query_type.fields) | {route.name for route in ROUTES if route.method == "GET"}
    assert graphql.subscription_type
    queries -= set(graphql.subscription_type.fields)  # by GET as a stream
    changing = {route.name for route in ROUTES if route.method != "GET"} - {"preview"}  # a read with a body
    mutations = set(graphql.mutation_type.fields) | changing
    assert not mutations & READS
    assert queries - mutations == READS


def test_another_process_refuses_it_within_the_promised_second(tmp_path: Path) -> None:
    """Two servers on one ledger: the one that ended it at once, the other's mutations at once, its queries in time."""
    with serving(tmp_path) as one, serving(tmp_path, storage=one.storage) as two:
        (anna,) = settle_all(one.storage, 0)
        with Client(one.url, anna.token) as here, Client(two.url, anna.token) as there:
            for client in (here, there, there):
                assert client.run(VIEWER)["id"]
            here.run(LOG_OUT)
            ended_at = time.monotonic()
            assert here.codes(VIEWER) == {"UNAUTHENTICATED"}
            assert there.codes(CLOSE, {"input": {"accountId": anna.account_id}}) == {"UNAUTHENTICATED"}
            last_success = ended_at
            while time.monotonic() - ended_at < patience(30):
                asked_at = time.monotonic()
                if "errors" in there.post(VIEWER).json():
                    break
                last_success = asked_at
            assert last_success - ended_at < 1.0
            assert there.codes(VIEWER) == {"UNAUTHENTICATED"}
