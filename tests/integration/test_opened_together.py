"""One process opens several new ledgers at the same time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from alembic import command

from tests.integration._graphql import wallet_in
from tests.integration._server import settle
from wallet_gql.backends.relational import migrations


async def test_ledgers_that_are_opened_together(tmp_path: Path) -> None:
    """Each gets its own tables, and works."""
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        wallets = await asyncio.gather(*(stack.enter_async_context(wallet_in(folder)) for folder in folders))
        people = await asyncio.gather(*(settle(wallet, 5) for wallet in wallets))
    assert len({person.account_id for person in people}) == len(folders)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_one_migration_runs_at_a_time(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alembic has one for all threads: whoever runs it keeps the others out, and lets them in afterwards."""
    real, held = command.upgrade, []

    def noting(*given: object, **how: object) -> None:
        held.append(migrations._ONE_AT_A_TIME.locked())
        real(*given, **how)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(command, "upgrade", noting)
    assert migrations.script(dialect, None)
    assert held == [True]
    assert not migrations._ONE_AT_A_TIME.locked()
