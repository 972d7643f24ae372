"""B5: a SQLite file that is replaced under a running server is noticed: by commits at once, by readers in a second."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration._server import Person, new_key, settle
from tests.integration.test_rate_limits import by
from wallet_gql.backends.sqlite import file as file_module
from wallet_gql.backends.sqlite.connection import connect
from wallet_gql.backends.sqlite.file import LedgerFile
from wallet_gql.backends.sqlite.setup import migrate
from wallet_gql.backends.sqlite.store import SqliteStore
from wallet_gql.domain.errors import Unavailable, WalletError
from wallet_gql.domain.ids import OPERATOR, AccountId, UserId
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.server.app import create_app

NAME: Final = "wallet.db"
URL: Final = "http://wallet.test"


def back_up(path: Path, to: Path) -> None:
    """What `sqlite3 wallet.db ".backup …"` does."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def removed(path: Path, _backup: Path) -> None:
    """`rm wallet.db`."""
    path.unlink()


def moved(path: Path, _backup: Path) -> None:
    """`mv wallet.db elsewhere`."""
    path.rename(path.with_name("elsewhere"))


def copied_over(path: Path, backup: Path) -> None:
    """`cp backup.db wallet.db`, into the same file."""
    path.write_bytes(backup.read_bytes())


def copied_with_its_times(path: Path, backup: Path) -> None:
    """`cp -p backup.db wallet.db`."""
    path.write_bytes(backup.read_bytes())
    shutil.copystat(backup, path)


def moved_over(path: Path, backup: Path) -> None:
    """`mv backup.db wallet.db`."""
    backup.replace(path)


