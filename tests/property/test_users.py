"""Users, their names and sessions: shapes, sign-up races, log-in, expiry."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from wallet_gql.domain.errors import (
    Contended,
    EmailTaken,
    InvalidCredentials,
    InvalidInput,
    Unauthenticated,
    Unavailable,
    UsernameTaken,
)
from wallet_gql.domain.ids import UserId, make_user_id
from wallet_gql.domain.model import Record
from wallet_gql.domain.users import (
    SessionKind,
    User,
    check_email,
    check_password,
    check_username,
    email_claim,
    login_claim,
    token_key,
    user_key,
    username_claim,
)
from wallet_gql.identity import Identity, access
from wallet_gql.identity import passwords as passwords_module
from wallet_gql.records import Swept

PASSWORD = "plain maroon bicycle"


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


@pytest.fixture
async def identity(clock: Clock) -> AsyncIterator[Identity]:
    """Users on three simulated nodes."""
    async with open_store("memory://?nodes=3") as store:
        made = Identity(store, clock=clock)
        yield made
        made.passwords.close()


class TestShapes:
    """What may be a name or a password."""

    @pytest.mark.parametrize("name", ["ab", "a" * 33, "-ab", "a b", "ünal", "a@b", ""])
    def test_usernames(self, name: str) -> None:
        """3 to 32 of a small alphabet; case does not matter."""
        assert check_username("Anna.B-1_") == "anna.b-1_"
        with pytest.raises(InvalidInput):
            check_username(name)

    @pytest.mark.parametrize(
        "address", ["", "a", "a@b", "@b.c", "a@.c", "a@b..c", "a b@c.d", "a@b.c\n\n@", "a" * 250 + "@b.cd"]
    )
    def test_addresses(self, address: str) -> None:
        """One @, a dotted domain, no spaces; case does not matter."""
        assert check_email(" Ann@Example.ORG ") == "ann@example.org"
        with pytest.raises(InvalidInput):
            check_email(address)

    @pytest.mark.parametrize("mark", ["\u0316\u0301", "\u0301", "\u0130", " "])
    async def test_long_names_cost_nothing(self, identity: Identity, mark: str) -> None:
        """A name as long as a body may be is refused before its characters are composed: that takes half a minute."""
        text = "a" + mark * (120_000 // len(mark)) + "@example.org"
        started = time.process_time()
        for check in (check_email, check_username):
            with pytest.raises(InvalidInput):
                check(text)
        assert login_claim(text) == login_claim(text.replace("@", "")) == username_claim("")
        assert await identity.find(text) is None
        assert time.process_time() - started < 0.2

    def test_addresses_that_grow(self) -> None:
        """The limit holds for what is stored, too: lower case can be longer than what was sent."""
        assert len(check_email("i" * 60 + "@" + "b" * 190 + ".cd")) == 254
        with pytest.raises(InvalidInput):
            check_email("\u0130" * 60 + "@" + "b" * 190 + ".cd")

    @pytest.mark.parametrize("password", ["short", "x" * 129, "Anna.b12", "ann@example.org"])
    def test_passwords(self, password: str) -> None:
        """8 to 128 characters, not one's own name."""
        with pytest.raises(InvalidInput):
            check_password(password, username="anna.b12", email="ann@example.org")

    @pytest.mark.parametrize(
        "token", ["", "wgs_", "wgs_fff" + "x" * 42, "wgs_ggg" + "x" * 43, "wgs_fff" + "x" * 43 + "\n"]
    )
    def test_tokens(self, token: str) -> None:
        """Anything malformed is no token."""
        assert token_key(token) is None


