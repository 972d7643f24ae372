"""Somebody who uses REST, over HTTP to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.integration._server import Person, Server, new_key, settle_all
from wallet_gql.testing.patience import patience


@dataclass(slots=True)
class Rest:
    """Somebody who sends REST requests to one server."""

    http: httpx.Client
    person: Person
    problems: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        """Send a request; an error must be a problem with all its members."""
        headers = {**more.pop("headers", {}), **({"Idempotency-Key": key} if key is not None else {})}
        answer = self.http.request(method, path, headers=headers, **more)
        if answer.is_error:
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["requestId"] == answer.headers["x-request-id"]
            assert problem["status"] == answer.status_code
            assert {"type", "title", "detail", "code", "retryable"} <= set(problem)
        return answer

    def get(self, path: str, **params: Any) -> Any:
        """What is found; it must be."""
        answer = self.ask("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, to: str, minor: int | str, key: str | None = None, **more: Any) -> httpx.Response:
        """Pay somebody in EUR."""
        return self.ask("POST", "/v1/transfer", key=key or new_key(), json=self.payment(to, minor, **more))

    def payment(self, to: str, minor: Any, **more: Any) -> dict[str, Any]:
        """The body of a payment in EUR."""
        given = {"fromAccountId": self.person.account_id, "to": {"username": to}}
        return {**given, "amount": {"minorUnits": minor, "currency": "EUR"}, **more}

    def balance(self) -> tuple[str, str]:
        """What is posted and what is held in EUR."""
        account = self.get(f"/v1/account/{self.person.account_id}")
        return account["posted"]["minorUnits"], account["held"]["minorUnits"]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["code"]


def client_of(server: Server, person: Person) -> httpx.Client:
    """A mobile client: it has the token."""
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {person.token}"}, timeout=patience(30))


def somebody(server: Server, balance_minor: int) -> Iterator[Rest]:
    """Somebody new with so much EUR."""
    person = settle_all(server.storage, balance_minor)[0]
    with client_of(server, person) as http:
        yield Rest(http, person)
