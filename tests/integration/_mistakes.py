"""Mistakes that are put into a Postgres store, and the checks that must notice them, each in a ledger of its own."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration._clusters import quieted
from wallet_gql.domain.errors import InvariantViolated, WalletError
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.world import World

Check = Callable[..., Awaitable[None]]
"""Gets a world, and a patch if it has a second parameter."""

Spoil = Callable[[pytest.MonkeyPatch], None]


async def run(check: Check, world: World, patch: pytest.MonkeyPatch) -> None:
    """The check in this world, whose store neither recovers nor receives by itself."""
    await check(*(quieted(world), patch)[: len(inspect.signature(check).parameters)])


async def notice(mistake: Spoil, check: Check, words: str, harness: Harness, folder: Path) -> None:
    """Fails unless the check notices the mistake, with these words. What is left of the ledger is not audited."""
    world = World(harness, folder)
    await world.__aenter__()
    try:
        with pytest.MonkeyPatch.context() as patch:
            mistake(patch)
            with pytest.raises((AssertionError, InvariantViolated, pytest.fail.Exception), match=words):
                await run(check, world, patch)
    finally:
        with suppress(WalletError):
            await world.store.recover(100)
        await world.__aexit__(AssertionError)
