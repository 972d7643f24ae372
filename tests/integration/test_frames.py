"""The frames of ours between a resolver and its rule: their number, and the path that `docs/architecture.md` shows."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import httpx
import pytest

from tests.integration._server import TRANSFER
from wallet_gql.domain.changes import Changes, Snapshot
from wallet_gql.domain.commands import MoveMoney
from wallet_gql.domain.rules import transfers
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.server.app import create_app

ROOT: Final = Path(__file__).resolve().parents[2]
OWN: Final = str(ROOT / "src" / "wallet_gql")
PAGE: Final = ROOT / "docs" / "architecture.md"
FRAMES_MAX: Final = 12


def awaited(coroutine: Any) -> Iterator[CodeType]:
    """The code of a coroutine and of what it waits for, outermost first."""
    while inspect.iscoroutine(coroutine):
        yield coroutine.cr_code
        coroutine = coroutine.cr_await


def frames_here() -> Iterator[CodeType]:
    """The code of this thread's frames, outermost first."""
    found: list[CodeType] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return iter(reversed(found))


def own(codes: Iterator[CodeType]) -> list[str]:
    """Those of the product, as `verbs/ledger.py Ledger.transfer`."""
    inside = (code for code in codes if code.co_filename.startswith(OWN))
    return [f"{Path(code.co_filename).relative_to(OWN)} {code.co_qualname}" for code in inside]


async def path_of_a_transfer(folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Pay over GraphQL on SQLite, and look from inside the rule at everything that waits for it."""
    seen: list[list[str]] = []
    sound = transfers.transfer

    def watched(snapshot: Snapshot, command: MoveMoney, now: datetime) -> Changes:
        tasks = [own(awaited(task.get_coro())) for task in asyncio.all_tasks(loop)]
        resolver = next(names for names in tasks if any("TransferMutations" in name for name in names))
        lane = next(names for names in tasks if any("GroupCommit._run" in name for name in names))
        begin = next(place for place, name in enumerate(resolver) if "TransferMutations" in name)
        seen.append([*resolver[begin:], *lane, *own(frames_here())])
        return sound(snapshot, command, now)

    patch.setattr("wallet_gql.domain.rules.transfer", watched)
    loop = asyncio.get_running_loop()
    settings = load_settings(storage=f"sqlite:///{folder}/wallet.db", rate_limits="off", mode="development")
    async with open_wallet(settings, sweeps=False) as wallet:
        phrase = "one long pass phrase"
        ann, bob = [await wallet.identity.sign_up(name, f"{name}@example.org", phrase) for name in ("ann", "bob")]
        source, _ = [await wallet.ledger.open_account(user.id, "EUR") for user in (ann, bob)]
        await wallet.ledger.deposit("op:operator", "deposit", source.id, 1_000, "EUR")
        token = (await wallet.identity.log_in("ann", phrase)).token
        given = {
            "idempotencyKey": "frames",
            "fromAccountId": source.id,
            "to": {"username": "bob"},
            "amount": {"minorUnits": "5", "currency": "EUR"},
        }
        app = create_app(wallet)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
        ):
            asked = {"query": TRANSFER, "variables": {"input": given}}
            answer = await client.post("/graphql", json=asked, headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["data"]["transfer"]["__typename"] == "TransferSuccess", answer.text
    return seen[0]


async def test_a_payment_passes_few_frames_and_the_page_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the resolver to the rule; the page lists the same frames in the same order."""
    found = [name for name in await path_of_a_transfer(tmp_path, monkeypatch) if "test_frames" not in name]
    assert len(found) <= FRAMES_MAX, "\n".join(found)
    told = re.findall(r"^\| \d+ \| `(\S+ \S+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert told == found
