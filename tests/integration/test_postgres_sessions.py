"""B6: a pooler that does not keep sessions is refused at the start; and settings that lose money are noticed later."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from wallet_gql import background
from wallet_gql.backends.postgres import node as node_module
from wallet_gql.backends.postgres import setup
from wallet_gql.domain.errors import ConfigurationError, Unavailable
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.storage import Store
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import USER, PostgresCluster, PostgresServer
from wallet_gql.testing.servers.process import free_port

pytestmark = pytest.mark.service("postgres")
IGNORED: Final = ", ".join([*node_module.SETTINGS, "extra_float_digits"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """A server whose settings may be spoiled."""
    made = PostgresCluster(1)
    yield made
    made.stop()


@contextmanager
def pooled(folder: Path, server: PostgresServer, database: str, **settings: str) -> Iterator[str]:
    """PgBouncer before a database, with these settings; its URL."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")  # `make test-deps` installs it; CI forbids skips
    port = free_port()
    given = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "auth_type": "any",
        "unix_socket_dir": "",
        "logfile": str(folder / "pgbouncer.log"),
        **settings,
    }
    where = f"{database} = host=127.0.0.1 port={server.port} user={USER}"
    lines = ["[databases]", where, "[pgbouncer]", *(f"{name} = {value}" for name, value in given.items())]
    file = folder / "pgbouncer.ini"
    file.write_text("\n".join(lines) + "\n")
    plain = {}
    if os.getuid() == 0:  # it refuses to run as root
        plain = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        for path in (folder, file):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        for parent in folder.parents:
            with suppress(OSError):
                parent.chmod(parent.stat().st_mode | 0o011)
    process = subprocess.Popen([program, str(file)], **plain, stderr=subprocess.DEVNULL)  # type: ignore[call-overload]  # the user
    try:
        until = time.monotonic() + patience(10)
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield f"postgres://{USER}@127.0.0.1:{port}/{database}"
    finally:
        process.terminate()
        process.wait(timeout=patience(10))


async def refusal(url: str) -> str:
    """Why the store cannot be opened; empty if it can."""
    try:
        async with open_wallet(load_settings(storage=url), sweeps=False):
            return ""
    except ConfigurationError as error:
        return error.message


@pytest.mark.parametrize(
    "settings",
    [
        {"pool_mode": "transaction"},
        {"pool_mode": "transaction", "server_round_robin": "1"},
        {"pool_mode": "transaction", "default_pool_size": "1"},
        {"pool_mode": "transaction", "default_pool_size": "2", "server_reset_query_always": "1"},
        {"pool_mode": "statement"},
        {"pool_mode": "session"},
    ],
    ids=str,
)
async def test_b6_a_pooler_that_loses_sessions_is_refused(
    tmp_path: Path, cluster: PostgresCluster, settings: dict[str, str]
) -> None:
    """However it chooses connections; also one that keeps sessions but drops their settings."""
    ignored = {"ignore_startup_parameters": IGNORED}
    with pooled(tmp_path, cluster.nodes[0], cluster.take(), **ignored, **settings) as url:
        assert "pooler" in await refusal(url)


async def test_b6_with_the_settings_passed_on_sessions_are_still_compared(
    tmp_path: Path, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that sets everything for all of its connections, and still gives each transaction another one."""
    monkeypatch.setattr(node_module, "SETTINGS", {})
    monkeypatch.setattr("wallet_gql.backends.postgres.sessions.SETTINGS", {})
    for mode in ("0", "1"):
        more = {"pool_mode": "transaction", "server_round_robin": mode, "ignore_startup_parameters": IGNORED}
        with pooled(tmp_path, cluster.nodes[0], cluster.take(), **more) as url:
            assert "does not keep a session to one connection" in await refusal(url)


async def test_b6_the_server_itself_is_taken(cluster: PostgresCluster) -> None:
    """Without a pooler all is well, and many may open at once."""
    url = cluster.url(cluster.take())

    async def work() -> None:
        async with open_wallet(load_settings(storage=url), sweeps=False) as wallet:
            await wallet.store.ping()

    await asyncio.gather(work(), work(), work())


async def ping_until(store: Store, done: Callable[[Unavailable | None], bool]) -> None:
    """Ping until what it raises, or None, is what is waited for."""
    async with asyncio.timeout(patience(20)):
        while True:
            found: Unavailable | None = None
            try:
                await store.ping()
            except Unavailable as error:
                found = error
            if done(found):
                return
            await asyncio.sleep(0.05)


def spoil(server: PostgresServer, database: str, name: str, how: str, value: str) -> None:
    """Change a setting while the server runs: for the whole of it, a database or a role."""
    statements = {
        "system": f"ALTER SYSTEM SET {name} = {value}",
        "database": f"ALTER DATABASE {database} SET {name} = {value}",
        "role": f"ALTER ROLE {USER} SET {name} = {value}",
    }
    server.run(statements[how])
    server.run("SELECT pg_reload_conf()")
    if how != "system":  # such a setting is for new sessions
        server.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            " AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("fsync", "system"),
        ("full_page_writes", "system"),
        ("synchronous_commit", "system"),
        ("synchronous_commit", "database"),
        ("synchronous_commit", "role"),
    ],
)
async def test_b6_a_setting_that_loses_commits_is_noticed(
    cluster: PostgresCluster,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    how: str,
) -> None:
    """`ping`, and so `/readyz`, says so while it is off; afterwards all is well again without a restart."""
    monkeypatch.setattr(background, "_logged", {})
    lost = f"{name} was set to off"
    database = cluster.take()
    url = cluster.url(database)
    async with open_wallet(load_settings(storage=url), sweeps=False) as wallet:
        await wallet.store.ping()
        spoil(cluster.nodes[0], database, name, how, "off")
        try:
            await ping_until(wallet.store, lambda error: error is not None and lost in str(error))
        finally:
            spoil(cluster.nodes[0], database, name, how, "on")
        await ping_until(wallet.store, lambda error: error is None)
    assert caplog.text.count(lost) == 1


async def test_b6_the_checks_are_needed(
    tmp_path: Path, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the comparison a pooler of transactions is not told at the start."""

    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(setup, "check_sessions", nothing)
    more = {"pool_mode": "transaction", "ignore_startup_parameters": IGNORED}
    with pooled(tmp_path, cluster.nodes[0], cluster.take(), **more) as url:
        assert "pooler" not in await refusal(url)
