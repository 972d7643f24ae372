"""Races through the schema: if many commands want the same money, one wins, and the history explains the result.

One account has received 100 and holds them for a payee. Two kinds of commands compete for the money, each many times
under its own key. The kinds are: a new hold of everything, the capture, the void, the expiry (by the sweep of a server
whose clock is ahead), and the reversal of the received transfer. If neither kind closes the hold, there is no hold, and
all money is free.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Person, new_key, settle
from wallet_gql.books.audit import audit
from wallet_gql.runtime import Wallet
from wallet_gql.verbs.ledger import Ledger, utc_now

EACH: Final = 25
"""Commands of each of the two kinds, so fifty at once."""

CLOSERS: Final = ("capture", "void", "expire")
TAKERS: Final = ("capture", "place", "reverse")
"""What ends up with the money, or with a hold on it."""

SUCCESSES: Final = {"CaptureHoldSuccess", "VoidHoldSuccess", "PlaceHoldSuccess", "ReverseTransferSuccess"}
REFUSALS: Final = {"HoldNotOpen", "InsufficientFunds", "ReversalExceedsOriginal"}

TRANSFER: Final = """mutation($given: TransferInput!) { transfer(input: $given) {
  __typename ... on TransferSuccess { transfer { id } } } }"""
PLACE: Final = """mutation($given: PlaceHoldInput!) { placeHold(input: $given) {
  __typename ... on PlaceHoldSuccess { hold { id } } } }"""
CAPTURE: Final = """mutation($given: CaptureHoldInput!) { captureHold(input: $given) {
  __typename ... on CaptureHoldSuccess { replayed transfer { id } } ... on HoldNotOpen { state } } }"""
VOID: Final = """mutation($given: VoidHoldInput!) { voidHold(input: $given) {
  __typename ... on VoidHoldSuccess { hold { state } } ... on HoldNotOpen { state } } }"""
REVERSE: Final = "mutation($given: ReverseTransferInput!) { reverseTransfer(input: $given) { __typename } }"
HOLD: Final = "query($id: ID!) { hold(id: $id) { state captured { minorUnits } transfer { id } } }"
ACCOUNT: Final = """query($id: ID!) { account(id: $id) {
  posted { minorUnits } held { minorUnits } available { minorUnits } openHolds(first: 5) { id }
  history(first: 10) { edges { node { amount { minorUnits } balanceAfter { minorUnits }
    transfer { id kind hold { id } reverses { id } } } } } } }"""


@dataclass(frozen=True)
class Field:
    """Who plays, and the money at stake."""

    wallet: Wallet
    late: Wallet
    """The same books, on a server whose clock is a day ahead."""
    payer: Person
    player: Person
    """Received 100 from the payer, and holds them for the payee."""
    payee: Person
    transfer_id: str
    hold_id: str

    async def place(self) -> str:
        """Hold everything once more."""
        given = self.player.pay(self.payee.username, 100)
        found: dict[str, str] = await ask(self.wallet, self.player.token, PLACE, {"given": given})
        return found["__typename"]

    async def capture(self) -> str:
        """Take the held money."""
        given = {"idempotencyKey": new_key(), "holdId": self.hold_id}
        found: dict[str, str] = await ask(self.wallet, self.payee.token, CAPTURE, {"given": given})
        return found["__typename"]

    async def void(self) -> str:
        """Let the held money go."""
        given = {"idempotencyKey": new_key(), "holdId": self.hold_id}
        found: dict[str, str] = await ask(self.wallet, self.payee.token, VOID, {"given": given})
        return found["__typename"]

    async def expire(self) -> str:
        """Sweep, a day later."""
        await self.late.ledger.expire_due_holds()
        return "Swept"

    async def reverse(self) -> str:
        """Send the received money back."""
        given = {"idempotencyKey": new_key(), "transferId": self.transfer_id}
        found: dict[str, str] = await ask(self.wallet, self.player.token, REVERSE, {"given": given})
        return found["__typename"]

    async def state(self) -> str | None:
        """What became of the hold; None if there was none."""
        if not self.hold_id:
            return None
        found: dict[str, str] = await ask(self.wallet, self.player.token, HOLD, {"id": self.hold_id})
        return found["state"]


async def lay_out(wallet: Wallet, *, held: bool) -> Field:
    """Three people; the second received 100, and with `held` all of it is held for the third."""
    payer, player, payee = await asyncio.gather(settle(wallet, 100), settle(wallet), settle(wallet))
    paid = await ask(wallet, payer.token, TRANSFER, {"given": payer.pay(player.username, 100)})
    hold_id = ""
    if held:
        given = player.pay(payee.username, 100, expiresInSeconds=3600)
        hold_id = (await ask(wallet, player.token, PLACE, {"given": given}))["hold"]["id"]
    ahead = Ledger(wallet.store, clock=lambda: utc_now() + timedelta(days=1))
    late = replace(wallet, ledger=ahead)
    return Field(wallet, late, payer, player, payee, paid["transfer"]["id"], hold_id)


async def together(one: Callable[[], Awaitable[str]], other: Callable[[], Awaitable[str]]) -> Counter[str]:
    """Both, `EACH` times, at once; how often each answer came."""
    return Counter(await asyncio.gather(*(make() for _ in range(EACH) for make in (one, other))))


VERBS: Final = ("place", "capture", "void", "expire", "reverse")


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(VERBS, 2)))
async def test_one_wins(tmp_path: Path, one: str, other: str) -> None:
    """Of fifty commands of two kinds the hold is closed once, the money goes one way, and the history says which."""
    pair = {one, other}
    async with wallet_in(tmp_path) as wallet:
        field = await lay_out(wallet, held=bool(pair & set(CLOSERS)))
        answers = await together(getattr(field, one), getattr(field, other))

        state = await field.state()
        won = {"capture": answers["CaptureHoldSuccess"], "void": answers["VoidHoldSuccess"]}
        won |= {"place": answers["PlaceHoldSuccess"], "reverse": answers["ReverseTransferSuccess"]}
        won["expire"] = int(state == "EXPIRED")
        assert set(answers) <= SUCCESSES | REFUSALS | {"Swept"}
        if field.hold_id:
            assert sum(won[verb] for verb in CLOSERS) == 1
            assert won[{"CAPTURED": "capture", "VOIDED": "void", "EXPIRED": "expire"}[str(state)]] == 1
        taken = [verb for verb in TAKERS if won[verb]]
        assert sum(won[verb] for verb in TAKERS) == len(taken) <= 1
        if not field.hold_id:
            assert len(taken) == 1
        await explain(field, taken)
        report = await audit(wallet.store)
        assert report.clean, report.findings


async def explain(field: Field, taken: list[str]) -> None:
    """The player's account and its history tell who has the money; if nobody has, it can be spent."""
    account = await ask(field.wallet, field.player.token, ACCOUNT, {"id": field.player.account_id})
    lines = [edge["node"] for edge in reversed(account["history"]["edges"])]
    moves = [(line["transfer"]["kind"], int(line["amount"]["minorUnits"])) for line in lines]
    gone = {"capture": ("CAPTURE", -100), "reverse": ("REVERSAL", -100)}
    assert moves == [("TRANSFER", 100), *(gone[verb] for verb in taken if verb in gone)]
    posted = sum(amount for _, amount in moves)
    held = 100 if taken == ["place"] else 0
    shown = [int(account[name]["minorUnits"]) for name in ("posted", "held", "available")]
    assert shown == [posted, held, posted - held]
    assert int(lines[-1]["balanceAfter"]["minorUnits"]) == posted
    assert len(account["openHolds"]) == bool(held)
    if taken == ["capture"]:
        assert lines[-1]["transfer"]["hold"]["id"] == field.hold_id
    if taken == ["reverse"]:
        assert lines[-1]["transfer"]["reverses"]["id"] == field.transfer_id
    if not taken:
        assert await field.place() == "PlaceHoldSuccess"


@pytest.mark.slow
async def test_one_key_fifty_times(tmp_path: Path) -> None:
    """Fifty captures under one key at once are one capture, with the same answer fifty times."""
    async with wallet_in(tmp_path) as wallet:
        field = await lay_out(wallet, held=True)
        given: dict[str, Any] = {"idempotencyKey": new_key(), "holdId": field.hold_id}
        requests = (ask(wallet, field.payee.token, CAPTURE, {"given": given}) for _ in range(2 * EACH))
        answers = await asyncio.gather(*requests)
        assert Counter(answer["replayed"] for answer in answers) == {False: 1, True: 2 * EACH - 1}
        assert len({answer["transfer"]["id"] for answer in answers}) == 1
        assert (await audit(wallet.store)).clean
