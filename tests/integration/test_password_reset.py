"""A forgotten password: the operator's command, and what is left of the old one afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from tests.integration._server import PASSWORD, Client, Person, environment, run_cli, serving, settle_all
from tests.integration.test_security_log_in import ELSEWHERE, HOME, Clock, kinds, log_in_held, opened, outcome
from wallet_gql.domain.errors import Contended, InvalidCredentials, InvalidInput, Unauthenticated
from wallet_gql.domain.security_events import FAILURES_MAX, SITE_FAILURES_MAX, EventKind, Visitor
from wallet_gql.domain.users import User
from wallet_gql.identity import resets
from wallet_gql.identity.resets import make_password, reset_password
from wallet_gql.identity.strength import check_strength
from wallet_gql.storage import PAGE_MAX
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import CheapIdentity
from wallet_gql.transports.cli.app import app

OLD = "plain maroon bicycle"
NEW = "quiet llama seven"
LOG_IN = """mutation($input: LogInInput!) { logIn(input: $input) { __typename
  ... on LogInSuccess { token } ... on WalletError { code } } }"""
EVENTS = "{ viewer { securityEvents(first: 5) { nodes { kind address } } } }"
OPEN = "mutation($input: OpenAccountInput!) { openAccount(input: $input) { __typename } }"


@pytest.fixture
def clock() -> Clock:
    """Starts with 2026."""
    return Clock()


@pytest.fixture
async def identity(clock: Clock) -> AsyncIterator[CheapIdentity]:
    """Users on three simulated nodes, one of them anna."""
    async with opened("memory://?nodes=3", clock) as made:
        await made.sign_up("anna", "anna@example.org", OLD)
        yield made


async def anna(identity: CheapIdentity) -> User:
    """The user as she is now."""
    found = await identity.find("anna")
    assert found is not None
    return found


async def test_the_old_password_and_all_sessions_are_over(
    identity: CheapIdentity, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The new password works, the user sees an event without an address, and no log line has the password."""
    caplog.set_level(logging.DEBUG)
    entered = [await identity.log_in("anna", OLD, visitor=HOME) for _ in range(3)]
    elsewhere = CheapIdentity(identity.store, clock)
    for one in entered:
        await elsewhere.authenticate(one.token)
    assert await reset_password(identity, await anna(identity), NEW) == 3
    for process in (identity, elsewhere):
        for one in entered:
            with pytest.raises(Unauthenticated):
                await process.authenticate(one.token)
            with pytest.raises(Unauthenticated):
                await process.renew(one.session)
        assert await outcome(process, "anna", OLD, HOME) == "INVALID_CREDENTIALS"
        assert await outcome(process, "anna@example.org", NEW, HOME) == "ok"
    event = next(one for one in (await identity.events.page(entered[0].user.id)).items if one.kind == "password_reset")
    assert (event.visitor, event.subject, event.at) == (None, None, clock.now)
    assert "password_reset of" in caplog.text
    assert NEW not in caplog.text


@pytest.mark.parametrize("login", ["anna", "anna@example.org"])
async def test_who_has_tried_too_often_can_log_in_at_once(identity: CheapIdentity, login: str) -> None:
    """Under name and address, from every place where it failed. What others did from there still counts."""
    await identity.sign_up("bert", "bert@example.org", OLD)
    places = [HOME, ELSEWHERE, Visitor(""), Visitor("2001:db8::1")]
    for place in places:
        for _ in range(FAILURES_MAX):
            await outcome(identity, login, "wrong", place)
            await outcome(identity, "bert", "wrong", place)
        assert await outcome(identity, login, OLD, place) == "RATE_LIMITED"
    for net in range(SITE_FAILURES_MAX):
        await outcome(identity, login, "wrong", Visitor(f"2001:db8:0:{net:x}::1"))
    assert await outcome(identity, login, OLD, Visitor("2001:db8:0:ffff::1")) == "RATE_LIMITED"
    await reset_password(identity, await anna(identity), NEW)
    for place in (*places, Visitor("2001:db8:0:ffff::1")):
        assert await outcome(identity, login, NEW, place) == "ok"
        assert await outcome(identity, "bert", OLD, place) in {"RATE_LIMITED", "ok"}
    assert await outcome(identity, "bert", OLD, HOME) == "RATE_LIMITED"