class TestSignUp:
    """Names are unique, whatever races."""

    async def test_names_are_taken_in_any_case(self, identity: Identity) -> None:
        """A refused sign-up leaves the other name free."""
        await identity.sign_up("anna", "anna@example.org", PASSWORD)

        with pytest.raises(UsernameTaken):
            await identity.sign_up("ANNA", "other@example.org", PASSWORD)
        with pytest.raises(EmailTaken):
            await identity.sign_up("bert", "Anna@example.org", PASSWORD)
        await identity.sign_up("bert", "other@example.org", PASSWORD)

    async def test_twenty_at_once_leave_one(self, identity: Identity) -> None:
        """One user, nineteen refusals, and a name that logs in."""
        tries = [identity.sign_up("anna", f"anna{n}@example.org", PASSWORD) for n in range(20)]
        done = await asyncio.gather(*tries, return_exceptions=True)

        (user,) = [one for one in done if isinstance(one, User)]
        assert all(isinstance(one, UsernameTaken) for one in done if one is not user)
        assert user.id == (await identity.log_in("anna", PASSWORD)).user.id

    async def _abandon(self, identity: Identity, *, create: bool) -> UserId:
        """A sign-up that dies after its claims, or after its create."""
        user_id = make_user_id(1, 1)
        for key in (username_claim("anna"), email_claim("anna@example.org")):
            body = {"user": user_id, "confirmed": False}
            due = identity._clock() + timedelta(seconds=60)
            await self._write(identity, Record("claim", key.id, key.slot, user_id, 1, body, due))
        if create:
            await self._write(identity, User(user_id, "anna", "anna@example.org", "x", identity._clock()).to_record())
        return user_id

    async def _write(self, identity: Identity, record: Record) -> None:
        def decide(_: Snapshot) -> Decision[None]:
            return Decision(Changes(records=(record,)), None)

        await identity.store.execute(Scope(record.slot, records=(record.key,)), decide)

    async def test_an_abandoned_claim_is_taken_over_and_its_creator_comes_too_late(
        self, identity: Identity, clock: Clock
    ) -> None:
        """The tombstone under the old user id is the fence."""
        abandoned = await self._abandon(identity, create=False)
        with pytest.raises(UsernameTaken):
            await identity.sign_up("anna", "new@example.org", PASSWORD)
        clock.later(seconds=61)
        user = await identity.sign_up("anna", "anna@example.org", PASSWORD)

        with pytest.raises(Unavailable, match="too long"):
            await identity.names.create(replace(user, id=abandoned))
        assert await identity.user(abandoned) is None
        assert (await identity.find("anna@example.org")) == user

    async def test_a_created_user_keeps_an_unconfirmed_name(self, identity: Identity, clock: Clock) -> None:
        """The create was the decision; whoever wants the name confirms it for its owner."""
        await self._abandon(identity, create=True)
        clock.later(seconds=61)

        with pytest.raises(UsernameTaken):
            await identity.sign_up("anna", "new@example.org", PASSWORD)
        found = (await identity.store.fetch(ReadSet(records=(username_claim("anna"),)))).record(username_claim("anna"))
        assert found is not None
        assert found.body["confirmed"]

    async def test_the_sweep_settles_what_sign_ups_left_open(self, identity: Identity, clock: Clock) -> None:
        """Claims of nobody go, claims of somebody stay for good."""
        await self._abandon(identity, create=False)
        assert await identity.sweep() == Swept()
        clock.later(seconds=61)

        assert await identity.sweep() == Swept(done=2)
        assert await identity.sweep() == Swept()
        await identity.sign_up("anna", "anna@example.org", PASSWORD)

    async def test_a_created_users_claims_are_confirmed_by_the_sweep(self, identity: Identity, clock: Clock) -> None:
        """After a crash between create and confirm the names stay his."""
        await self._abandon(identity, create=True)
        clock.later(seconds=61)

        assert await identity.sweep() == Swept(done=2)
        with pytest.raises(EmailTaken):
            await identity.sign_up("bert", "anna@example.org", PASSWORD)


