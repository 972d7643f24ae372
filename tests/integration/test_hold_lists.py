"""The lists of one's holds, as payer and as payee: every hold is on both, whatever became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Person, new_key, settle
from wallet_gql.domain.ids import AccountId, HoldId, UserId
from wallet_gql.runtime import Wallet
from wallet_gql.verbs import hold_lists
from wallet_gql.verbs.ledger import To

STATES: Final = (None, ["OPEN"], ["VOIDED", "EXPIRED"])
LISTED: Final = """query($first: Int!, $after: String, $direction: Direction, $states: [HoldState!]) { viewer {
  holds(first: $first, after: $after, direction: $direction, states: $states) {
    nodes { id direction state } pageInfo { hasNextPage endCursor } } } }"""


async def test_both_sides_list_their_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hold is on the list of its payer and of its payee, in both directions and in every state, and on no other.

    However few holds a page may look at, all that fit come, each once.
    """
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    async with wallet_in(tmp_path) as wallet:
        monkeypatch.setattr(wallet.ledger, "clock", lambda: now[0])
        ann, bob, eve = [await settle(wallet, 10_000) for _ in range(3)]
        placed: list[tuple[str, Person, str]] = []
        for n in range(9):
            payer, payee = (ann, bob) if n % 3 else (bob, ann)
            hold_id = await _place(wallet, payer, payee, 60 if n < 4 else 3_600)
            placed.append((hold_id, payer, await _close(wallet, payee, hold_id, n)))
            now[0] += timedelta(seconds=1)
        now[0] += timedelta(seconds=120)
        placed = [(i, payer, "EXPIRED" if n < 4 and s == "OPEN" else s) for n, (i, payer, s) in enumerate(placed)]
        monkeypatch.setattr(hold_lists, "EXAMINED_MAX", 4)
        monkeypatch.setattr(hold_lists, "PAGE_MAX", 2)
        for viewer, direction, states in product((ann, bob), (None, "IN", "OUT"), STATES):
            wanted = [
                (hold_id, "OUT" if payer is viewer else "IN", state)
                for hold_id, payer, state in reversed(placed)
                if direction in (None, "OUT" if payer is viewer else "IN") and (states is None or state in states)
            ]
            assert await _walk(wallet, viewer, direction=direction, states=states) == wanted
        assert await _walk(wallet, eve) == []


async def _place(wallet: Wallet, payer: Person, payee: Person, seconds: int) -> str:
    made = await wallet.ledger.place_hold(
        UserId(payer.id), new_key(), source=AccountId(payer.account_id), to=To(username=payee.username),
        amount_minor=10, currency="EUR", expires_in_seconds=seconds,
    )  # fmt: skip
    return made.result.id


async def _close(wallet: Wallet, payee: Person, hold_id: str, n: int) -> str:
    """Capture or void every third hold, and leave the others open."""
    if n % 4 == 1:
        await wallet.ledger.capture_hold(payee.id, new_key(), HoldId(hold_id))
        return "CAPTURED"
    if n % 4 == 2:
        await wallet.ledger.void_hold(payee.id, new_key(), HoldId(hold_id))
        return "VOIDED"
    return "OPEN"


async def _walk(wallet: Wallet, viewer: Person, **given: Any) -> list[tuple[str, str, str]]:
    """The whole list, page by page."""
    found: list[tuple[str, str, str]] = []
    after: str | None = None
    for _ in range(50):
        page = (await ask(wallet, viewer.token, LISTED, {"first": 2, "after": after, **given}))["holds"]
        found += [(node["id"], node["direction"], node["state"]) for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    return found
