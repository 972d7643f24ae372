"""A server's memory: what a request makes is freed with it, and what is kept has a bound."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._evidence import write_evidence
from tests.integration._hostile import ELEMENTS, grown
from tests.integration._server import SIGN_UP, Person, Wire, new_key, new_name, serving, settle_all
from tests.integration.test_graphql_hostile import over_http
from wallet_gql.backends.sqlite import setup
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.harness import HARNESSES, Harness
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.transports.graphql.kept import KEPT
from wallet_gql.transports.server.app import create_app

REQUESTS: Final = int(os.environ.get("WALLET_SOAK_REQUESTS", "200000"))
FIRST: Final = 1_000
LOOKS: Final = 20
GROWTH_MAX: Final = 1.10
MAX_BYTES: Final = 200_000_000
CLIENTS: Final = 8

PAY: Final = "mutation($input: TransferInput!) { transfer(input: $input) { __typename } }"
READ: Final = "query($id: ID!) { account(id: $id) { posted { decimal } history(first: 5) { edges { cursor } } } }"


def memory_bytes(pid: int) -> tuple[int, int]:
    """A process's proportional set size, and the part of it that is no file.

    Of files, such as libraries, a process counts a share that depends on who else has them open.
    """
    told = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    return int(told["Pss"]) * 1024, int(told["Pss_Anon"]) * 1024


def mixed(number: int, payer: Person, payee: Person) -> tuple[bool, str, dict[str, Any]]:
    """Document and variables of a request, and whether the document is valid.

    Of ten five are payments, one of them refused, and four read; one of a hundred is a sign-up.
    """
    kind = number % 10
    if kind == 5:
        return True, READ, {"id": payer.account_id}
    if kind == 6:
        return True, f"{{ viewer {{ id once{number}: username }} }}", {}
    if kind == 7:
        return False, f"{{ viewer {{ id once{number} }} }}", {}
    if kind == 8:
        return False, f"{{ viewer {{ once{number}: ) }} }}", {}
    if number % 100 == 9:
        name = new_name()
        return True, SIGN_UP, {"input": {"username": name, "email": f"{name}@example.org", "password": f"of {name}"}}
    refused_minor = 10**12  # there is not so much money
    return True, PAY, {"input": payer.pay(payee.username, refused_minor if kind == 4 else 1, new_key())}


async def ask(url: str, people: list[Person], requests: int, begun: int) -> None:
    """So many requests by several clients, who continue at number `begun`."""

    async def client(place: int) -> None:
        wire = await Wire.connect(url)
        payer, payee = people[place % len(people)], people[(place + 1) % len(people)]
        for number in range(begun + place, begun + requests, CLIENTS):
            is_valid, query, variables = mixed(number, payer, payee)
            _, body = await wire.ask(payer.token, query, variables)
            assert ("errors" not in body) == is_valid, body
        await wire.close()

    await asyncio.gather(*(client(place) for place in range(CLIENTS)))


async def test_a_document_that_is_dropped_is_freed_at_once() -> None:
    """Without the garbage collector, whatever elements of the grammar it has."""
    settings = load_settings(storage="memory://", rate_limits="off", graphql_compile_after=0)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        KEPT.clear()
        async with app.router.lifespan_context(app):
            for document in filter(None, (grown(500, 3, name) for name in ELEMENTS)):
                await over_http(app, json.dumps(document.body).encode())
        assert len(KEPT) > 5
        gc.collect()
        gc.disable()
        try:
            KEPT.clear()
            assert gc.collect() == 0
        finally:
            gc.enable()


def test_an_upgrade_need_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may write a whole table anew: what it has written goes into the log before it commits."""
    path, written = tmp_path / "wallet.db", []

    def upgrade(connection: sqlite3.Connection, *_: object) -> bool:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE large (content)")
        connection.executemany("INSERT INTO large VALUES (zeroblob(1000))", [()] * 20_000)
        written.append(Path(f"{path}-wal").stat().st_size)
        connection.execute("ROLLBACK")
        return True

    monkeypatch.setattr(setup, "_upgrade", upgrade)
    assert setup.migrate(path)
    assert written[0] > 10_000_000


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.service("postgres")
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
async def test_memory_does_not_grow_with_requests(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 200,000 mixed requests at most a tenth more than after the first thousand, and below 200 MB."""
    monkeypatch.setenv("WALLET_TEST_FORKS", "0")  # what is shared with a parent would count in part
    with server_or_skip():
        harness: Harness = HARNESSES[backend]()
    await harness.start(tmp_path)
    people = await asyncio.to_thread(settle_all, harness.url, *[10**9] * 4)
    curve: list[tuple[int, int, int]] = []
    settings = {"log_level": "warning", "metrics_address": "127.0.0.1:0", "graphql_compile_after": "2"}  # as by default
    with serving(tmp_path, storage=harness.url, **settings) as server:
        done = 0
        for step in (FIRST, *[(REQUESTS - FIRST) // LOOKS] * LOOKS):
            await ask(server.url, people, step, done)
            done += step
            curve.append((done, *memory_bytes(server.process.pid)))
            tell(backend, curve)
    await harness.stop()
    assert curve[-1][2] <= curve[0][2] * GROWTH_MAX
    assert curve[-1][1] < MAX_BYTES


def tell(backend: str, curve: list[tuple[int, int, int]]) -> None:
    """Write the page of evidence, also while the run goes on."""
    rows = [
        f"| {requests:,} | {whole / 1e6:.1f} | {own / 1e6:.1f} | {own / curve[0][2]:.3f} |"
        for requests, whole, own in curve
    ]
    head = "| requests | PSS in MB | without files | to that after 1,000 |"
    text = "\n".join([head, "|---|---|---|---|", *rows])
    command = f"WALLET_SOAK_REQUESTS={REQUESTS} make soak ARGS='-k memory_does'"
    write_evidence(f"memory-{backend}", f"Memory of a worker on {backend}", command, text)