class TestSessions:
    """Logging in and out."""

    async def test_by_name_or_address_and_out_again(self, identity: Identity) -> None:
        """A session works until it is ended; ending it twice is no error."""
        user = await identity.sign_up("anna", "anna@example.org", PASSWORD)
        first = await identity.log_in("Anna", PASSWORD)
        second = await identity.log_in("anna@EXAMPLE.org", PASSWORD)

        assert first.token != second.token
        session = await identity.authenticate(first.token)
        assert user.id == session.user_id
        await identity.log_out(session)
        await identity.log_out(session)
        with pytest.raises(Unauthenticated):
            await identity.authenticate(first.token)
        assert user.id == (await identity.authenticate(second.token)).user_id

    @pytest.mark.parametrize("login", ["anna", "bert", "bert@example.org", "x", "@"])
    async def test_wrong_password_and_unknown_user_answer_alike(self, identity: Identity, login: str) -> None:
        """The message tells nothing about who exists."""
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        with pytest.raises(InvalidCredentials) as caught:
            await identity.log_in(login, "wrong password")
        with pytest.raises(InvalidCredentials):
            await identity.log_in(login, PASSWORD + "x" * 200)

        assert caught.value.message == InvalidCredentials().message

    async def test_no_token_is_stored(self, identity: Identity) -> None:
        """The store knows the hash alone, and the password's hash is argon2id."""
        user = await identity.sign_up("anna", "anna@example.org", PASSWORD)
        token = (await identity.log_in("anna", PASSWORD)).token
        everything = str((await identity.store.scan("record", None, 100)).items)

        assert token not in everything
        assert token[7:] not in everything
        assert PASSWORD not in everything
        assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    @pytest.mark.parametrize(
        ("kind", "idle", "absolute"),
        [
            (SessionKind.COOKIE, timedelta(minutes=30), timedelta(hours=12)),
            (SessionKind.BEARER, timedelta(days=30), timedelta(days=30)),
        ],
    )
    async def test_sessions_end_by_idling_and_by_age(
        self, identity: Identity, clock: Clock, kind: SessionKind, idle: timedelta, absolute: timedelta
    ) -> None:
        """Use moves the idle limit, never the absolute one; the sweep removes what is over."""
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        token = (await identity.log_in("anna", PASSWORD, kind)).token
        start = clock.now
        while clock.now + idle / 2 < start + absolute:
            clock.now += idle / 2
            await identity.authenticate(token)
        clock.now = start + absolute
        with pytest.raises(Unauthenticated):
            await identity.authenticate(token)
        token = (await identity.log_in("anna", PASSWORD, kind)).token
        clock.now += idle
        with pytest.raises(Unauthenticated):
            await identity.authenticate(token)

        assert await identity.sweep() == Swept(done=2)
        assert await identity.sweep() == Swept()

    async def test_a_session_ended_elsewhere_is_not_revived_by_its_use(self, identity: Identity, clock: Clock) -> None:
        """The write that moves the idle limit leaves an ended session ended."""
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        token = (await identity.log_in("anna", PASSWORD)).token
        session = await identity.authenticate(token)
        await identity.log_out(session)
        clock.later(minutes=2)
        await identity._touch(session, clock.now)

        with pytest.raises(Unauthenticated):
            await identity.authenticate(token)

    async def test_outdated_hashes_are_renewed_at_log_in(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody has to choose a new password when the parameters change."""
        user = await identity.sign_up("anna", "anna@example.org", PASSWORD)
        monkeypatch.setattr(identity.passwords, "is_outdated", lambda _: True)
        await identity.log_in("anna", PASSWORD)

        renewed = await identity.user(user.id)
        assert renewed is not None
        assert renewed.password_hash != user.password_hash
        await identity.log_in("anna", PASSWORD)

    @pytest.mark.parametrize("where", ["hash", "store"])
    async def test_a_hash_that_cannot_be_renewed_stays(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        """Whoever gave the right password logs in, also while hashing is busy or the record is."""
        user = await identity.sign_up("anna", "anna@example.org", PASSWORD)
        monkeypatch.setattr(identity.passwords, "is_outdated", lambda _: True)

        async def busy(*_: object) -> str:
            raise Contended("busy")

        target: Any = identity.passwords if where == "hash" else access
        monkeypatch.setattr(target, "hash" if where == "hash" else "change", busy)
        entered = await identity.log_in("anna", PASSWORD)

        assert (await identity.authenticate(entered.token)).user_id == user.id
        found = await identity.user(user.id)
        assert found is not None
        assert found.password_hash == user.password_hash

    async def test_a_password_that_changes_while_its_hash_is_renewed(
        self, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The old password starts no session after that."""
        await identity.sign_up("anna", "anna@example.org", PASSWORD)
        own = (await identity.log_in("anna", PASSWORD)).session
        monkeypatch.setattr(identity.passwords, "is_outdated", lambda _: True)
        begin = identity._begin

        async def late(*given: Any) -> None:
            await identity.change_password(own, PASSWORD, "another maroon llama")
            await begin(*given)

        monkeypatch.setattr(identity, "_begin", late)
        with pytest.raises(InvalidCredentials):
            await identity.log_in("anna", PASSWORD)
        assert [session.id for session in await identity.sessions(own.user_id)] == [own.id]

    async def test_hashing_is_bounded(self, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many log-ins at once are refused, not queued without end."""
        monkeypatch.setattr(passwords_module, "WAITING_MAX", 2)
        tries = [identity.log_in("nobody", PASSWORD) for _ in range(5)]
        done = await asyncio.gather(*tries, return_exceptions=True)

        assert {Contended: 3, InvalidCredentials: 2} == {
            kind: sum(type(one) is kind for one in done) for kind in (Contended, InvalidCredentials)
        }

    async def test_users_are_found_in_bulk(self, identity: Identity) -> None:
        """Absent ones are left out."""
        anna = await identity.sign_up("anna", "anna@example.org", PASSWORD)

        assert {anna.id: anna} == await identity.users({anna.id, make_user_id(1, 2)})
        assert user_key(anna.id).slot == int(anna.id[17:20], 16)
