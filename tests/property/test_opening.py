"""A worker that replaces another one waits for its store, whatever is wrong with it, and serves when it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallet_gql.runtime import Wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import until
from wallet_gql.transports.http import opening as module
from wallet_gql.transports.http.opening import opening


@pytest.mark.parametrize("trouble", ["no folder", "a folder in its place", "somebody else's file"])
async def test_k1_opening_is_tried_again(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fault ends the worker; one line tells it."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    path = tmp_path / "data" / "wallet.db"
    if trouble == "a folder in its place":
        path.mkdir(parents=True)
    elif trouble == "somebody else's file":
        path.parent.mkdir()
        path.write_text("notes")
    opened: list[Wallet] = []
    async with opening(load_settings(storage=f"sqlite:///{path}"), opened.append, None, wait=False):
        assert not opened
        if path.exists():
            path.rename(tmp_path / "away")
        path.parent.mkdir(exist_ok=True)
        await until(lambda: bool(opened), 3, "the store can be opened and is not")
        await opened[0].store.ping()
