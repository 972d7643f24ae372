"""Logging in under attack: what is counted, what answers reveal, and how much work it costs. Without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from wallet_gql.backends import open_store
from wallet_gql.domain import security_events
from wallet_gql.domain.changes import ReadSet, Scope
from wallet_gql.domain.errors import (
    Contended,
    InvalidCredentials,
    InvalidInput,
    NodeUnavailable,
    RateLimited,
    Unauthenticated,
    WalletError,
)
from wallet_gql.domain.ids import OPERATOR, UserId
from wallet_gql.domain.model import AccountStatus
from wallet_gql.domain.security_events import FAILURES_MAX, SITE_FAILURES_MAX, EventKind, Visitor
from wallet_gql.domain.spending import Limits
from wallet_gql.domain.users import ABSOLUTE, IDLE, RENEWABLE, Session, SessionKind
from wallet_gql.failpoints import FailpointError
from wallet_gql.identity import Identity, access, sessions
from wallet_gql.identity import passwords as passwords_module
from wallet_gql.identity import throttle as throttle_module
from wallet_gql.identity.resets import reset_password
from wallet_gql.records import Swept
from wallet_gql.storage import PAGE_MAX, Store
from wallet_gql.testing.world import CheapIdentity
from wallet_gql.verbs.ledger import Ledger
from wallet_gql.verbs.spending import choose_limits

PASSWORD = "plain maroon bicycle"
HOME, ELSEWHERE = Visitor("192.0.2.1", "Browser/1"), Visitor("198.51.100.7", "curl/8")


@dataclass
class Clock:
    """A clock that the test moves."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def later(self, **values: float) -> None:
        """Let time pass."""
        self.now += timedelta(**values)


@pytest.fixture
def clock() -> Clock:
    """Starts with 2026."""
    return Clock()


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncIterator[CheapIdentity]:
    """Users over a store."""
    async with open_store(url) as store:
        yield CheapIdentity(store, clock)


@pytest.fixture
async def identity(clock: Clock) -> AsyncIterator[CheapIdentity]:
    """Users on three simulated nodes, one of them anna."""
    async with opened("memory://?nodes=3", clock) as made:
        await made.sign_up("anna", "anna@example.org", PASSWORD)
        yield made


async def outcome(identity: Identity, login: str, password: str, visitor: Visitor | None) -> str:
    """`ok`, or the code of the error."""
    try:
        await identity.log_in(login, password, SessionKind.BEARER, visitor)
    except WalletError as error:
        return error.code
    return "ok"


async def kinds(identity: Identity) -> list[EventKind]:
    """Anna's events, oldest first."""
    anna = await identity.find("anna")
    assert anna is not None
    page = await identity.events.page(anna.id)
    return [event.kind for event in reversed(page.items)]


# Guessing


async def test_ten_failures_are_enough(identity: CheapIdentity, clock: Clock) -> None:
    """The eleventh attempt is refused with the time to wait, the right password too; after 15 minutes all is well."""
    for _ in range(FAILURES_MAX):
        assert await outcome(identity, "anna", "wrong", HOME) == "INVALID_CREDENTIALS"
    clock.later(minutes=5)
    with pytest.raises(RateLimited) as caught:
        await identity.log_in("anna", PASSWORD, visitor=HOME)
    assert caught.value.fields == {"retry_after_seconds": 600}
    clock.later(seconds=600)
    assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"


async def test_nobody_can_lock_a_user_out(identity: CheapIdentity) -> None:
    """An attacker who is refused touches neither the user elsewhere nor other users at the same place."""
    for _ in range(FAILURES_MAX + 5):
        await outcome(identity, "anna", "wrong", ELSEWHERE)
    assert await outcome(identity, "anna", PASSWORD, ELSEWHERE) == "RATE_LIMITED"
    assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"
    await identity.sign_up("bert", "bert@example.org", PASSWORD)
    assert await outcome(identity, "bert", PASSWORD, ELSEWHERE) == "ok"


async def test_success_forgets_failures(identity: CheapIdentity) -> None:
    """Nine wrong passwords and a right one, again and again, are no attack."""
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            assert await outcome(identity, "anna", "wrong", HOME) == "INVALID_CREDENTIALS"
        assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"


