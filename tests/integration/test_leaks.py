"""What the whole run's logs and metrics are searched for is found there (tests/leaks.py)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

import pytest

from tests import leaks
from tests.integration._metrics import Scrape
from tests.integration._protections import HOOK
from tests.integration._server import LOG_IN, Client, serving
from wallet_gql.domain.users import make_token

PASSWORD: Final = "quiet amber lantern"
SECRETS: Final = {
    "token": make_token(7, "a" * 43),
    "key": "sk_live_0123456789",
    "webhook secret": "whsec_MfKQ9r8GKYqrTwjU",
    "password": PASSWORD,
    "stored password": "$argon2id$v=19$m=8",
    "header": "Bearer abc",
    "e-mail address": "ann@mail.example.org",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found(kind: str) -> None:
    """In a log line, in an exception that is logged, and in metrics; with the place."""
    leaks.note({"input": [{"newPassword": PASSWORD}]})
    log, secret = logging.getLogger("wallet_gql.tests"), SECRETS[kind]
    log.warning("it was %s", secret)
    log.error("it failed", exc_info=ValueError(secret))
    Scrape(f'wallet_answers_total{{verb="{secret}"}} 1\n')
    found = leaks.taken()
    assert [secret[:8] in one for one in found] == [True] * 3
    assert [one.startswith(f"{__file__}:") for one in found] == [True, True, False]
    log.warning("user usr-012-0190 on 127.0.0.1, postgres://***@db.example.org:5432/wallet, wgs_ and whsec_")
    leaks.check()


class Searched(str):
    """A log line, during whose search another thread sends a password."""

    __slots__ = ()

    def __contains__(self, part: str) -> bool:  # type: ignore[override]  # a text, as here
        leaks.note({"password": f"sent meanwhile {len(leaks._passwords)}"})
        return super().__contains__(part)


def test_passwords_may_be_sent_while_a_log_is_searched() -> None:
    """Servers and clients in threads of one process log and send at the same time."""
    leaks.note({"password": PASSWORD})
    leaks.search(Searched(f"it was {PASSWORD}"), "log")
    (found,) = leaks.taken()
    assert PASSWORD in found


def test_a_server_that_logs_a_password_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line in the product that tells what somebody logs in with: the end of the server notes its place."""
    old = "        name = login_claim(login).id\n        attempt = "
    new = old.replace("attempt", 'log.warning("%s logs in with %s", login, password)\n        attempt')
    monkeypatch.setenv("PYTHONPATH", str(HOOK))
    monkeypatch.setenv("MUTATION", json.dumps(["wallet_gql.identity.access", old, new]))
    with serving(tmp_path) as server, Client(server.url) as client:
        client.run(LOG_IN, {"input": {"login": "ann@example.org", "password": PASSWORD}})
    address, password = leaks.taken()
    assert address.startswith(f"{server.log_file}:")
    assert "ann@example.org" in address
    assert PASSWORD in password
