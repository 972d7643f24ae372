"""Two servers behind HAProxy are restarted one after the other, under load: no request fails (docs/operations.md)."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration._evidence import write_evidence
from tests.integration._server import TRANSFER, Person, Server, Wire, new_key, run_cli, serving, settle_all
from wallet_gql.testing.patience import patience, until, wait_until
from wallet_gql.testing.servers.keeper import keep
from wallet_gql.testing.servers.process import free_port

CONFIGURATION: Final = Path(__file__).resolve().parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
DRAIN_SECONDS: Final = 5
CLIENTS: Final = 8
PAYMENTS: Final = 5_000
RESTARTS: Final = 6


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running HAProxy; `url` is what clients are given."""

    url: str
    status_url: str

    def ups(self) -> set[str]:
        """The servers that get requests."""
        page = httpx.get(f"{self.status_url}/;csv", timeout=patience(10)).text.removeprefix("# ")
        rows = csv.DictReader(io.StringIO(page))
        return {row["svname"] for row in rows if row["svname"] in ("one", "two") and row["status"] == "UP"}


@contextmanager
def balanced(ports: dict[str, int]) -> Iterator[Balancer]:
    """HAProxy before the servers `one` and `two`, by the configuration that the product ships."""
    front, status = free_port(), free_port()
    places = {"FRONT": front, "STATUS": status, "ONE": ports["one"], "TWO": ports["two"]}
    environment = {f"HAPROXY_{name}": f"127.0.0.1:{port}" for name, port in places.items()}
    process = subprocess.Popen(["haproxy", "-db", "-f", str(CONFIGURATION)], env={**os.environ, **environment})
    keep(process.pid)
    with process:
        try:
            balancer = Balancer(f"http://127.0.0.1:{front}", f"http://127.0.0.1:{status}")
            wait_until(lambda: is_open(balancer.status_url), 30, "HAProxy does not start")
            yield balancer
        finally:
            process.kill()


def is_open(url: str) -> bool:
    """Whether something listens there."""
    try:
        httpx.get(url, timeout=patience(5))
    except httpx.ConnectError:
        return False
    return True


class Site:
    """The servers `one` and `two` on one ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"one": free_port(), "two": free_port()}
        self._running: dict[str, tuple[ExitStack, Server]] = {}

    def start(self, name: str) -> Server:
        """Start one of them on its port."""
        stack = ExitStack()
        options = ("--port", str(self.ports[name]))
        server = stack.enter_context(serving(self.folder, *options, drain_seconds=str(DRAIN_SECONDS)))
        self._running[name] = stack, server
        return server

    def stop(self, name: str) -> None:
        """Stop it as a service manager does; it must end with 0 and without a traceback."""
        self._running.pop(name)[0].close()

    def stop_all(self) -> None:
        """Stop those that run."""
        for name in tuple(self._running):
            self.stop(name)


async def restart_in_turn(site: Site, balancer: Balancer, restarted: list[str]) -> None:
    """One after the other, each when both get requests, until this is cancelled."""
    while True:
        for name in site.ports:
            await asyncio.to_thread(site.stop, name)
            await asyncio.to_thread(site.start, name)
            await until(lambda: len(balancer.ups()) == len(site.ports), 60, f"{name} gets no requests", 0.2)
            restarted.append(name)


async def pay_on_and_on(url: str, payer: Person, payee: Person, restarted: list[str], paid: list[str]) -> None:
    """On one connection, until there were enough payments and restarts; any answer but a success fails."""
    wire = await Wire.connect(url)
    try:
        await _pay(wire, payer, payee, restarted, paid)
    finally:
        await wire.close()


async def _pay(wire: Wire, payer: Person, payee: Person, restarted: list[str], paid: list[str]) -> None:
    while len(paid) < PAYMENTS or len(restarted) < RESTARTS:
        answer = await wire.run(payer.token, TRANSFER, {"input": payer.pay(payee.username, 1, new_key())})
        assert answer["__typename"] == "TransferSuccess", answer
        paid.append(answer["transfer"]["id"])


@pytest.mark.soak
async def test_rolling_restarts_fail_no_request(tmp_path: Path) -> None:
    """Eight clients on connections that they keep see nothing of it; each payment is there once."""
    site = Site(tmp_path)
    storage = site.start("one").storage
    site.start("two")
    payee, *payers = await asyncio.to_thread(settle_all, storage, 0, *[10**9] * CLIENTS)
    paid: list[str] = []
    restarted: list[str] = []
    try:
        with balanced(site.ports) as balancer:
            await until(lambda: len(balancer.ups()) == len(site.ports), 60, "a server gets no requests", 0.2)
            restarting = asyncio.create_task(restart_in_turn(site, balancer, restarted))
            await asyncio.gather(*(pay_on_and_on(balancer.url, one, payee, restarted, paid) for one in payers))
            restarting.cancel()
            await asyncio.gather(restarting, return_exceptions=True)
    finally:
        await asyncio.to_thread(site.stop_all)
    audited = run_cli(tmp_path, "audit", storage=storage)
    assert audited.returncode == 0, audited.stderr
    assert len(set(paid)) == len(paid)
    text = f"{len(paid)} payments by {CLIENTS} clients, {len(restarted)} restarts of two servers, none failed."
    write_evidence("rolling-restarts", "Restarts behind HAProxy", "make soak ARGS='-k rolling_restarts'", text)
