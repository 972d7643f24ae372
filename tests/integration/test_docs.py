"""The documentation is true: links resolve, commands exist, examples run, lists are those of the code."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from graphql import build_schema, parse, validate
from sqlalchemy import Table
from typer.testing import CliRunner

from tests.integration._cli import commands
from tests.integration._server import run_cli, serving, settle_all
from wallet_gql import __version__
from wallet_gql.backends.relational import tables
from wallet_gql.backends.sqlite.setup import migrate
from wallet_gql.settings import FROM_FILES, Settings
from wallet_gql.storage import Store
from wallet_gql.testing.conformance import StoreConformance
from wallet_gql.testing.patience import patience
from wallet_gql.transports.cli.app import app

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
FIRST_TRANSFER: Final = DOCS / "first-transfer.md"
PAGES: Final = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

NOT_SETTINGS: Final = {"WALLET_FAILPOINTS", "WALLET_TEST_NO_SKIPS"}
"""Variables that are read elsewhere than in `Settings`."""

_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_FENCE: Final = re.compile(r"^ *```(?P<kind>[a-z]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`[^`\n]+`")
_MARKED: Final = re.compile(r"^(?:<!-- (?P<mark>.*?) -->\n)?^ *```sh\n", re.MULTILINE)
_RUN_BY: Final = re.compile(r"run by (?P<file>tests/\S+\.py)::(?P<test>test_\w+)")
_RUN: Final = re.compile(r"^<!-- run -->\n```(?P<kind>sh|js)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

CURL: Final = f"""#!{sys.executable}
# Stands in for curl where there is none: curl -sS URL -H 'Name: value' … --data @-
import sys, urllib.request
url, rest = sys.argv[2], sys.argv[3:]
headers = dict(value.split(": ", 1) for flag, value in zip(rest, rest[1:]) if flag == "-H")
assert rest[-2:] == ["--data", "@-"]
data = sys.stdin.buffer.read().replace(b"\\n", b"")  # so does curl, with --data
request = urllib.request.Request(url, data, headers)
sys.stdout.write(urllib.request.urlopen(request).read().decode())
"""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="utf-8")


def code_of(page: Path) -> str:
    """Everything on a page that is set as code."""
    text = read(page)
    blocks = [match["text"] for match in _FENCE.finditer(text)]
    return "\n".join([*blocks, *_SPAN.findall(_FENCE.sub("", text))])


def anchors_of(page: Path) -> set[str]:
    """What a link to a heading of a page may say after `#`."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", read(page)), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file names one, and every link to a heading an existing heading."""
    links = [match["target"] for match in _LINK.finditer(_FENCE.sub("", read(page)))]

    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


def test_every_page_is_reached() -> None:
    """From the README one comes to every page."""
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        for match in _LINK.finditer(read(page)):
            target = (page.parent / match["target"].partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in seen and target.exists():
                ahead.append(target)

    assert set() == set(PAGES) - seen


def test_the_site_lists_pages_that_exist() -> None:
    """`make site` would tell, too, but it needs tools that are not installed here."""
    listed = re.findall(r": (\S+\.md)$", read(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert len(listed) > 20
    assert [name for name in listed if not (ROOT / name).is_file()] == []


def test_commands_exist() -> None:
    """Every `wallet-gql …` that the docs show is a command whose help works."""
    shown = {command for page in PAGES for command in re.findall(r"\bwallet-gql ([a-z]+(?:-[a-z]+)*)\b", code_of(page))}
    group = commands()
    known = set(group.list_commands(group.make_context("wallet-gql", [], resilient_parsing=True)))

    assert shown <= known
    for command in sorted(shown):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_options_exist() -> None:
    """Every `--option` that the docs show behind a command is one that it takes."""
    group = commands()
    for page in PAGES:
        for words in re.findall(r"\bwallet-gql ([^`\n|;&]+)", code_of(page)):
            command = group
            for word in words.split():
                command = getattr(command, "commands", {}).get(word, command)
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
            shown = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", words))
            assert shown <= known, f"{page.name}: wallet-gql {words}"


def test_make_targets_exist() -> None:
    """Every `make …` that the docs show is a target."""
    shown = {target for page in PAGES for target in re.findall(r"\bmake ([a-z-]+)", code_of(page))}
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))

    assert shown <= targets


def test_settings_are_told() -> None:
    """The README names every setting, with its default, and no page names one that does not exist."""
    known = {f"WALLET_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    shown = {name for page in PAGES for name in re.findall(r"\bWALLET_[A-Z_]+\b", read(page))}
    rows = [line for line in read(ROOT / "README.md").splitlines() if line.startswith("| `WALLET_")]
    told = {
        name.strip("` "): default.strip("` ")
        for row in rows
        for name, default in zip(*(cell.split(",") for cell in row.split("|")[1:3]), strict=False)
    }

    shown = {
        name for name in shown if not name.startswith(("WALLET_TEST_", "WALLET_SOAK_"))
    }  # of tests, not of the wallet
    in_files = {f"WALLET_{name.upper()}_FILE" for name in FROM_FILES}
    assert shown <= known.keys() | in_files | NOT_SETTINGS
    for name, default in known.items():
        assert name in told, f"the README does not name {name}"
        plain = int(default) if isinstance(default, float) and default.is_integer() else default
        assert str(plain) == told[name], name


def test_the_citation_names_this_version() -> None:
    """`CITATION.cff` has the package's version."""
    assert f"\nversion: {__version__}\n" in read(ROOT / "CITATION.cff")


