"""Two server processes on one SQLite file, under load, with every request sent twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from tests.integration._server import Person, Wire, counted, new_key, run_cli, serving, settle_all

CLIENTS: Final = 50
TRANSFERS: Final = 20
START_MINOR: Final = 10_000

Pair: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
"""The two answers to one key."""

PAY: Final = """mutation($input: TransferInput!) { transfer(input: $input) {
  __typename ... on TransferSuccess { replayed credited transfer { id } } ... on WalletError { code message } } }"""


async def send(wire: Wire, person: Person, payment: dict[str, Any]) -> dict[str, Any]:
    """One request; its answer must be a success."""
    answer: dict[str, Any] = await wire.run(person.token, PAY, {"input": payment})
    assert answer["__typename"] == "TransferSuccess", answer
    assert answer["credited"]
    return answer


async def pay_on(urls: list[str], person: Person, others: list[Person], seed: int) -> list[Pair]:
    """One client's transfers: each is sent to one server, and again to the other; every third time at once."""
    chance = random.Random(seed)
    wires = [await Wire.connect(url) for url in urls]
    answers: list[Pair] = []
    for number in range(TRANSFERS):
        payee = chance.choice(others)
        payment = person.pay(payee.username, chance.randint(1, 50), new_key(), reference=f"{seed}/{number}")
        first, second = chance.sample(wires, 2)
        if number % 3:
            answers.append((await send(first, person, payment), await send(second, person, payment)))
        else:
            both = await asyncio.gather(send(first, person, payment), send(second, person, payment))
            answers.append((both[0], both[1]))
    for wire in wires:
        await wire.close()
    return answers


async def load(urls: list[str], people: list[Person]) -> list[Pair]:
    """All clients at once."""
    everybody = [
        pay_on(urls, person, [other for other in people if other is not person], seed)
        for seed, person in enumerate(people)
    ]
    return [pair for pairs in await asyncio.gather(*everybody) for pair in pairs]


@pytest.mark.trial
def test_two_servers_one_file(tmp_path: Path) -> None:
    """50 clients send 20 transfers each, every one twice, to two servers: each key has one effect and one answer.

    The sum is unchanged, of two answers to a key exactly one is a replay, both name the same transfer, and the books
    are sound.
    """
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    people = settle_all(storage, *[START_MINOR] * CLIENTS)
    before = counted(tmp_path / "wallet.db", "transfers", "receipts")
    with serving(tmp_path, storage=storage) as one, serving(tmp_path, storage=storage) as two:
        pairs = asyncio.run(load([one.url, two.url], people))
        audited_while_serving = run_cli(tmp_path, "audit", storage=storage)
    assert len(pairs) == CLIENTS * TRANSFERS
    assert all(sorted((first["replayed"], second["replayed"])) == [False, True] for first, second in pairs)
    assert all(first["transfer"] == second["transfer"] for first, second in pairs)
    assert len({first["transfer"]["id"] for first, _ in pairs}) == len(pairs)
    after = counted(tmp_path / "wallet.db", "transfers", "receipts")
    assert after["posted"] == before["posted"] == CLIENTS * START_MINOR
    assert after["transfers"] - before["transfers"] == after["receipts"] - before["receipts"] == len(pairs)
    assert_one_transfer_per_key(tmp_path / "wallet.db")
    assert audited_while_serving.returncode == 0, audited_while_serving.stderr
    assert run_cli(tmp_path, "audit", storage=storage).returncode == 0


def assert_one_transfer_per_key(path: Path) -> None:
    """No key moved money twice."""
    with closing(sqlite3.connect(path)) as connection:
        keys = Counter(connection.execute("SELECT actor, idempotency_key FROM transfers").fetchall())
    assert set(keys.values()) == {1}
