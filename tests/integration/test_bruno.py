"""The collection for Bruno, run by its command line against a server: every check of every request holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clients import ROOT, install, program, run_program
from tests.integration._server import PASSWORD, Person, Server

COLLECTION: Final = ROOT / "clients" / "bruno"
REQUESTS: Final = sorted(path for folder in ("rest", "graphql") for path in (COLLECTION / folder).glob("*.bru"))

pytestmark = [pytest.mark.trial, pytest.mark.timeout(400)]  # the first test installs


def bruno(server: Server, person: Person, report: Path) -> list[dict[str, Any]]:
    """What came of each request when somebody with money runs the collection, in order."""
    install(COLLECTION)
    given = {"url": server.url, "login": person.username, "password": PASSWORD}
    variables = [part for name, value in given.items() for part in ("--env-var", f"{name}={value}")]
    command = [program("node"), "node_modules/.bin/bru", "run", "-r", "--reporter-json", str(report), *variables]
    run_program(command, COLLECTION, {})
    (only,) = json.loads(report.read_text())
    found: list[dict[str, Any]] = only["results"]
    return found


def test_the_collection_runs(server: Server, people: list[Person], tmp_path: Path) -> None:
    """Sign up, balances, pay, the same again, a refusal, history: over REST and over GraphQL."""
    results = bruno(server, people[0], tmp_path / "report.json")
    assert len(results) == len(REQUESTS) == 18
    for result in results:
        checks = [*result["assertionResults"], *result["testResults"]]
        assert checks
        assert {one["status"] for one in checks} == {"pass"}, result


def test_every_request_is_one_of_both_apis() -> None:
    """What one folder asks the other asks, too."""
    steps = [re.sub(r"^\d+-", "", path.stem) for path in REQUESTS]
    assert sorted(steps[:9]) == sorted(steps[9:])
