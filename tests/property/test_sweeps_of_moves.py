"""Each store on several Postgres nodes settles commits at its usual pace beside a move that cannot be ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_gql.backends.postgres import sharded
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.errors import NodeUnavailable
from wallet_gql.testing.patience import until


@pytest.mark.parametrize("kind", [PostgresStore, RedisStore])
async def test_a_batch_whose_target_is_down_slows_no_other_recovery(
    monkeypatch: pytest.MonkeyPatch, kind: type[PgStore]
) -> None:
    """Ending it fails ever more rarely. Prepared transactions, credits and what is pending are not left meanwhile."""
    monkeypatch.setattr(sharded, "RECOVER_EVERY_SECONDS", 0.001)
    settled = received = failed = 0

    async def settle(*_: object) -> None:
        nonlocal settled
        settled += 1

    async def receive(*_: object) -> None:
        nonlocal received
        received += 1

    async def finish(*_: object) -> None:
        nonlocal failed
        failed += 1
        raise NodeUnavailable("n2")

    store: Any = object.__new__(kind)
    known = SimpleNamespace(moving=frozenset({1}), left=())
    store._learning = SimpleNamespace(known=known, learn_now=lambda: asyncio.sleep(0))
    store._recovery, store._credits = SimpleNamespace(run=settle), SimpleNamespace(settle=settle)
    store._receive, store.moves = receive, SimpleNamespace(finish=finish)
    sweeping = asyncio.create_task(store._recover_for_ever())
    await until(lambda: min(settled, received) >= 100 and failed > 0, 10, "sweeps have become rare")
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    assert failed < settled / 2