class Away:
    """A store that has no records of one kind now, as where their node is away."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _check(self, reads: ReadSet | Scope) -> None:
        if self._kind in {key.kind for key in reads.records}:
            raise NodeUnavailable("n1")

    async def fetch(self, reads: ReadSet) -> Any:
        """See `Store.fetch`."""
        self._check(reads)
        return await self._store.fetch(reads)

    async def execute(self, scope: Scope, *given: Any, **values: Any) -> Any:
        """See `Store.execute`."""
        self._check(scope)
        return await self._store.execute(scope, *given, **values)


@pytest.mark.parametrize("kind", ["claim", "user", "session", "throttle"])
async def test_an_outage_locks_nobody_out(identity: CheapIdentity, clock: Clock, kind: str) -> None:
    """The right password, sent again and again while something cannot be had; then it is taken, also to change it."""
    made = await identity.log_in("anna", PASSWORD, visitor=HOME)
    during = CheapIdentity(cast("Store", Away(identity.store, kind)), clock)
    for _ in range(FAILURES_MAX + 1):
        assert await outcome(during, "anna", PASSWORD, HOME) == "NODE_UNAVAILABLE"
        if kind != "claim":
            with pytest.raises(NodeUnavailable):
                await during.change_password(made.session, PASSWORD, "quiet llama seven", HOME)
    assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"
    await identity.change_password(made.session, PASSWORD, "quiet llama seven", HOME)


async def test_what_is_left_to_clean_up_is_no_failure(identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new password counts and sessions have ended, whether or not their records can be listed afterwards."""

    async def away(*_: object) -> list[Session]:
        raise NodeUnavailable("n1")

    made = await identity.log_in("anna", PASSWORD, visitor=HOME)
    monkeypatch.setattr(identity, "sessions", away)
    assert (await identity.change_password(made.session, PASSWORD, "quiet llama seven", HOME)).username == "anna"
    assert await outcome(identity, "anna", PASSWORD, HOME) == "INVALID_CREDENTIALS"
    await identity.log_out_everywhere(made.user.id)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(made.token)
    assert await outcome(identity, "anna", "quiet llama seven", HOME) == "ok"


