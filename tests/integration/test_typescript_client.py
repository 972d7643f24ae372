"""The TypeScript client: its typed documents are those of the schema, its types hold, and its own tests pass."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest

from tests.integration._clients import ROOT, install, program, run_program

CLIENT: Final = ROOT / "clients" / "typescript"

pytestmark = pytest.mark.timeout(400)  # the first test installs


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """Its compilers are there."""
    install(CLIENT)


def test_documents_are_those_of_the_schema() -> None:
    """`npm run generate` would write the committed file."""
    run_program([program("node"), "generate.mjs", "--check"], CLIENT, {})


def test_its_own_tests() -> None:
    """It compiles, strictly, and its tests pass."""
    run_program([program("node"), "node_modules/typescript/bin/tsc"], CLIENT, {})
    tests = sorted(map(str, (CLIENT / "dist" / "test").glob("*.test.js")))
    report = run_program([program("node"), "--test", "--test-reporter=tap", *tests], CLIENT, {})
    assert re.search(r"^# fail 0$", report, re.MULTILINE), report
    passed = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 30


def test_it_depends_on_nothing() -> None:
    """Who installs it installs nothing else."""
    about = json.loads((CLIENT / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & about.keys()
