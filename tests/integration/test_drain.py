"""A server stops: `/readyz` fails first, everything else is served for a while, then the server ends."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.integration._server import START_SECONDS, VIEWER, Client, Server, new_key, serving, settle_all
from wallet_gql.testing.patience import patience, wait_until

DRAIN_SECONDS = 5


def is_ready(server: Server) -> bool:
    """What `/readyz` says; anything but yes is that the server is about to stop."""
    answer = httpx.get(f"{server.url}/readyz", timeout=patience(START_SECONDS))
    assert answer.status_code == httpx.codes.OK or answer.json()["code"] == "DRAINING"
    return answer.status_code == httpx.codes.OK


def until_not_ready(server: Server) -> None:
    """Wait until `/readyz` says that the server is about to stop."""
    wait_until(lambda: not is_ready(server), DRAIN_SECONDS, "the server stays ready")


@pytest.mark.slow
@pytest.mark.trial
@pytest.mark.parametrize("workers", ["1", "2"])
def test_not_ready_first(tmp_path: Path, workers: str) -> None:
    """For the time that is set a stopping server still takes payments on new connections, and ends with 0."""
    drain_seconds = patience(DRAIN_SECONDS)
    with serving(tmp_path, drain_seconds=str(drain_seconds), workers=workers) as server:
        ann, bob = settle_all(server.storage, 100, 0)
        assert is_ready(server)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        until_not_ready(server)
        assert httpx.get(f"{server.url}/healthz", timeout=patience(START_SECONDS)).status_code == httpx.codes.OK
        with Client(server.url, ann.token) as client:
            assert client.run(VIEWER)["id"] == ann.id
            paid = client.transfer(**ann.pay(bob.username, 10, new_key()))
            assert paid["__typename"] == "TransferSuccess"
        assert server.process.wait(timeout=patience(30)) == 0
        assert time.monotonic() - began >= drain_seconds


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """A second signal stops the server at once."""
    with serving(tmp_path, drain_seconds="300") as server:
        assert is_ready(server)
        server.process.send_signal(signal.SIGTERM)
        until_not_ready(server)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < patience(20)


@pytest.mark.slow
def test_at_once_by_default(tmp_path: Path) -> None:
    """Where nothing is set nobody waits."""
    with serving(tmp_path) as server:
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < patience(20)