def test_paths_of_the_repository_exist() -> None:
    """Files that the docs name in code exist, or a recipe makes them."""
    patches = [read(patch) for patch in (ROOT / "tests" / "recipes").glob("*.patch")]
    made = {path for patch in patches for path in re.findall(r"^\+\+\+ b/src/wallet_gql/(\S+)$", patch, re.MULTILINE)}
    for page in PAGES:
        if page.name == "CHANGELOG.md" or "evidence" in page.parts:
            continue  # history may name what is gone
        for path in re.findall(r"`((?:src|tests|docs|benchmarks|scripts)/[\w./-]+\w)`", read(page)):
            assert (ROOT / path).exists(), f"{page.name} names {path}"
        for path in re.findall(r"`((?:backends|domain|transports|graphql)/\w+\.py)`", read(page)):
            below = (ROOT / "src/wallet_gql" / path, ROOT / "src/wallet_gql/transports" / path)
            assert path in made or any(candidate.exists() for candidate in below), f"{page.name} names {path}"


def test_what_is_made_from_code_is_up_to_date() -> None:
    """The page of errors, and every block that shows a file, are what `scripts/docs.py` would write now."""
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def described(page: str) -> Iterator[tuple[str, dict[str, tuple[str, bool, bool]]]]:
    """The tables on the schema page: each name, and its columns as (type, part of the key, nullable)."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        name, _, rest = section.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| (\w+)([^|]*)\|", rest, re.MULTILINE)
        if rows:
            yield name, {column: (kind, "key" in more, "null" in more) for column, kind, more in rows}


def columns_of(table: Table) -> dict[str, tuple[str, bool, bool]]:
    """A table's columns in the same form."""
    kinds = {"TEXT": "text", "BIGINT": "big"}
    return {c.name: (kinds[str(c.type)], c.primary_key, bool(c.nullable)) for c in table.columns}


def test_the_schema_page_tells_every_table() -> None:
    """`docs/schema.md` has the tables of `_tables.py`: columns in order, types, keys, null, indexes, constraints."""
    text = read(DOCS / "schema.md")
    told = dict(described(text))

    assert [table.name for table in tables.ALL] == list(told)
    for table in tables.ALL:
        assert list(columns_of(table).items()) == list(told[table.name].items()), table.name
        section = re.split(rf"^## {table.name}\n", text, flags=re.MULTILINE)[1].split("\n## ")[0]
        named = {str(index.name) for index in table.indexes}
        named |= {str(constraint.name) for constraint in table.constraints if constraint.name}
        assert named == set(re.findall(rf"`((?:{table.name})_\w+)`", section)), table.name


def test_the_schema_page_is_what_sqlite_has(tmp_path: Path) -> None:
    """A fresh file has the tables of the page, and beside them only the version's."""
    told = dict(described(read(DOCS / "schema.md")))
    file = tmp_path / "wallet.db"
    migrate(file)

    with closing(sqlite3.connect(file)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {*told, "alembic_version"} == set(names)
        for name, columns in told.items():
            rows = connection.execute(f"PRAGMA table_info({name})").fetchall()
            kinds = {"TEXT": "text", "INTEGER": "big"}
            found = {row[1]: (kinds[row[2]], row[5] > 0, row[3] == 0) for row in rows}
            assert columns == found, name


def test_the_guarantees_page_names_tests_that_exist() -> None:
    """Each guarantee is proved by tests of the conformance suite, and all of its tests are named."""
    text = read(DOCS / "guarantees.md")
    named = {name for name in re.findall(r"`(test_\w+)`", text) if not name.endswith("_")}
    suite = {name for name in dir(StoreConformance) if name.startswith("test_")}

    assert named <= suite
    proving = {name for name in suite if re.match(r"test_(g\d|trap)_", name)}
    assert set() == proving - named
    assert {f"g{n}" for n in range(1, 9)} == {name.split("_")[1] for name in proving if name.startswith("test_g")}


def test_the_backend_page_names_every_member() -> None:
    """The guide for authors of backends mentions every member of the protocol."""
    text = read(DOCS / "writing-a-backend.md")
    members = {name for name in vars(Store) if not name.startswith("_")}

    assert members == {name for name in members if f"`{name}`" in text or f"`{name}(" in text}


def test_every_decision_is_listed() -> None:
    """The index has every decision, under its own title."""
    index = read(DOCS / "decisions" / "README.md")
    listed = re.findall(r"\[(\d{4})\]\(([^)]+)\) \| (.+) \|", index)
    there = sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))

    assert there == [name for _, name, _ in listed]
    for number, name, title in listed:
        assert read(DOCS / "decisions" / name).startswith(f"# {number}. {title}\n")