@pytest.mark.parametrize("fails", [False, True])
async def test_forgetting_failures_keeps_nobody_in(
    identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """There may be a thousand: no session lives on meanwhile, and the reset is made if they cannot be forgotten."""
    entered = await identity.log_in("anna", OLD)
    forget, found = identity.throttles.forget, list[str]()

    async def slowly(*given: Any) -> None:
        with pytest.raises(Unauthenticated):
            await identity.authenticate(entered.token)
        found.append(await outcome(identity, "anna", OLD, ELSEWHERE))
        if fails:
            raise Contended("somebody still tries")
        await forget(*given)

    monkeypatch.setattr(identity.throttles, "forget", slowly)
    assert await reset_password(identity, await anna(identity), NEW) == 1
    assert found == ["INVALID_CREDENTIALS"]
    assert await outcome(identity, "anna", NEW, HOME) == "ok"
    assert ("some failed log-ins" in caplog.text) is fails


async def test_wrong_old_passwords_are_forgotten_too(identity: CheapIdentity) -> None:
    """The user is asked to change the new password at once."""
    session = (await identity.log_in("anna", OLD, visitor=HOME)).session
    for _ in range(FAILURES_MAX):
        with pytest.raises(InvalidCredentials):
            await identity.change_password(session, "wrong", "another maroon llama", HOME)
    await reset_password(identity, await anna(identity), NEW)
    session = (await identity.log_in("anna", NEW, visitor=HOME)).session
    await identity.change_password(session, NEW, "another maroon llama", HOME)


@pytest.mark.parametrize("new", ["short", "anna@example.org", "x" * 129, "nul\0" * 4, OLD])
async def test_what_nobody_may_choose_is_refused(identity: CheapIdentity, new: str) -> None:
    """The rules are those of every other password, and nothing has changed."""
    before = await anna(identity)
    token = (await identity.log_in("anna", OLD)).token
    with pytest.raises(InvalidInput):
        await reset_password(identity, before, new)
    assert await anna(identity) == before
    await identity.authenticate(token)
    assert EventKind.PASSWORD_RESET not in await kinds(identity)


async def test_of_two_resets_at_once_one_is_made(identity: CheapIdentity) -> None:
    """Each operator who is told a password has set it."""
    user = await anna(identity)
    given = [make_password() for _ in range(5)]
    done = await asyncio.gather(*(reset_password(identity, user, new) for new in given), return_exceptions=True)
    assert [type(one) for one in done if one != 0] == [Contended] * 4
    assert await outcome(identity, "anna", given[done.index(0)], HOME) == "ok"
    assert (await kinds(identity)).count(EventKind.PASSWORD_RESET) == 1


async def test_a_log_in_does_not_outlive_a_reset(identity: CheapIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that verified the old password before starts no session after."""
    user = await anna(identity)
    late, go_on = await log_in_held(identity, monkeypatch, OLD)
    await reset_password(identity, user, NEW)
    go_on.set()
    with pytest.raises(InvalidCredentials):
        await late
    assert await identity.sessions(user.id) == []


@pytest.mark.parametrize(("pages", "then"), [(2, "ok"), (1, "RATE_LIMITED")])
async def test_a_flood_of_failures_is_searched_up_to_a_bound(
    identity: CheapIdentity, clock: Clock, monkeypatch: pytest.MonkeyPatch, pages: int, then: str
) -> None:
    """The user's own are found behind a page of somebody else's; the reset is made even if they are not."""
    monkeypatch.setattr(resets, "_PAGES_MAX", pages)
    for _ in range(FAILURES_MAX):
        await outcome(identity, "anna", "wrong", HOME)
    clock.later(seconds=1)
    for n in range(PAGE_MAX + 20):
        await outcome(identity, "anna", "wrong", Visitor(f"198.51.100.{n}"))
    await reset_password(identity, await anna(identity), NEW)
    assert await outcome(identity, "anna", NEW, HOME) == then
    assert await outcome(identity, "anna", NEW, Visitor("203.0.113.1")) == "ok"


def test_passwords_that_are_made_are_hard_to_guess() -> None:
    """Each passes the rule for new ones, and no two are the same."""
    made = {make_password() for _ in range(50)}
    assert len(made) == 50
    for one in made:
        assert len(one) == 24
        check_strength(one, ("anna", "anna@example.org"))


# The command


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'wallet.db'}"


def command(storage: str, *arguments: str, given: bytes | None = None) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["reset-password", *arguments], env=environment(storage), input=given)


def logs_in(url: str, person: Person, password: str) -> str | None:
    """The token, if the password is right."""
    with Client(url) as client:
        answer = client.run(LOG_IN, {"input": {"login": person.username, "password": password, "session": "BEARER"}})
    assert answer.get("code") in {None, "INVALID_CREDENTIALS"}
    token: str | None = answer.get("token")
    return token


def test_a_new_password_is_printed_once_and_counts_in_every_worker(tmp_path: Path, storage: str) -> None:
    """Servers that run refuse the old token: at once where something would change, soon where it is only read."""
    (person,) = settle_all(storage, 0)
    with serving(tmp_path, storage=storage, workers="2") as server:
        for _ in range(10):
            with Client(server.url, person.token) as client:
                assert client.post("{ viewer { id } }").json()["data"]["viewer"]
        done = run_cli(tmp_path, "reset-password", person.username, storage=storage)
        assert done.returncode == 0, done.stderr
        told, printed = done.stdout.splitlines()
        assert told == f"the password of {person.username} was reset; ended: 1 session"
        new = printed.removeprefix("password  ")
        for _ in range(10):  # each connection is taken by either worker
            with Client(server.url, person.token) as client:
                assert client.codes(OPEN, {"input": {"currency": "JPY"}}) == {"UNAUTHENTICATED"}
        assert logs_in(server.url, person, PASSWORD) is None
        token = logs_in(server.url, person, new)
        with Client(server.url, token) as client:
            seen = client.run(EVENTS)["securityEvents"]["nodes"]
            assert [one["kind"] for one in seen][:3] == ["LOGGED_IN", "LOG_IN_FAILED", "PASSWORD_RESET"]
            assert seen[2]["address"] is None
        bearer = {"Authorization": f"Bearer {token}"}
        rest = httpx.get(f"{server.url}/v1/event?first=3", headers=bearer, timeout=patience(30)).json()
        assert [one["kind"] for one in rest["events"]] == [one["kind"] for one in seen][:3]
        end = time.monotonic() + patience(60)
        refused = 0
        while refused < 10:  # until then a worker may trust what it has read
            with Client(server.url, person.token) as client:
                refused = refused + 1 if client.post("{ viewer { id } }").json()["data"]["viewer"] is None else 0
            assert time.monotonic() < end
        assert new not in server.log + done.stderr
    assert new.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("wallet.db*"))


def test_programs_get_it_as_json(storage: str) -> None:
    """With the password if the command has made it, without it if it was given."""
    (person,) = settle_all(storage, 0)
    made = json.loads(command(storage, person.username, "--json").stdout)
    assert (made["username"], made["sessions"], len(made["password"])) == (person.username, 1, 24)
    given = command(storage, person.username, "--stdin", "--json", given=f"{NEW}\r\nand more\n".encode())
    assert json.loads(given.stdout) == {"username": person.username, "sessions": 0}
    again = command(storage, person.username, "--stdin", given=NEW.encode())
    assert isinstance(again.exception, InvalidInput)
    assert "other than the password you have" in str(again.exception)


@pytest.mark.parametrize(
    ("arguments", "given", "says"),
    [
        (("nobody",), None, "wallet-gql users"),
        (("nobody@example.org", "--stdin"), NEW.encode(), "wallet-gql users"),
        (("anna", "--stdin"), b"", "8 to 128 characters"),
        (("anna", "--stdin"), b"\xff\xfe\n", "UTF-8"),
        (("anna", "--stdin"), b"x" * 20_000, "8 to 128 characters"),
        (("anna", "--stdin"), b"password1\n", "harder to guess"),
    ],
)
def test_what_cannot_be_done_says_why(storage: str, arguments: tuple[str, ...], given: bytes | None, says: str) -> None:
    """A user who is not there, a password that may not be chosen: one clear line, and nothing has changed."""
    (person,) = settle_all(storage, 0)
    named = [person.username if one == "anna" else one for one in arguments]
    done = command(storage, *named, given=given)
    assert isinstance(done.exception, InvalidInput)
    assert says in str(done.exception)
    assert done.stdout == ""
