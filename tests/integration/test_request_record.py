"""What of a request is counted: each operation once, under its own name, whatever the client calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration._graphql import execute, wallet_in
from wallet_gql.metrics import ANSWERS
from wallet_gql.transports.http.record import RECORD, RequestRecord


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The verb and the code of each answer that is counted."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(ANSWERS, "add", lambda _api, *labels: found.append(labels))
    return found


LOG_IN = '(input: {login: "nobody", password: "wrong horse battery"}) { ... on WalletError { code } }'


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{ transfer: viewer { id } }", [("viewer", "UNAUTHENTICATED")]),
        ('{ viewer: currencies { code } node: account(id: "x") { id } }', [("account", "UNAUTHENTICATED")]),
        (f"mutation {{ transfer: logIn{LOG_IN} }}", [("logIn", "INVALID_CREDENTIALS")]),
        (f"mutation {{ logIn: logIn{LOG_IN} }}", [("logIn", "INVALID_CREDENTIALS")]),
        ("{ a: viewer { id } b: viewer { id } }", [("viewer", "UNAUTHENTICATED")] * 2),
    ],
)
async def test_an_alias_does_not_say_what_is_counted(
    document: str, expected: list[Any], tmp_path: Path, counted: list[tuple[str, ...]]
) -> None:
    """Failures count under the field's name, with a compiled plan as without."""
    async with wallet_in(tmp_path, rate_limits="off", graphql_compile_after=2) as wallet:
        for _ in range(4):
            counted.clear()
            RECORD.set(record := RequestRecord("graphql"))
            await execute(wallet, None, document, {})
            record.end(None)
            failures = [labels for labels in counted if labels[1] != "OK"]
            assert failures == expected
            assert len(counted) == len(record.verbs)


def test_a_list_of_failures_counts_once(counted: list[tuple[str, ...]]) -> None:
    """Each code once for an operation, and the other operations of the same name are successes."""
    record = RequestRecord("graphql", ("user", "user", "viewer"), {"a": "user", "b": "user", "viewer": "viewer"})
    for _ in range(50):
        record.fail("INTERNAL", place="a")
        record.fail("CONTENDED", place="a")
    record.end(None)
    assert sorted(counted) == [("user", "CONTENDED"), ("user", "INTERNAL"), ("user", "OK"), ("viewer", "OK")]
    assert record.outcome == "INTERNAL"


def test_failures_of_a_stream_count_while_it_lasts(counted: list[tuple[str, ...]]) -> None:
    """Nobody waits for its end to learn of a bug, and what it keeps does not grow."""
    record = RequestRecord("graphql", ("listEvents",), {"events": "listEvents"}, is_stream=True)
    for _ in range(1_000):
        record.fail("INTERNAL", place="events")
    assert counted == [("listEvents", "INTERNAL")]
    assert len(record.failures) == 1
    record.end(None)
    assert counted == [("listEvents", "INTERNAL")]