@each_page
def test_every_command_is_run(page: Path) -> None:
    """Commands in a block of their own are run here, or by the test that is named, or it is said why not.

    Above such a block stands `<!-- run -->`, `<!-- run by tests/…py::test_… -->` or `<!-- not run: reason -->`.
    """
    if "evidence" in page.parts:
        return  # each page gives the command that repeats a long trial
    for block in _MARKED.finditer(read(page)):
        mark = block["mark"] or ""
        if named := _RUN_BY.fullmatch(mark):
            assert f"def {named['test']}(" in read(ROOT / named["file"]), f"{page.name}: {mark}"
        else:
            assert mark == "run" or re.fullmatch(r"not run: .{10,}", mark), f"{page.name}: unmarked at {block.start()}"
        assert mark != "run" or page == FIRST_TRANSFER, f"{page.name}: nothing runs it"


def test_every_document_is_valid() -> None:
    """What the pages show of GraphQL is asked as the schema has it."""
    schema = build_schema(read(ROOT / "schema.graphql"))
    shown = [
        (page.name, match["text"])
        for page in PAGES
        for match in _FENCE.finditer(read(page))
        if match["kind"] == "graphql"
    ]
    assert len(shown) > 5
    assert [(name, error.message) for name, text in shown for error in validate(schema, parse(text))] == []


def test_the_first_transfer_works(tmp_path: Path) -> None:
    """The page's commands, run as they stand: they pay once, then replay, and the books are clean."""
    script = "\n".join(match["text"] for match in _RUN.finditer(read(FIRST_TRANSFER)))
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text("")
    wallet = programs / "wallet-gql"
    wallet.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wallet_gql "$@"\n')
    wallet.chmod(0o755)
    if shutil.which("curl") is None:
        curl = programs / "curl"
        curl.write_text(CURL)
        curl.chmod(0o755)

    with serving(tmp_path) as server:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        set_here = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "API": f"{server.url}/graphql",
            "WALLET_STORAGE": server.storage,
        }
        command = ["sh", "-eu", "-c", script]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=patience(60),
            cwd=tmp_path,
            env={**kept, **set_here},
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SignUpSuccess") == 2
    first, second = re.findall(r'"replayed":(\w+),"fromAccount":(.*)', done.stdout)
    assert (first[0], second[0]) == ("false", "true")
    assert first[1] == second[1]
    assert '"decimal":"87.70"' in first[1]
    assert "\nclean: " in done.stdout


@pytest.mark.slow
def test_the_recipes_for_frontends_work(tmp_path: Path) -> None:
    """The JavaScript of the page, joined and driven by `frontends.mjs`: answers get lost, and the money moves once."""
    if shutil.which("node") is None:
        pytest.skip("no node on PATH (make test-deps installs it)")  # CI forbids skips
    page = DOCS / "frontends.md"
    pieces = [match["text"] for match in _RUN.finditer(read(page))]
    assert len(pieces) == len(re.findall(r"^```js$", read(page), re.MULTILINE)), "a piece that nothing runs"
    recipes = tmp_path / "recipes.mjs"
    recipes.write_text("\n".join(pieces), encoding="utf-8")

    with serving(tmp_path) as server:
        payer, payee = settle_all(server.storage, 1_000_000, 0)
        known = {"API": server.url, "TOKEN": payer.token, "ACCOUNT": payer.account_id, "PAYEE": payee.username}
        driver = str(ROOT / "tests" / "integration" / "frontends.mjs")
        done = subprocess.run(
            ["node", driver, str(recipes)],
            check=False,
            capture_output=True,
            text=True,
            timeout=patience(60),
            env={**os.environ, **known},
        )
        assert (done.returncode, done.stdout) == (0, "recipes: all hold\n"), done.stderr
        audited = run_cli(tmp_path, "audit", storage=server.storage)
        assert audited.returncode == 0, audited.stderr
