"""Flushes are counted from outside of a store (`wallet_gql.testing.flushes`)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from wallet_gql.backends.sqlite.store import SqliteStore
from wallet_gql.domain.errors import NodeUnavailable
from wallet_gql.testing.flushes import traced_flushes
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.raw import flushed
from wallet_gql.testing.world import World


async def test_a_store_that_has_just_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server was away a moment ago: what it refuses is given again, and only what it answers counts."""
    asked, sound = 0, SqliteStore.execute

    async def execute(self: SqliteStore, *given: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked in (1, 7):
            raise NodeUnavailable("local")
        return await sound(self, *given, **more)

    async with World(harness_for("sqlite"), tmp_path) as world:
        monkeypatch.setattr(SqliteStore, "execute", execute)
        flushes = await flushed(world, 10)
        monkeypatch.undo()
    assert asked > 10
    assert flushes.why or (flushes.count or 0) >= 10


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; make test-deps installs it")
def test_a_folder_under_another_name(tmp_path: Path) -> None:
    """A folder for temporary files may be a link: what is flushed below it counts all the same."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    with traced_flushes(link) as counted, (link / "log").open("wb") as file:
        file.write(b"money")
        file.flush()
        os.fsync(file.fileno())
    assert counted.count == 1, counted.why