async def test_attempts_at_once_are_counted_before_they_are_made(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 guesses sent at the same time ten passwords are looked at."""
    looked_at = []
    verify = identity.passwords.verify

    async def counting(stored: str | None, password: str, client: str = "") -> bool:
        looked_at.append(password)
        await asyncio.sleep(0)
        return await verify(stored, password, client)

    monkeypatch.setattr(identity.passwords, "verify", counting)
    done = await asyncio.gather(*(outcome(identity, "anna", f"wrong {n}", HOME) for n in range(60)))
    assert len(looked_at) == FAILURES_MAX
    assert sorted(set(done)) == ["INVALID_CREDENTIALS", "RATE_LIMITED"]
    assert done.count("INVALID_CREDENTIALS") == FAILURES_MAX


@pytest.mark.parametrize(
    ("name", "login"),
    [
        ("anna", "ANNA"),
        ("anna", " anna"),
        ("anna", "Anna "),
        ("anna", " " * 140 + "anna"),
        ("ann\u00e9@example.org", "anne\u0301@example.org"),
        ("anne\u0301@example.org", " ANN\u00c9@Example.org"),
        ("nobody@example.org", " " * 140 + "nobody@example.org"),
        ("no name!", "x" * 300),
    ],
)
async def test_spellings_of_one_name_count_together(identity: CheapIdentity, name: str, login: str) -> None:
    """Other capitals, blanks or forms of a letter do not reset the count, for known and unknown users."""
    for _ in range(FAILURES_MAX):
        await outcome(identity, name, "wrong", HOME)
    assert await outcome(identity, login, "wrong", HOME) == "RATE_LIMITED"


async def test_the_throttle_does_not_tell_whose_an_address_is(identity: CheapIdentity) -> None:
    """Name and address of one user are counted each for itself: together they would show that they belong together."""
    for _ in range(FAILURES_MAX):
        await outcome(identity, "anna", "wrong", HOME)
    assert await outcome(identity, "anna@example.org", "wrong", HOME) == "INVALID_CREDENTIALS"


async def test_an_address_is_counted_over_all_names(identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where many names have failed, each has three attempts in place of ten."""
    monkeypatch.setattr(throttle_module, "ADDRESS_FAILURES_MAX", 20)
    for n in range(20):
        assert await outcome(identity, f"user{n}", "12345678", HOME) == "INVALID_CREDENTIALS"
    done = [await outcome(identity, "anna", "wrong", HOME) for _ in range(5)]
    assert done == ["INVALID_CREDENTIALS"] * 3 + ["RATE_LIMITED"] * 2
    assert await outcome(identity, "anna", PASSWORD, HOME) == "RATE_LIMITED"
    assert await outcome(identity, "anna", PASSWORD, ELSEWHERE) == "ok"


@pytest.mark.parametrize("names", [1, 7, 104])
@pytest.mark.parametrize(
    ("attacker", "victim"),
    [
        (HOME, HOME),
        (Visitor("2001:db8::1"), Visitor("2001:db8::2")),
        (Visitor("2001:db8::1"), Visitor("2001:db8:0:7::1")),
        (Visitor(""), Visitor("nonsense")),
    ],
    ids=["nat", "one /64", "one /48", "unknown"],
)
async def test_b10_a_shared_address_locks_nobody_out(
    identity: CheapIdentity, names: int, attacker: Visitor, victim: Visitor
) -> None:
    """104 failed log-ins of somebody behind the same address or provider keep nobody else out, with a slip or two."""
    for n in range(104):
        await outcome(identity, f"user{n % names}", "12345678", attacker)
    for password in ("slip", "slip again"):
        assert await outcome(identity, "anna", password, victim) == "INVALID_CREDENTIALS"
    assert await outcome(identity, "anna", PASSWORD, victim) == "ok"
    assert await outcome(identity, "anna@example.org", PASSWORD, victim) == "ok"


@pytest.mark.parametrize("login", ["anna", "anna@example.org", "nobody"])
async def test_b10_a_name_has_a_ceiling_over_a_site(identity: CheapIdentity, clock: Clock, login: str) -> None:
    """Who has a /48 may try a name thirty times, not ten times for each of its 65,536 networks; others go on."""
    tried = [
        await outcome(identity, login, "wrong", Visitor(f"2001:db8:0:{net:x}::{n + 1:x}"))
        for net in range(10)
        for n in range(8)
    ]
    assert tried.count("INVALID_CREDENTIALS") == SITE_FAILURES_MAX
    assert await outcome(identity, login, PASSWORD, Visitor("2001:db8:0:ff::1")) == "RATE_LIMITED"
    assert await outcome(identity, "anna", PASSWORD, Visitor("2001:db8:1:ff::1")) == "ok"
    clock.later(minutes=15)
    assert await outcome(identity, "anna", PASSWORD, Visitor("2001:db8:0:ff::1")) == "ok"


async def test_b10_a_success_is_no_failure_of_the_site(identity: CheapIdentity) -> None:
    """A household that logs in often is not refused."""
    for n in range(SITE_FAILURES_MAX + 5):
        assert await outcome(identity, "anna", PASSWORD, Visitor(f"2001:db8:0:{n:x}::1")) == "ok"


async def test_b10_attempts_at_once_over_a_site(identity: CheapIdentity) -> None:
    """Of a hundred at the same time from a hundred networks no more are checked."""
    visitors = [Visitor(f"2001:db8:0:{n:x}::1") for n in range(100)]
    done = await asyncio.gather(*(outcome(identity, "anna", "wrong", visitor) for visitor in visitors))
    assert done.count("INVALID_CREDENTIALS") <= SITE_FAILURES_MAX


async def test_addresses_that_cannot_be_read_are_one_client(identity: CheapIdentity) -> None:
    """A proxy that passes no address does not make guessing unlimited."""
    for address in ["", "nonsense"] * (FAILURES_MAX // 2):
        assert await outcome(identity, "anna", "wrong", Visitor(address)) == "INVALID_CREDENTIALS"
    assert await outcome(identity, "anna", "wrong", Visitor("unix:")) == "RATE_LIMITED"
    assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"


async def test_an_ipv6_subscriber_is_one_client(identity: CheapIdentity) -> None:
    """All addresses of a /64 count together; the next /64 counts separately."""
    for n in range(FAILURES_MAX):
        await outcome(identity, "anna", "wrong", Visitor(f"2001:db8::{n + 1:x}"))
    assert await outcome(identity, "anna", PASSWORD, Visitor("2001:db8::ffff:1")) == "RATE_LIMITED"
    assert await outcome(identity, "anna", PASSWORD, Visitor("2001:db8:0:1::1")) == "ok"


async def test_failures_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    """They are in the store: a new process goes on counting."""
    url = f"sqlite:///{tmp_path / 'wallet.db'}"
    async with opened(url, clock) as identity:
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        for _ in range(FAILURES_MAX - 1):
            await outcome(identity, "anna", "wrong", HOME)
    async with opened(url, clock) as identity:
        assert await outcome(identity, "anna", "wrong", HOME) == "INVALID_CREDENTIALS"
        assert await outcome(identity, "anna", PASSWORD, HOME) == "RATE_LIMITED"


async def test_the_old_password_cannot_be_guessed_with_a_stolen_session(identity: CheapIdentity) -> None:
    """Wrong old passwords count like failed log-ins, and the user sees them."""
    session = (await identity.log_in("anna", PASSWORD, visitor=HOME)).session
    for _ in range(FAILURES_MAX):
        with pytest.raises(InvalidCredentials):
            await identity.change_password(session, "wrong", "another maroon llama", ELSEWHERE)
    with pytest.raises(RateLimited):
        await identity.change_password(session, PASSWORD, "another maroon llama", ELSEWHERE)
    assert (await kinds(identity)).count(EventKind.PASSWORD_CHANGE_FAILED) == FAILURES_MAX


async def test_attempts_that_were_not_made_do_not_count(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no password was looked at, because too many were waiting, nothing has failed."""
    verify = identity.passwords.verify

    async def busy(*_: Any) -> bool:
        raise Contended

    monkeypatch.setattr(identity.passwords, "verify", busy)
    assert {await outcome(identity, "anna", PASSWORD, HOME) for _ in range(FAILURES_MAX * 2)} == {"CONTENDED"}
    monkeypatch.setattr(identity.passwords, "verify", verify)
    assert await outcome(identity, "anna", PASSWORD, HOME) == "ok"


async def test_the_sweep_forgets_what_is_over(identity: CheapIdentity, clock: Clock) -> None:
    """Counts go after 15 minutes, failures of nobody after an hour, events after their time."""
    for login in ("anna", "nobody"):
        await outcome(identity, login, "wrong", HOME)
    clock.later(minutes=16)
    assert await identity.sweep() == Swept(done=3)  # each name, and the address
    clock.later(minutes=50)
    assert await identity.sweep() == Swept(done=1)
    assert set(await kinds(identity)) == {EventKind.SIGNED_UP, EventKind.LOG_IN_FAILED}
    clock.now += security_events.EVENTS_KEPT
    assert await identity.sweep() == Swept(done=2)
    assert await kinds(identity) == []


# What it costs, and what it tells


@pytest.fixture
async def hashing(clock: Clock) -> AsyncIterator[Identity]:
    """Users with real passwords."""
    async with open_store("memory://") as store:
        made = Identity(store, clock=clock)
        await made.sign_up("anna", "anna@example.org", PASSWORD)
        yield made
        made.passwords.close()


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("anna", PASSWORD),
        ("anna@example.org", PASSWORD),
        ("anna", "wrong"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("", PASSWORD),
        ("not a name!", PASSWORD),
        ("a" * 10_000, PASSWORD),
        ("anna", ""),
        ("anna", "x" * 10_000),
        ("nobody", "x" * 10_000),
    ],
    ids=lambda text: text[:20],
)
async def test_every_log_in_costs_one_verification_and_as_many_reads_and_writes(
    hashing: Identity, monkeypatch: pytest.MonkeyPatch, login: str, password: str
) -> None:
    """One argon2 verification and the same reads for every name; failures all write the same number of records."""
    work: list[str] = []
    for thing, name in ((hashing.store, "fetch"), (hashing.store, "execute"), (hashing.passwords, "_verify")):
        monkeypatch.setattr(thing, name, _noting(work, name, getattr(thing, name)))
    result = await outcome(hashing, login, password, HOME)
    assert result == ("ok" if password == PASSWORD and login.startswith("anna") else "INVALID_CREDENTIALS")
    assert (work.count("_verify"), work.count("fetch")) == (1, 3)
    assert work.count("execute") == 3  # the attempt; then the session and its success, or the failure twice
    assert work.index("_verify") == 4  # nothing but the attempt and the look-up before it


def _noting(work: list[str], name: str, real: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        work.append(name)
        return real(*args, **kwargs)

    return noting


async def test_a_refused_attempt_costs_no_verification(hashing: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client over the limit cannot keep the processor busy; known and unknown names are refused alike."""
    monkeypatch.setattr(throttle_module, "FAILURES_MAX", 1)
    for login in ("anna", "nobody"):
        await outcome(hashing, login, "wrong", HOME)
    work: list[str] = []
    monkeypatch.setattr(hashing.passwords, "_verify", _noting(work, "verify", hashing.passwords._verify))
    assert [await outcome(hashing, login, PASSWORD, HOME) for login in ("anna", "nobody")] == ["RATE_LIMITED"] * 2
    assert work == []


async def test_one_client_cannot_fill_the_queue(hashing: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends many log-ins at once must wait, while another one logs in."""
    monkeypatch.setattr(passwords_module, "CLIENT_WAITING_MAX", 3)
    crowd = [asyncio.ensure_future(outcome(hashing, f"user{n}", "wrong", ELSEWHERE)) for n in range(12)]
    mine = asyncio.ensure_future(outcome(hashing, "anna", PASSWORD, HOME))
    assert await mine == "ok"
    done = await asyncio.gather(*crowd)
    assert done.count("CONTENDED") > 0
    assert set(done) == {"CONTENDED", "INVALID_CREDENTIALS"}


# Sessions


async def log_in_held(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch, password: str
) -> tuple[asyncio.Future[Any], asyncio.Event]:
    """A log-in of anna that has verified the password, and begins its session once the event is set."""
    verified, go_on = asyncio.Event(), asyncio.Event()
    begin = identity._begin

    async def slowly(*given: Any) -> None:
        verified.set()
        await go_on.wait()
        await begin(*given)

    monkeypatch.setattr(identity, "_begin", slowly)
    late = asyncio.ensure_future(identity.log_in("anna", password))
    await verified.wait()
    return late, go_on


async def test_a_log_in_does_not_outlive_log_out_everywhere(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log-in that verified its password before all sessions were ended starts none after."""
    anna = (await identity.log_in("anna", PASSWORD)).user
    late, go_on = await log_in_held(identity, monkeypatch, PASSWORD)
    assert await identity.log_out_everywhere(anna.id) == 1
    go_on.set()
    with pytest.raises(Contended):
        await late
    assert await identity.sessions(anna.id) == []


async def test_a_session_that_was_not_in_the_list_ends_all_the_same(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that begins between the list and the commit is looked for afterwards."""
    anna = (await identity.log_in("anna", PASSWORD)).user
    listed = identity.store.list_records
    between: list[str] = []

    async def listing(*args: Any, **kwargs: Any) -> Any:
        page = await listed(*args, **kwargs)
        if not between:
            between.append((await identity.log_in("anna", PASSWORD)).token)
        return page

    monkeypatch.setattr(identity.store, "list_records", listing)
    assert await identity.log_out_everywhere(anna.id) == 2
    with pytest.raises(Unauthenticated):
        await identity.authenticate(between[0])


@pytest.mark.parametrize("changing", [True, False])
async def test_sessions_are_dead_although_the_server_dies(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch, *, changing: bool
) -> None:
    """The commit of a new password, or of logging out everywhere, ends more sessions than a page holds, by itself."""
    entered = [await identity.log_in("anna", PASSWORD) for _ in range(PAGE_MAX + 20)]
    own = entered[0].session
    for one in entered:
        await identity.authenticate(one.token)

    async def dead(_: UserId) -> list[Session]:
        raise FailpointError("after the commit")

    with monkeypatch.context() as patch:
        patch.setattr(identity, "sessions", dead)
        end: Callable[[], Awaitable[Any]] = partial(identity.log_out_everywhere, own.user_id, keep=own)
        if changing:
            end = partial(identity.change_password, own, PASSWORD, "another maroon llama")
        with pytest.raises(FailpointError):
            await end()
    restarted = CheapIdentity(identity.store, identity._clock)
    for server in (identity, restarted):
        assert (await server.authenticate(entered[0].token)).id == own.id
        for one in entered[1:]:
            with pytest.raises(Unauthenticated):
                await server.authenticate(one.token)
            with pytest.raises(Unauthenticated):
                await server.renew(one.session)


async def test_a_session_in_use_costs_one_read(identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user is read with it; what is remembered is bounded, and right after a log-out."""
    monkeypatch.setattr(sessions, "OWNERS_MAX", 3)
    entered = [await identity.log_in("anna", PASSWORD) for _ in range(5)]
    for one in entered:
        await identity.authenticate(one.token)
    assert len(identity._reads._owners) == 3
    work: list[str] = []
    monkeypatch.setattr(identity.store, "fetch", _noting(work, "fetch", identity.store.fetch))
    await identity.authenticate(entered[4].token)
    assert work == ["fetch"]
    await identity.log_out(entered[4].session)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(entered[4].token)


async def test_a_renewal_does_not_outlive_a_new_password(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief who renews a stolen session while its owner changes the password has nothing afterwards."""
    stolen, own = [(await identity.log_in("anna", PASSWORD)).session for _ in range(2)]
    listed = identity.store.list_records
    thief: list[str] = []

    async def listing(*args: Any, **kwargs: Any) -> Any:
        page = await listed(*args, **kwargs)
        if not thief:
            thief.append((await identity.renew(stolen)).token)
        return page

    monkeypatch.setattr(identity.store, "list_records", listing)
    await identity.change_password(own, PASSWORD, "another maroon llama")
    with pytest.raises(Unauthenticated):
        await identity.authenticate(thief[0])
    assert [session.id for session in await identity.sessions(own.user_id)] == [own.id]


async def test_the_session_that_changed_the_password_can_go_on(identity: CheapIdentity, clock: Clock) -> None:
    """It is kept, used and renewed as before."""
    entered = await identity.log_in("anna", PASSWORD, SessionKind.BEARER)
    await identity.change_password(entered.session, PASSWORD, "another maroon llama")
    clock.later(minutes=5)
    session = await identity.authenticate(entered.token)
    renewed = await identity.renew(session)
    assert (await identity.authenticate(renewed.token)).id == renewed.session.id


async def test_of_fifty_renewals_one_succeeds(identity: CheapIdentity) -> None:
    """The old token is dead at once, and there is one new one."""
    entered = await identity.log_in("anna", PASSWORD, SessionKind.BEARER)
    done = await asyncio.gather(*(identity.renew(entered.session) for _ in range(50)), return_exceptions=True)
    renewed = [one.session.id for one in done if isinstance(one, access.LoggedIn)]
    assert len(renewed) == 1
    assert sum(isinstance(one, Unauthenticated) for one in done) == 49
    with pytest.raises(Unauthenticated):
        await identity.authenticate(entered.token)
    assert [session.id for session in await identity.sessions(entered.user.id)] == renewed


@pytest.mark.parametrize("kind", list(SessionKind))
async def test_renewing_has_an_end(identity: CheapIdentity, clock: Clock, kind: SessionKind) -> None:
    """Each renewal lasts as long as a session does, but none beyond the time after which the password is due."""
    start = clock.now
    entered = await identity.log_in("anna", PASSWORD, kind)
    while True:
        step = min(IDLE[kind], ABSOLUTE[kind]) - timedelta(seconds=1)
        if clock.now + step >= start + RENEWABLE[kind]:
            break
        clock.now += step
        entered = await identity.renew(await identity.authenticate(entered.token))
    assert entered.session.expires_at <= start + RENEWABLE[kind]
    clock.now = start + RENEWABLE[kind]
    with pytest.raises(Unauthenticated):
        await identity.authenticate(entered.token)


async def test_looking_at_a_session_is_no_use_of_it(identity: CheapIdentity, clock: Clock) -> None:
    """What is only asked whether it still counts, as an open subscription does, ends by idling."""
    token = (await identity.log_in("anna", PASSWORD)).token
    for _ in range(2):
        clock.later(minutes=14)
        await identity.authenticate(token, is_use=False)
    clock.later(minutes=2)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(token, is_use=False)


async def test_sessions_of_before_are_read(identity: CheapIdentity) -> None:
    """Records that know neither epoch nor visitor are those of an earlier version."""
    entered = await identity.log_in("anna", PASSWORD, visitor=HOME)
    record = entered.session.to_record()
    old = {name: record.body[name] for name in ("kind", "created_at", "seen_at")}
    session = type(entered.session).from_record(type(record)(**{**_fields(record), "body": old}))
    assert (session.epoch, session.visitor, session.logged_in_at) == (0, None, session.created_at)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


# Events


async def test_everything_about_ones_access_is_told(identity: CheapIdentity, clock: Clock) -> None:
    """Each act leaves one event with time, address and client; freezes by the operator too."""
    first = await identity.log_in("anna", PASSWORD, visitor=HOME)
    await outcome(identity, "anna", "wrong", ELSEWHERE)
    second = await identity.log_in("anna", PASSWORD, visitor=HOME)
    renewed = await identity.renew(second.session, HOME)
    await identity.revoke(first.user.id, first.session.id, HOME)
    with pytest.raises(InvalidInput):
        await identity.change_password(renewed.session, PASSWORD, "short", HOME)
    await identity.change_password(renewed.session, PASSWORD, "another maroon llama", HOME)
    await identity.log_out_everywhere(first.user.id, keep=renewed.session, visitor=HOME)
    await identity.log_out(renewed.session, HOME)
    await identity.log_out(renewed.session, HOME)
    anna = await identity.find("anna")
    assert anna is not None
    await reset_password(identity, anna, "quiet llama seven")
    ledger = Ledger(identity.store, clock=clock, spending_limits={"EUR": Limits()})
    account = await ledger.open_account(first.user.id, "EUR")
    for _ in range(2):  # the second time nothing changes
        await choose_limits(ledger, first.user.id, "EUR", Limits(day=100), HOME)
    for status in (AccountStatus.FROZEN, AccountStatus.OPEN):
        await ledger.set_account_status(OPERATOR, account.id, status)
    await ledger.set_account_status(first.user.id, account.id, AccountStatus.CLOSED)

    page = await identity.events.page(first.user.id)
    events = {event.kind: event for event in page.items}
    each_once = set(EventKind) - {EventKind.PASSWORD_CHANGE_FAILED}
    assert sorted(event.kind for event in page.items) == sorted([*each_once, EventKind.LOGGED_IN])
    assert events[EventKind.LOG_IN_FAILED].visitor == ELSEWHERE
    assert events[EventKind.PASSWORD_CHANGED].visitor == HOME
    assert events[EventKind.PASSWORD_RESET].visitor is None
    assert events[EventKind.SESSION_REVOKED].subject == first.session.id
    assert events[EventKind.ACCOUNT_FROZEN].subject == account.id
    assert events[EventKind.ACCOUNT_FROZEN].visitor is None
    assert events[EventKind.SPENDING_LIMITS_CHANGED].visitor == HOME
    assert {event.at for event in page.items} == {clock.now}


async def test_events_are_paged_newest_first(identity: CheapIdentity, clock: Clock) -> None:
    """Pages join without gap or double, and one user's events are nobody else's."""
    anna = await identity.find("anna")
    bert = await identity.sign_up("bert", "bert@example.org", PASSWORD)
    assert anna is not None
    for _ in range(8):
        clock.later(seconds=1)
        await outcome(identity, "anna", "wrong", HOME)
    seen: list[datetime] = []
    after, more = "", True
    while more:
        page = await identity.events.page(anna.id, 4, after=after)
        seen += [event.at for event in page.items]
        after, more = page.items[-1].id, page.has_more
    assert len(seen) == 9
    assert seen == sorted(seen, reverse=True)
    assert [event.kind for event in (await identity.events.page(bert.id)).items] == [EventKind.SIGNED_UP]


@pytest.mark.parametrize(
    ("address", "known", "network"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("", "", "unknown"),
        ("unix:", "", "unknown"),
        ("192.0.2.1, 10.0.0.1", "", "unknown"),
        ("' OR 1=1", "", "unknown"),
    ],
)
def test_addresses(address: str, known: str, network: str) -> None:
    """An address is stored in its one spelling, and what is none is not stored at all."""
    visitor = Visitor.of(address, "x\x00\n" * 500)
    assert (visitor.address, visitor.network) == (known, network)
    assert (len(visitor.user_agent), visitor.user_agent.isprintable()) == (200, True)
