"""Each database function's present definition is one file; the migrations must result in exactly these definitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import resources
from importlib.abc import Traversable
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from wallet_gql.testing.servers.postgres import PostgresHarness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("postgres"), pytest.mark.service("postgres")]

PACKAGES: Final = ("wallet_gql.backends.postgres", "wallet_gql.backends.redis")
_DEFINED: Final = """
SELECT p.proname::text, pg_get_functiondef(p.oid) FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = ANY (current_schemas(false)) AND p.proname LIKE 'wallet\\_%'
"""


def files() -> dict[str, Traversable]:
    """The definitions by the name of their function, as the installed package has them."""
    folders = (resources.files(package) / "sql" for package in PACKAGES)
    return {file.name.removesuffix(".sql"): file for folder in folders for file in folder.iterdir()}


async def defined(connection: asyncpg.Connection) -> dict[str, str]:
    """The functions of the database, as it would define them anew."""
    return {row["proname"]: row["pg_get_functiondef"] for row in await connection.fetch(_DEFINED)}


@pytest.fixture
async def migrated(tmp_path: Path) -> AsyncIterator[asyncpg.Connection]:
    """A connection to an empty database that all migrations have run on."""
    async with World(PostgresHarness(1), tmp_path) as world:
        connection = await asyncpg.connect(world.harness.url.partition("?")[0])
        try:
            yield connection
        finally:
            await connection.close()


async def test_the_migrations_arrive_at_the_files(migrated: asyncpg.Connection) -> None:
    """A function redefined from its file is the same: text, signature, volatility and settings."""
    after_migrations = await defined(migrated)
    assert set(after_migrations) == set(files())

    transaction = migrated.transaction()
    await transaction.start()
    for name, file in files().items():
        text = file.read_text(encoding="utf-8")
        assert text.count("CREATE OR REPLACE FUNCTION") == 1
        assert f"CREATE OR REPLACE FUNCTION {name}(" in text
        await migrated.execute(text)
    from_files = await defined(migrated)
    await transaction.rollback()

    assert from_files == after_migrations
