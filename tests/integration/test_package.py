"""What is published: the wheel and the source distribution, made and checked as a release makes them."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration._evidence import write_evidence
from tests.integration._installing import install_packages
from wallet_gql import __version__
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.keeper import keep

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "wallet_gql"
REPOSITORY: Final = "https://git.example.org/wallet-gql"

pytestmark = pytest.mark.trial


def run(*command: str | Path, **environment: str) -> str:
    """Run a command to its end. Fails with its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, made from the source distribution, and that; twine has checked their metadata and the description."""
    folder = tmp_path_factory.mktemp("package")
    venv.create(folder / "tools", with_pip=False)  # some systems have no ensurepip
    python = folder / "tools" / "bin" / "python"
    install_packages(python, "build", "twine")
    install_packages(python, "-r", str(ROOT / "deploy" / "build.lock"))
    built = (python, "-m", "build", "--quiet", "--no-isolation", "--outdir", folder / "dist")
    run(*built, WALLET_REPOSITORY_URL=REPOSITORY)
    made = sorted((folder / "dist").iterdir(), key=lambda path: path.suffix)
    assert [path.suffix for path in made] == [".gz", ".whl"]
    run(python, "-m", "twine", "check", "--strict", *made)
    return made


def test_the_wheel_has_the_whole_package(published: list[Path]) -> None:
    """Every file of the package is in it, also the SQL, the scripts and the pages; and nothing but the package is."""
    with zipfile.ZipFile(published[1]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def test_the_description_works_outside_of_the_repository(published: list[Path]) -> None:
    """Every link of the README is an address, those into the repository name files of it; and so do the project's."""
    with zipfile.ZipFile(published[1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        told = email.message_from_string(wheel.read(name).decode())
    urls = dict(line.split(", ") for line in told.get_all("Project-URL", []))
    assert urls.keys() == {"Repository", "Documentation", "Changelog", "Issues"}
    links = [*re.findall(r"\]\(([^)]+)\)", str(told.get_payload())), *urls.values()]
    assert [link for link in links if not link.startswith(("http://", "https://", "#"))] == []
    inside = [re.fullmatch(rf"{REPOSITORY}/(?:blob|raw)/HEAD/([^#]+)(?:#.*)?", link) for link in links]
    paths = {found[1] for found in inside if found is not None}
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_source_has_what_the_artefact_needs(published: list[Path]) -> None:
    """Every file that the page of claims names, and what its first commands run."""
    with tarfile.open(published[0]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    page = (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:tests|benchmarks|docs|scripts|src)/[\w/-]+\.py)\b", page))
    first = {"Makefile", "requirements.lock", "scripts/bootstrap", "scripts/test-deps", "tests/integration/mutants.py"}
    assert named
    assert named | first | {"docs/artifact.md", "LICENSE", "deploy/haproxy/haproxy.cfg"} <= names
    assert not {name for name in names if "node_modules" in name or name.endswith((".pyc", ".db"))}


def test_what_is_installed_runs(published: list[Path], tmp_path: Path) -> None:
    """The command of the wheel, on a path where the working tree is not."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, published[1])
    told = run(tmp_path / "bin" / "wallet-gql", "--version", PYTHONPATH=str(tmp_path))
    assert told.strip() == __version__
    where = run(sys.executable, "-c", "import wallet_gql; print(wallet_gql.__file__)", PYTHONPATH=str(tmp_path))
    assert Path(where.strip()).is_relative_to(tmp_path)


VERSIONS: Final = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
"""Those that are promised."""


def interpreter(version: str) -> Path | None:
    """A Python of that version on this machine."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    return found[-1] if found else Path(on_path) if on_path else None


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_wheel_serves_on_every_version(published: list[Path], tmp_path: Path) -> None:
    """In a clean environment of each version that is here: it installs from the registry, starts and stores money."""
    served = []
    for version in VERSIONS:
        python = interpreter(version)
        if python is None:
            served.append(f"| {version} | not on this machine: the workflow runs it |")
            continue
        folder = tmp_path / version
        run(python, "-m", "venv", "--without-pip", folder)
        install_packages(folder / "bin" / "python", f"{published[1]}[server]")
        full = run(folder / "bin" / "python", "-VV").strip()
        serve_once(folder)
        served.append(f"| {version} | {full.partition(' (')[0]}: installed, ready, a user signed up, ended with 0 |")
    assert len([row for row in served if "ended with 0" in row]) >= 1
    text = "\n".join(["| version | |", "|---|---|", *served])
    write_evidence("wheel", "The wheel in clean environments", "make soak ARGS='-k wheel_serves'", text)


def serve_once(folder: Path) -> None:
    """Serve in production from an environment, and let somebody sign up."""
    environment = {"PATH": os.environ["PATH"], "WALLET_STORAGE": f"sqlite:///{folder / 'wallet.db'}"}
    command = [str(folder / "bin" / "wallet-gql"), "serve", "--port", "0"]
    settings = {**environment, "WALLET_MODE": "production"}
    process = subprocess.Popen(command, env=settings, cwd=folder, stdout=subprocess.PIPE, text=True)
    keep(process.pid)
    with process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("Listening on ").strip()
            with httpx.Client(base_url=url, timeout=patience(30)) as http:
                assert http.get("/readyz").status_code == 200
                joining = {"username": "ann123", "email": "ann@example.org", "password": "plain maroon bicycle"}
                assert http.post("/v1/user", json=joining).status_code == 201
            process.terminate()
            assert process.wait(timeout=patience(30)) == 0
        finally:
            process.kill()


LIBRARY: Final = """
import asyncio
from wallet_gql import open_ledger
from wallet_gql.backends import open_store
from wallet_gql.idempotency import Effects, Guard
from wallet_gql.idempotency.asgi import IdempotencyMiddleware

async def mail(turn):
    return {"sent": turn.key_outside != ""}

async def main():
    async with open_store("sqlite:///service.db") as store:
        guard = Guard(store)
        outcomes = [await guard.run("ann", "key", "mail", {}, mail, effects=Effects.OUTSIDE) for _ in range(2)]
        print([outcome.value for outcome in outcomes], [outcome.replayed for outcome in outcomes])

asyncio.run(main())
"""


REQUIRED: Final = {"alembic": ["alembic", "mako", "markupsafe"], "orjson": ["orjson"], "sqlalchemy": ["sqlalchemy"]}
"""What the wheel requires without any extra, and the modules that come with it."""


def test_the_library_needs_no_server(published: list[Path], tmp_path: Path) -> None:
    """With what the wheel requires and nothing else idempotency works; the command line says what it lacks."""
    wheel = tmp_path / "wheel"
    with zipfile.ZipFile(published[1]) as packed:
        packed.extractall(wheel)
    asked = email.message_from_string(next(wheel.glob("*.dist-info/METADATA")).read_text(encoding="utf-8"))
    plain = [line for line in asked.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.match(r"[a-z-]+", line)[0] for line in plain} == set(REQUIRED)  # type: ignore[index]  # it matches
    for name in (*chain(*REQUIRED.values()), "typing_extensions"):
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (wheel / origin.name).symlink_to(origin)

    def isolated(program: str) -> subprocess.CompletedProcess[str]:
        """Run it with the wheel, the links and the standard library."""
        command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r})\n{program}"]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)

    done = isolated(LIBRARY)
    assert done.stdout.strip() == "[{'sent': True}, {'sent': True}] [False, True]", done.stderr
    refused = isolated("import runpy; runpy.run_module('wallet_gql', run_name='__main__')")
    assert refused.stderr.strip().endswith("pip install 'wallet-gql[server]'")
    assert refused.returncode == 1
