"""Which of a node's hosts is the primary. The hosts are played."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from wallet_gql.backends.postgres import hosts
from wallet_gql.backends.postgres.hosts import Hosts
from wallet_gql.backends.postgres.setup import parse_url
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.testing.patience import within
from wallet_gql.urls import parse

STANDBY = asyncpg.TargetServerAttributeNotMatched("standby")
GONE = ConnectionRefusedError("nobody there")
REFUSED = asyncpg.InvalidPasswordError("wrong")


class Raw:
    """A connection."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_ended = False

    def terminate(self) -> None:
        """It is of no use any more."""
        self.is_ended = True


class Yard:
    """Hosts `a`, `b` and `c`, each with a timeline, an error, or None if it is silent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hosts, "_writable", self._writable)
        self.answers: dict[str, int | Exception | None] = {}
        self.made: list[Raw] = []
        self.promotions = 0
        self.hosts = Hosts("n1", [f"postgres://{host}/db" for host in "abc"], self._promoted)

    async def _promoted(self) -> None:
        self.promotions += 1

    async def _writable(self, url: str, options: dict[str, Any]) -> tuple[int, Raw]:
        assert options == {"loop": None}
        answer = self.answers[host := parse(url).hosts]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        self.made.append(Raw(host))
        return answer, self.made[-1]

    async def connect(self, *answers: int | Exception | None, seconds: float = 20.0) -> str:
        """Which host a new connection goes to; every other connection was ended."""
        self.made.clear()
        self.answers = dict(zip("abc", answers, strict=True))
        try:
            raw = await within(20, self.hosts.connect("postgres://a,b,c/db", timeout=seconds, loop=None))
        finally:
            left = [raw.host for raw in self.made if not raw.is_ended]
        assert left == [raw.host]
        return left[0]


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A fresh one."""
    monkeypatch.setattr(hosts, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(hosts, "GRACE_SECONDS", 0.05)
    return Yard(monkeypatch)


@pytest.mark.parametrize(
    ("answers", "primary"),
    [
        ((1, STANDBY, STANDBY), "a"),
        ((STANDBY, GONE, 1), "c"),
        ((None, STANDBY, 1), "c"),
        ((None, 1, None), "b"),
        ((1, 3, 2), "b"),
        ((REFUSED, 1, STANDBY), "b"),
    ],
)
async def test_the_primary_is_found(yard: Yard, answers: tuple[Any, ...], primary: str) -> None:
    """Wherever it stands in the list, and whatever the others say or do not say."""
    assert await yard.connect(*answers) == primary
    assert yard.promotions == 0


async def test_a_promotion_is_followed_once(yard: Yard) -> None:
    """Connections to the former primary are expired once, and it is never used again."""
    assert await yard.connect(1, STANDBY, GONE) == "a"
    assert await yard.connect(GONE, 2, GONE) == "b"
    assert await yard.connect(1, 2, STANDBY) == "b"
    assert yard.promotions == 1
    with pytest.raises(ConnectionError, match="former primary"):
        await yard.connect(1, STANDBY, GONE)
    assert all(raw.is_ended for raw in yard.made)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((GONE, STANDBY, GONE), STANDBY),
        ((GONE, STANDBY, REFUSED), REFUSED),
        ((GONE, GONE, GONE), GONE),
    ],
)
async def test_what_tells_most_is_raised(yard: Yard, answers: tuple[Any, ...], expected: Exception) -> None:
    """A wrong password helps more than a standby, and a standby more than a host that is down."""
    with pytest.raises(type(expected)):
        await yard.connect(*answers)


async def test_a_silent_host_ends_the_wait_in_time(yard: Yard) -> None:
    """A primary may be the silent one: nobody knows, so nobody waits for longer than asked."""
    with pytest.raises(TimeoutError):
        await yard.connect(None, STANDBY, GONE, seconds=0.05)


@pytest.mark.parametrize(
    ("hosts", "query", "named"),
    [
        ("a,b", "target_session_attrs=any", "target_session_attrs"),
        ("a,,b", "sslmode=disable", "missing"),
        ("a,", "sslmode=disable", "missing"),
        ("", "host=a,b", "before the database"),
        ("a", "port=1,2", "before the database"),
    ],
)
def test_hosts_that_have_no_meaning_are_refused(hosts: str, query: str, named: str) -> None:
    """A host must be there, must be writable, and stands in one place."""
    with pytest.raises(ConfigurationError, match=named):
        parse_url(f"postgres://me@{hosts}/db?{query}")


def test_each_host_has_the_same_url() -> None:
    """With its user, secrets and parameters; only the host differs."""
    ((_, url),) = parse_url("postgres://a:a%2C@a:1,[::1]:2,c/a?sslmode=require&node=n1").items()
    assert parse(url).each_host == [f"postgres://a:a%2C@{host}/a?sslmode=require" for host in ("a:1", "[::1]:2", "c")]
    assert parse("postgres://a,b/a").each_host == ["postgres://a/a", "postgres://b/a"]