def all_replaced(path: Path, backup: Path) -> None:
    """`rm wallet.db*; cp backup.db wallet.db`."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(f"{NAME}{ending}").unlink()
    shutil.copy(backup, path)


def log_removed(path: Path, _backup: Path) -> None:
    """`rm wallet.db-wal`: what was committed last is in it."""
    path.with_name(f"{NAME}-wal").unlink()


def index_replaced(path: Path, _backup: Path) -> None:
    """The index of the log is another file: another process would see other locks."""
    index = path.with_name(f"{NAME}-shm")
    copy = index.with_name("copy")
    shutil.copy(index, copy)
    copy.replace(index)


def folder_moved(path: Path, _backup: Path) -> None:
    """`mv folder elsewhere`."""
    path.parent.rename(path.parent.with_name("elsewhere"))


def folder_removed(path: Path, _backup: Path) -> None:
    """`rm -r folder`."""
    shutil.rmtree(path.parent)


def one_page_written(path: Path, backup: Path) -> None:
    """A tool that copies only the blocks that differ (`rsync --inplace`)."""
    with path.open("r+b") as target:
        target.seek(4096)
        target.write(backup.read_bytes()[4096:8192])
        os.fsync(target.fileno())


HARMS: Final = [
    removed,
    moved,
    copied_over,
    copied_with_its_times,
    moved_over,
    all_replaced,
    log_removed,
    index_replaced,
    folder_moved,
    folder_removed,
    one_page_written,
]
each_harm = pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
Harm = Callable[[Path, Path], None]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Wallet, Person, Path, Path]]:
    """A wallet on a file, somebody with money, the file, and a backup of it that lacks the last deposits."""
    where = folder / "data"
    where.mkdir()
    path, backup = where / NAME, folder / "backup.db"
    async with open_wallet(load_settings(storage=f"sqlite:///{path}"), sweeps=False) as wallet:
        ann = await settle(wallet, 1_000)
        back_up(path, backup)
        for _ in range(3):
            await deposit(wallet, ann)
        yield wallet, ann, path, backup


async def deposit(wallet: Wallet, person: Person) -> None:
    """A commit."""
    await wallet.ledger.deposit(OPERATOR, new_key(), AccountId(person.account_id), 1, "EUR")


@each_harm
async def test_b5_a_payment_is_refused_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Harm) -> None:
    """The next commit is none, and neither are later ones; one line says why."""
    caplog.set_level(logging.ERROR)
    async with opened(tmp_path) as (wallet, ann, path, backup):
        harm(path, backup)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await deposit(wallet, ann)
        with pytest.raises(Unavailable):
            await wallet.store.ping()
    assert caplog.text.count("while it was in use") == 1


@each_harm
async def test_b5_readers_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Harm) -> None:
    """A server that only reads stops reading, and `/readyz` says so."""
    caplog.set_level(logging.ERROR)
    async with opened(tmp_path) as (wallet, ann, path, backup):
        app = create_app(wallet)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=URL) as http:
            assert (await http.get("/readyz")).status_code == 200
            harm(path, backup)
            for where in ("/v1/user", "/readyz", "/v1/user"):
                async with asyncio.timeout(patience(5)):
                    while (await http.get(where, headers=by(ann))).status_code != 503:  # noqa: ASYNC110 - nothing tells
                        await asyncio.sleep(0.05)
    assert caplog.text.count("while it was in use") == 1


@pytest.mark.parametrize("harm", [removed, copied_over, log_removed, folder_moved], ids=lambda harm: harm.__name__)
async def test_b5_nothing_else_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Harm) -> None:
    """Without the comparison payments go on, into files that nobody will find again."""
    monkeypatch.setattr(LedgerFile, "changed", lambda _: False)
    async with opened(tmp_path) as (wallet, ann, path, backup):
        harm(path, backup)
        await deposit(wallet, ann)


async def test_b5_a_restored_backup_is_served_after_a_restart(tmp_path: Path) -> None:
    """As the guide says: stop, put the backup in the place of all three files, start."""
    async with opened(tmp_path) as (_, ann, path, backup):
        pass
    for left in path.parent.iterdir():
        left.unlink()
    shutil.copy(backup, path)
    async with open_wallet(load_settings(storage=f"sqlite:///{path}"), sweeps=False) as wallet:
        await deposit(wallet, ann)
        assert (await wallet.ledger.accounts(UserId(ann.id)))[0].posted_minor == 1_001


async def test_b5_processes_that_share_a_file_raise_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three stores write, make checkpoints all the time, open and close; nobody is taken for a stranger."""
    monkeypatch.setattr(file_module, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(file_module, "_COMMITS_AT_FIRST", 2)
    monkeypatch.setattr("wallet_gql.backends.sqlite.store.WATCH_SECONDS", 0.001)
    url = f"sqlite:///{tmp_path / NAME}"
    async with open_wallet(load_settings(storage=url), sweeps=False) as first:
        ann = await settle(first, 1_000)

        async def work() -> None:
            for _ in range(3):
                async with open_wallet(load_settings(storage=url), sweeps=False) as wallet:
                    for _ in range(15):
                        await deposit(wallet, ann)
                        await wallet.store.ping()

        await asyncio.gather(work(), work(), work())
        store = first.store
        assert isinstance(store, SqliteStore)
        await deposit(first, ann)
        assert store._file.lost == ""
        log_size = (tmp_path / f"{NAME}-wal").stat().st_size
    assert log_size < 4_120 * 1_000  # it is used again from its beginning


async def test_a_connection_waits_for_one_that_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that closes tries for the whole file, whether it is the last one; others cannot open it then."""
    monkeypatch.setattr("wallet_gql.backends.sqlite.connection._FIRST_LOOK_SECONDS", 60.0)
    path = tmp_path / NAME
    migrate(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as closes:
        closes.execute("PRAGMA locking_mode=EXCLUSIVE")
        closes.execute("BEGIN EXCLUSIVE")
        opening = asyncio.create_task(asyncio.to_thread(connect, path, mode="rw"))
        await asyncio.wait([opening], timeout=patience(0.2))
    (await opening).close()


async def test_b5_a_checkpoint_that_was_killed_is_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mark stays until the next checkpoint; then replaced files are noticed again."""
    monkeypatch.setattr(file_module, "_COMMITS_AT_FIRST", 4)
    monkeypatch.setattr(file_module, "CHECKPOINT_PAGES", 20)
    async with opened(tmp_path) as (wallet, ann, path, backup):
        with closing(sqlite3.connect(path, isolation_level=None)) as killed:
            killed.execute("PRAGMA user_version = 1")
            killed.execute("PRAGMA wal_checkpoint")
        for _ in range(60):
            await deposit(wallet, ann)
        copied_over(path, backup)
        with pytest.raises(WalletError):
            await deposit(wallet, ann)
