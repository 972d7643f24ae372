"""A subscriber that is killed and resumes, again and again, while the account is written from two servers."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._live import sequence_of, streaming, talking
from tests.integration._server import Person, Wire, new_key, serving, settle_all

KILLS: Final = 100
PAYERS: Final = 3
MOST_AT_ONCE: Final = 12

PAY: Final = """mutation($input: TransferInput!) { transfer(input: $input) { __typename } }"""


async def pay_on(url: str, payer: Person, payee: Person, over: asyncio.Event) -> int:
    """Pay 1 cent after the other until it is over; how many payments were answered with success."""
    wire = await Wire.connect(url)
    made = 0
    while not over.is_set():
        answer = await wire.run(payer.token, PAY, {"input": payer.pay(payee.username, 1, new_key())})
        assert answer["__typename"] == "TransferSuccess"
        made += 1
    await wire.close()
    return made


async def by_socket(url: str, person: Person, after: int, count: int) -> list[dict[str, Any]]:
    """Some events with entries over a WebSocket that is then torn, with more events on their way."""
    async with talking(url, person.token) as talk:
        await talk.watch(person.account_id, after)
        try:
            return [await talk.event() for _ in range(count + 1)][1:]  # the first is the account as it is
        finally:
            talk.kill()


async def by_stream(url: str, person: Person, after: int, count: int) -> list[dict[str, Any]]:
    """The same over server-sent events."""
    async with streaming(url, person.token, person.account_id, after) as stream:
        return [(await anext(stream))[1]["data"]["accountEvents"] for _ in range(count + 1)][1:]


async def follow(urls: list[str], person: Person, chance: random.Random) -> list[dict[str, Any]]:
    """All events that somebody saw who was killed a hundred times, on either server and by either transport."""
    seen: list[dict[str, Any]] = []
    for _ in range(KILLS):
        after = sequence_of(seen[-1]) if seen else 0
        way = chance.choice((by_socket, by_stream))
        seen += await way(chance.choice(urls), person, after, chance.randint(0 if seen else 1, MOST_AT_ONCE))
    return seen


async def trial(urls: list[str], people: list[Person]) -> tuple[list[dict[str, Any]], int]:
    """The subscriber's events, and how many payments were made meanwhile."""
    payee, *payers = people
    over = asyncio.Event()
    paying = [asyncio.create_task(pay_on(urls[n % 2], payer, payee, over)) for n, payer in enumerate(payers)]
    try:
        seen = await follow(urls, payee, random.Random(2026))
    finally:
        over.set()
    made = sum(await asyncio.gather(*paying))
    after = sequence_of(seen[-1])
    return seen + await by_socket(urls[0], payee, after, made - after), made


@pytest.mark.trial
def test_killed_and_resumed(tmp_path: Path) -> None:
    """100 times, under load: every entry of the account came exactly once, in order, and the last tells the balance."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    people = settle_all(storage, 0, *[1_000_000] * PAYERS)
    with serving(tmp_path, storage=storage) as one, serving(tmp_path, storage=storage) as two:
        seen, made = asyncio.run(trial([one.url, two.url], people))
    assert [sequence_of(event) for event in seen] == list(range(1, made + 1))
    assert all(event["entry"]["sequence"] == event["sequence"] for event in seen)
    assert seen[-1]["account"]["posted"]["minorUnits"] == str(made)
    assert made > KILLS
