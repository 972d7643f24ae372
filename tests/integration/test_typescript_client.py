"""The TypeScript client: its typed documents are those of the schema, its types hold, and its own tests pass."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.integration._clients import ROOT, install, program, run_program

CLIENT: Final = ROOT / "clients" / "typescript"

USER: Final = """import { Client, HomeDocument, relayDataId, type HomeQuery } from "wallet-gql-client";
const { viewer }: HomeQuery = await new Client().ask(HomeDocument, { entries: 5 });
export const found: string | undefined = viewer?.accounts[0]?.id;
export const key: unknown = relayDataId({ id: "acc_1" }, "Account");
"""
"""A module of a project that has installed the package."""

pytestmark = pytest.mark.timeout(400)  # the first test installs


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """Its compilers are there."""
    install(CLIENT)


def test_documents_are_those_of_the_schema() -> None:
    """`npm run generate` would write the committed file."""
    run_program([program("node"), "generate.mjs", "--check"], CLIENT, {})


@pytest.mark.trial
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


def test_what_is_published(tmp_path: Path) -> None:
    """`npm pack` has each module with its types, the licence and the README; who installs that can use it."""
    source, project = tmp_path / "typescript", tmp_path / "project"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (source / "node_modules").symlink_to(CLIENT / "node_modules")
    run_program([program("npm"), "pack", "--loglevel=error", "--offline"], source, {})
    (packed,) = source.glob("*.tgz")
    installed = project / "node_modules" / "wallet-gql-client"
    run_program([program("tar"), "-xzf", str(packed)], tmp_path, {})
    installed.parent.mkdir(parents=True)
    (tmp_path / "package").rename(installed)
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    modules = {f"dist/src/{path.stem}{end}" for path in (CLIENT / "src").glob("*.ts") for end in (".js", ".d.ts")}
    assert files == modules | {"package.json", "README.md", "LICENSE"}
    assert (installed / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    (project / "package.json").write_text('{"type": "module"}')
    (project / "user.ts").write_text(USER)
    compiler = str(CLIENT / "node_modules" / "typescript" / "bin" / "tsc")
    strict = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom"]
    run_program([program("node"), compiler, *strict, "user.ts"], project, {})
    shown = 'import { Client, toDecimal } from "wallet-gql-client"; console.log(new Client() && toDecimal(1230n, 2))'
    assert run_program([program("node"), "--input-type=module", "--eval", shown], project, {}).strip() == "12.30"
