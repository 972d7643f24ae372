"""Sessions and passwords, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.integration._server import (
    LOG_IN,
    PASSWORD,
    VIEWER,
    Client,
    Person,
    Server,
    new_name,
    settle_all,
)

SESSIONS: Final = "{ viewer { sessions(first: 50) { nodes { id kind createdAt lastSeenAt expiresAt current } } } }"
REVOKE: Final = """mutation($input: RevokeSessionInput!) { revokeSession(input: $input) {
  __typename ... on RevokeSessionSuccess { ended } } }"""
EVERYWHERE: Final = """mutation($input: LogOutEverywhereInput!) { logOutEverywhere(input: $input) {
  __typename ... on LogOutEverywhereSuccess { ended } } }"""
CHANGE: Final = """mutation($input: ChangePasswordInput!) { changePassword(input: $input) {
  __typename ... on ChangePasswordSuccess { user { username } }
  ... on WalletError { code message } ... on InvalidInput { problems { path } } } }"""

SIGN_UP: Final = """mutation($input: SignUpInput!) { signUp(input: $input) {
  ... on SignUpSuccess { token expiresAt user { username } } ... on WalletError { code } } }"""


@pytest.fixture
def person(server: Server) -> Person:
    """Somebody with one session."""
    return settle_all(server.storage, 0)[0]


@pytest.fixture
def devices(server: Server, person: Person) -> Iterator[list[Client]]:
    """Three clients of the person, each with a session of its own: the newest first."""
    made = [Client(server.url, person.token)]
    for _ in range(2):
        given = {"login": person.username, "password": PASSWORD, "session": "BEARER"}
        made.insert(0, Client(server.url, made[0].run(LOG_IN, {"input": given})["token"]))
    yield made
    for client in made:
        client.http.close()


def alive(client: Client) -> bool:
    """Whether the client's session still counts."""
    body = client.post(VIEWER).json()
    return "errors" not in body


def listed(client: Client) -> list[dict[str, Any]]:
    """The sessions as the client sees them."""
    found: list[dict[str, Any]] = client.run(SESSIONS)["sessions"]["nodes"]
    return found


def test_sessions_are_listed(devices: list[Client]) -> None:
    """Newest first, each device sees itself as the current one; no session shows a token."""
    for place, client in enumerate(devices):
        sessions = listed(client)
        assert [session["current"] for session in sessions] == [n == place for n in range(3)]
        assert [s["createdAt"] for s in sessions] == sorted((s["createdAt"] for s in sessions), reverse=True)
        assert all(s["kind"] == "BEARER" and s["expiresAt"] > s["lastSeenAt"] >= s["createdAt"] for s in sessions)
        tokens = [device.http.headers["authorization"].removeprefix("Bearer ") for device in devices]
        assert not any(token in str(sessions) for token in tokens)


def test_revoking_another_session(devices: list[Client]) -> None:
    """A revoked session is over at once; revoking it again finds nothing; the others go on."""
    here, there, third = devices
    revoked = {"input": {"sessionId": listed(here)[1]["id"]}}
    assert here.run(REVOKE, revoked)["ended"] is True
    assert [alive(client) for client in (here, there, third)] == [True, False, True]
    assert here.run(REVOKE, revoked)["ended"] is False
    assert len(listed(here)) == 2


def test_revoking_ones_own_session(devices: list[Client]) -> None:
    """Revoking the session of the request is logging out, also for the rest of the document."""
    here, there, _ = devices
    own = next(session["id"] for session in listed(here) if session["current"])
    document = f'mutation {{ revokeSession(input: {{sessionId: "{own}"}}) {{ ... on RevokeSessionSuccess {{ ended }} }}'
    document += ' openAccount(input: {currency: "USD"}) { __typename } }'
    response = here.post(document)
    assert response.json()["data"] == {"revokeSession": {"ended": True}, "openAccount": None}
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert [alive(here), alive(there)] == [False, True]


@pytest.mark.parametrize("session_id", ["", "x", "0" * 64, "ünï", "a" * 5_000])
def test_revoking_what_is_none(devices: list[Client], session_id: str) -> None:
    """An id of no session ends nothing and is no error."""
    assert devices[0].run(REVOKE, {"input": {"sessionId": session_id}})["ended"] is False
    assert all(alive(client) for client in devices)


def test_others_cannot_revoke(server: Server, devices: list[Client]) -> None:
    """Another user cannot end a session by its id."""
    (other,) = settle_all(server.storage, 0)
    with Client(server.url, other.token) as client:
        assert client.run(REVOKE, {"input": {"sessionId": listed(devices[0])[0]["id"]}})["ended"] is False
    assert alive(devices[0])


