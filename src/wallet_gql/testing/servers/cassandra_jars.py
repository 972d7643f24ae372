"""What a Cassandra of the tests is made of: a Java, the server's jars, and an archive of their classes.

`WALLET_TEST_CASSANDRA` names a folder of jars to use as they are. Else Maven brings those that `_cassandra/pom.xml`
names, once, into a folder that every test run shares; each jar is checked against `_cassandra/jars.sha256`.

The archive (JDK's class-data sharing) saves half of the processor time of a start. It is made by a first start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from .process import ServerMissing

VARIABLE: Final = "WALLET_TEST_CASSANDRA"
RECIPE: Final = Path(__file__).parent / "_cassandra"
"""The pom, the checksums and the templates of a node's files."""

_JAVA_LEAST: Final = 11
_SERVERS: Final = ("apache-cassandra", "cassandra-all")
"""The jar of the server itself, as the distribution and Maven name it."""

_GOAL: Final = "dependency:copy-dependencies"
_SUMS: Final = RECIPE / "jars.sha256"


@cache
def java() -> str:
    """The Java that runs the server. Raises ServerMissing."""
    found = shutil.which("java")
    if found is None:
        raise ServerMissing("no Java for Cassandra: apt install default-jre-headless, or run `make test-deps`")
    return found


@cache
def jars() -> Path:
    """The folder with the server's jars, brought here if need be. Raises ServerMissing."""
    named = os.environ.get(VARIABLE)
    if named:
        if not any(list(Path(named).glob(f"{name}-*.jar")) for name in _SERVERS):
            raise ServerMissing(f"{VARIABLE}={named} has no {_SERVERS[0]}-*.jar; name the folder of all its jars")
        return Path(named)
    folder = _shared() / "jars"
    with _only_one(folder):
        if not _is_complete(folder):
            _bring(folder)
    return folder


def _shared() -> Path:
    """A folder that outlives the run. Root's must be within reach of the plain user that servers run as."""
    digest = hashlib.sha256(_SUMS.read_bytes()).hexdigest()[:12]
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = Path("/var/cache") if os.getuid() == 0 else own
    folder = base / "wallet-gql" / f"cassandra-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or one that is not ours
        folder = Path(tempfile.gettempdir()) / f"wallet-gql-{os.getuid()}" / folder.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    return folder


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process at a time."""
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _expected() -> dict[str, str]:
    lines = (line.split() for line in _SUMS.read_text(encoding="ascii").splitlines())
    return {name: digest for digest, name in lines}


def _is_complete(folder: Path) -> bool:
    """Whether the folder has exactly the jars that we know, byte for byte."""
    found = {path.name: path for path in folder.glob("*.jar")}
    expected = _expected()
    if found.keys() != expected.keys():
        return False
    return all(hashlib.sha256(path.read_bytes()).hexdigest() == expected[name] for name, path in found.items())


def _bring(folder: Path) -> None:
    """Let Maven copy the jars. Raises ServerMissing."""
    maven = shutil.which("mvn")
    if maven is None:
        remedy = f"apt install maven, run `make test-deps`, or set {VARIABLE} to a folder of its jars"
        raise ServerMissing(f"no Cassandra server: {remedy}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / "jars"
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={made}"]
        if not os.access(Path.home(), os.W_OK):
            options.append(f"-Dmaven.repo.local={work}/maven")  # it keeps what it brings in the home otherwise
        command = [maven, "-B", "-q", "-f", str(RECIPE / "pom.xml"), _GOAL, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerMissing(f"Maven does not bring Cassandra's jars: {(done.stdout + done.stderr)[-500:]}")
        if not _is_complete(made):
            raise ServerMissing(f"the jars that Maven brought are not those of {_SUMS.name}")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def class_path() -> str:
    """The jars, always in the same order: the archive is only good for one."""
    return ":".join(str(path) for path in sorted(jars().glob("*.jar")))


def archive(make: Callable[[Path], None]) -> Path | None:
    """The archive of the server's classes; `make` is asked to write it where there is none. None if it cannot be had.

    A Java that finds it unfit starts without it.
    """
    if os.environ.get(VARIABLE):
        return None
    told = subprocess.run([java(), "-version"], capture_output=True, text=True, check=True).stderr
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    path = _shared() / f"classes-{name}.jsa"
    with _only_one(path):
        if not path.exists():
            draft = path.with_suffix(".new")
            with suppress(OSError, RuntimeError, TimeoutError):
                make(draft)
                draft.rename(path)
    return path if path.exists() else None
