"""What a log line may hold: any text, but nothing that tells who somebody is."""

from __future__ import annotations

import json
import logging

import pytest

from wallet_gql.domain.errors import RateLimited
from wallet_gql.domain.security_events import Visitor
from wallet_gql.domain.users import login_claim
from wallet_gql.settings import load_settings
from wallet_gql.transports.http.logs import JsonLines
from wallet_gql.transports.http.rate_limits import Limits


@pytest.mark.parametrize("text", ["plain", "Zoë", "\ud800", "a \udcff name", "two\nlines", "\x00"])
def test_any_text_makes_a_line(text: str) -> None:
    """A line is never lost: what no UTF-8 can hold is escaped."""
    line = JsonLines().format(logging.LogRecord("wallet", logging.INFO, "", 0, "it is %s", (text,), None))
    told = json.loads(line)
    assert told["message"] == f"it is {text}".encode(errors="backslashreplace").decode()
    assert told["logger"] == "wallet"
    assert "\n" not in line


@pytest.mark.parametrize("login", ["ann@example.org", "ann123"])
async def test_a_refused_log_in_tells_no_name(login: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the name nor a digest of it, which a list of names would reveal."""
    caplog.set_level(logging.DEBUG)
    limits = Limits(load_settings(storage="memory://", mode="test", rate_limits="logIn=1/minute"))
    claim = login_claim(login).id
    await limits.count_log_in(Visitor("192.0.2.1"), claim)
    with pytest.raises(RateLimited):
        await limits.count_log_in(Visitor("192.0.2.1"), claim)
    assert "logIn of 192.0.2.1" in caplog.text
    assert claim.partition(":")[2] not in caplog.text
