"""A server that is killed within a sign-up: the same request, sent again at once to another one, completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration._server import LOG_IN, PASSWORD, SIGN_UP, Client, new_name, serving
from wallet_gql.testing.patience import patience

POINTS: Final = (
    ("sign_up.reserved=kill@1", "graphql"),
    ("sign_up.reserved=kill@2", "rest"),
    ("sign_up.created=kill@1", "graphql"),
    ("sign_up.confirmed=kill@1", "rest"),
    ("sign_up.confirmed=kill@2", "graphql"),
)
"""Between any two of its commits, over either API."""


def sign_up(client: Client, api: str, given: dict[str, str]) -> str:
    """The code of the refusal, in GraphQL of its first problem; empty if there is none."""
    if api == "rest":
        return str(client.http.post("/v1/user", json={**given, "session": "BEARER"}).json().get("code", ""))
    problems = client.run(SIGN_UP, {"input": given}).get("problems")
    return str(problems[0]["code"]) if problems else ""


@pytest.mark.trial
@pytest.mark.parametrize(("point", "api"), POINTS)
def test_k5_the_same_sign_up_again_completes_it(point: str, api: str, tmp_path: Path) -> None:
    """It succeeds, or its name is taken by what the first one has created; the log-in works at once."""
    name, storage = new_name(), f"sqlite:///{tmp_path / 'wallet.db'}"
    given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    with serving(tmp_path, storage=storage, failpoints=point) as server, Client(server.url) as client:
        with pytest.raises(httpx.TransportError):
            sign_up(client, api, given)
        assert server.process.wait(patience(10)) == -9
    with serving(tmp_path, storage=storage) as server, Client(server.url) as client:
        assert sign_up(client, api, given) == ("" if "reserved" in point else "USERNAME_TAKEN")
        for login in (name, given["email"]):
            found = client.run(LOG_IN, {"input": {"login": login, "password": PASSWORD, "session": "BEARER"}})
            assert found["token"]