def test_logging_out_everywhere(devices: list[Client]) -> None:
    """All sessions end at once, and the answer says how many there were."""
    response = devices[1].post(EVERYWHERE, {"input": {}})
    assert response.json()["data"]["logOutEverywhere"]["ended"] == 3
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert not any(alive(client) for client in devices)


def test_logging_out_everywhere_else(devices: list[Client]) -> None:
    """With `keepThis` the session of the request goes on."""
    assert devices[1].run(EVERYWHERE, {"input": {"keepThis": True}})["ended"] == 2
    assert [alive(client) for client in devices] == [False, True, False]
    assert len(listed(devices[1])) == 1


def test_changing_the_password(person: Person, devices: list[Client]) -> None:
    """The new password counts and the old does not; the session of the request goes on, all others end."""
    new = "another maroon llama entirely"
    changed = devices[0].run(CHANGE, {"input": {"oldPassword": PASSWORD, "newPassword": new}})
    assert changed == {"__typename": "ChangePasswordSuccess", "user": {"username": person.username}}
    assert [alive(client) for client in devices] == [True, False, False]
    for password, kind in ((PASSWORD, "Refusal"), (new, "LogInSuccess")):
        assert devices[0].run(LOG_IN, {"input": {"login": person.username, "password": password}})["__typename"] == kind


def test_passwords_that_may_not_be_chosen(person: Person, devices: list[Client]) -> None:
    """A wrong old password and a bad new one are refused by name, and nothing changes."""
    wrong = devices[0].run(CHANGE, {"input": {"oldPassword": "wrong horse", "newPassword": "another maroon llama"}})
    assert (wrong["__typename"], wrong["code"]) == ("Refusal", "INVALID_CREDENTIALS")
    for new in ("short", "x" * 129, person.username):
        refused = devices[0].run(CHANGE, {"input": {"oldPassword": PASSWORD, "newPassword": new}})
        assert (refused["__typename"], refused["problems"]) == ("InvalidInput", [{"path": ["newPassword"]}])
        assert new not in refused["message"]
    assert all(alive(client) for client in devices)


def test_without_a_session(server: Server) -> None:
    """Nobody can revoke, log out everywhere or change a password without a session."""
    given: tuple[tuple[str, dict[str, Any]], ...] = (
        (REVOKE, {"sessionId": "x"}),
        (EVERYWHERE, {}),
        (CHANGE, {"oldPassword": PASSWORD, "newPassword": "another maroon llama"}),
    )
    with Client(server.url) as client:
        for document, values in given:
            assert client.codes(document, {"input": values}) == {"UNAUTHENTICATED"}


def test_sessions_right_after_logging_in(server: Server, person: Person) -> None:
    """The answer of a log-in may list the sessions; none of them is the request's, for it came without one."""
    document = """mutation($input: LogInInput!) { logIn(input: $input) {
      ... on LogInSuccess { user { sessions(first: 50) { nodes { current } } } } } }"""
    with Client(server.url) as client:
        answer = client.run(document, {"input": {"login": person.username, "password": PASSWORD, "session": "BEARER"}})
    assert answer["user"]["sessions"]["nodes"] == [{"current": False}] * 2


@pytest.mark.parametrize("kind", [None, "NONE", "COOKIE", "BEARER"])
def test_a_newcomer_may_begin_with_a_session(server: Server, kind: str | None) -> None:
    """One that was asked for works at once, by its cookie or token; a refused sign-up begins none."""
    name, has_session = new_name(), kind in {"COOKIE", "BEARER"}
    given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    given |= {"session": kind} if kind else {}
    with Client(server.url) as client:
        answer = client.post(SIGN_UP, {"input": given})
        told, cookies = answer.json()["data"]["signUp"], answer.headers.get_list("set-cookie")
        assert (told["user"]["username"], bool(told["expiresAt"])) == (name, has_session)
        assert (bool(told["token"]), bool(cookies)) == (kind == "BEARER", kind == "COOKIE")
        client.http.cookies.clear()
        again = client.post(SIGN_UP, {"input": given})
        assert again.json()["data"]["signUp"] == {"code": "INVALID_INPUT"}
        assert "set-cookie" not in again.headers
        browser = {"Cookie": "".join(cookies).partition(";")[0], "Sec-Fetch-Site": "same-origin"}
        client.http.headers.update({"Authorization": f"Bearer {told['token']}"} if told["token"] else browser)
        assert alive(client) is has_session
        if has_session:
            assert [(one["kind"], one["current"]) for one in listed(client)] == [(kind, True)]
