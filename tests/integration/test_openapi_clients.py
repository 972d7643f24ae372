"""Clients that others' generators make of the OpenAPI file: they compile, and they pay at a running server."""

from __future__ import annotations

import fcntl
import json
import os
import venv
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clients import CLIENTS, ROOT, install, program, run_program
from tests.integration._installing import install_packages
from tests.integration._server import Person, Server
from wallet_gql.transports.rest.routes import openapi_text

pytestmark = [pytest.mark.timeout(400), pytest.mark.serving(), pytest.mark.balances(10_000, 0)]  # they install

PACKAGES: Final = CLIENTS / "openapi.txt"


def environment(server: Server, people: list[Person], **more: str) -> dict[str, str]:
    """Who pays whom, where."""
    payer, payee = people
    who = {"TOKEN": payer.token, "ACCOUNT": payer.account_id, "PAYEE": payee.username}
    return {**os.environ, "URL": server.url, **who, **more}


def report_of(text: str) -> Any:
    """What a client reports: its last line."""
    return json.loads(text.splitlines()[-1])


@pytest.mark.trial
def test_openapi_typescript(server: Server, people: list[Person], tmp_path: Path) -> None:
    """Its types compile, strictly, with a client that pays, and tell errors apart by their codes."""
    install()
    node, modules = program("node"), CLIENTS / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "openapi.json").write_bytes(openapi_text())
    (tmp_path / "openapi.ts").write_text((CLIENTS / "openapi.ts").read_text())
    generate = [str(modules / "openapi-typescript" / "bin" / "cli.js"), "openapi.json", "-o", "wallet.ts"]
    run_program([node, *generate, "--default-non-nullable=false"], tmp_path, {})
    strict = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]
    compiler = str(modules / "typescript" / "bin" / "tsc")
    run_program([node, compiler, *strict, "--lib", "es2022,dom,dom.iterable", "openapi.ts"], tmp_path, {})
    told = report_of(run_program([node, "openapi.js"], tmp_path, environment(server, people)))
    assert (told["same"], told["replayed"], told["direction"], told["holds"]) == (True, True, "OUT", 0)
    assert told["received"] == "100"
    assert int(told["available"]) > 0


@pytest.mark.trial
def test_openapi_python_client(server: Server, people: list[Person], tmp_path: Path) -> None:
    """The file is valid; all of it becomes a client without a word of warning, which compiles, and pays."""
    python = generator()
    (tmp_path / "openapi.json").write_bytes(openapi_text())
    run_program([str(python), "-m", "openapi_spec_validator", "openapi.json"], tmp_path, {})
    path = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["--path", "openapi.json", "--meta", "none", "--output-path", "wallet_api", "--fail-on-warning"]
    run_program([str(python), "-m", "openapi_python_client", "generate", *options], tmp_path, path)
    run_program([str(python), "-m", "compileall", "-q", "wallet_api"], tmp_path, {})
    given = environment(server, people, PYTHONPATH=str(tmp_path))
    told = report_of(run_program([str(python), str(CLIENTS / "openapi_pays.py")], tmp_path, given))
    assert (told["same"], told["replayed"], told["direction"], told["holds"]) == (True, True, "OUT", 0)
    assert (told["code"], int(told["available"]) > 0) == ("INSUFFICIENT_FUNDS", True)


def generator() -> Path:
    """The Python of an environment of its own, with what `PACKAGES` names; one process makes it, others wait."""
    folder = ROOT / "build" / "openapi"
    folder.parent.mkdir(exist_ok=True)
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = sha256(PACKAGES.read_bytes()).hexdigest()
    with (folder.parent / "openapi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            venv.create(folder, clear=True)
            install_packages(python, "-r", str(PACKAGES))
            stamp.write_text(wanted)
    return python
