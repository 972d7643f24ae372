"""Possible mistakes in the defences against attackers, each detected by the test for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest
from starlette.requests import cookie_parser

from tests.integration import test_rate_limits as limits_tests
from tests.integration import test_security_http as http_tests
from tests.integration import test_security_log_in as log_in_tests
from tests.integration.test_security_log_in import HOME, PASSWORD, Clock, opened
from wallet_gql.domain.errors import RateLimited
from wallet_gql.domain.model import RecordKey
from wallet_gql.domain.security_events import FAILURES_MAX, EventKind, Throttle, Visitor, throttle_key
from wallet_gql.identity import Identity, access, decisions, sessions
from wallet_gql.identity import throttle as throttle_module
from wallet_gql.records import change, read
from wallet_gql.transports.graphql.counting import Verbs
from wallet_gql.transports.http import auth, origins
from wallet_gql.transports.http.rate_limits import Limits

pytestmark = pytest.mark.trial

Patch = pytest.MonkeyPatch
Test = Callable[[Patch], Awaitable[None]]


def with_anna(test: Callable[..., Awaitable[None]], *names: str) -> Test:
    """A test of `test_security_log_in` with the fixtures that it names."""

    async def run(patch: Patch) -> None:
        clock = Clock()
        async with opened("memory://?nodes=3", clock) as identity:
            await identity.sign_up("anna", "anna@example.org", PASSWORD)
            given: dict[str, Any] = {"identity": identity, "clock": clock, "monkeypatch": patch}
            await test(**{name: given[name] for name in names})

    return run


def locally(test: Callable[..., Awaitable[None]], *given: Any) -> Test:
    """A test of `test_security_http` with a browser on the developer's own machine."""

    async def run(_: Patch) -> None:
        async with http_tests.app_with() as both:
            await test(both, *given)

    return run


def plainly(test: Callable[[], Awaitable[None]]) -> Test:
    """A test without fixtures."""

    async def run(_: Patch) -> None:
        await test()

    return run


# The mistakes


def counting_afterwards(patch: Patch) -> None:
    """An attempt is counted when it has failed, not before it is made."""

    async def attempt(self: Any, name: str, visitor: Visitor | None) -> tuple[RecordKey, ...]:
        assert visitor is not None
        key = throttle_key("name", name, visitor.network)
        found = Throttle.from_record(await read(self._store, key), self._clock())
        if found.count >= FAILURES_MAX:
            raise RateLimited(1)
        self.last = key
        return (key,)

    async def failed(self: Any, visitor: Visitor | None) -> None:
        del visitor
        key, now = self.last, self._clock()

        def make(before: Any) -> Any:
            found = Throttle.from_record(before, now)
            return replace(found, count=found.count + 1).to_record(key)

        await change(self._store, key, make)

    patch.setattr(throttle_module.Throttles, "attempt", attempt)
    patch.setattr(throttle_module.Throttles, "failed", failed)


def locking_the_name(patch: Patch) -> None:
    """Failures are counted for the name alone: anybody can lock anybody out."""
    real = throttle_key
    patch.setattr(throttle_module, "throttle_key", lambda *parts: real(*parts[:2]))


def locking_the_address(patch: Patch) -> None:
    """After many failures nobody can log in from an address."""
    patch.setattr(throttle_module, "BUSY_FAILURES_MAX", 0)


def networks_alone(patch: Patch) -> None:
    """A /48 is as many clients as it has networks."""
    patch.setattr(Visitor, "site", property(lambda _: None))


def sites_remember(patch: Patch) -> None:
    """A success stays on the site's count, as if it had failed."""
    patch.setattr(throttle_module.Throttles, "_give_back", lambda *_: asyncio.sleep(0))


def log_ins_by_address(patch: Patch) -> None:
    """The limit on log-ins is the address's, whoever logs in."""
    real = Limits.count_log_in
    patch.setattr(Limits, "count_log_in", lambda self, visitor, _: real(self, visitor, ""))


def whole_addresses(patch: Patch) -> None:
    """An IPv6 address counts by itself: a subscriber has 2^64 of them."""
    patch.setattr(Visitor, "network", property(lambda self: self.address))


def asking_the_session_alone(patch: Patch) -> None:
    """A log-in on its way is not stopped by the end of all sessions."""
    real = Identity.end_all

    async def end_all(self: Any, user: Any, keep: Any, event: Any, **more: Any) -> int:
        plainly_replaced = replace

        def same_epoch(thing: Any, **values: Any) -> Any:
            values.pop("epoch", None)
            return plainly_replaced(thing, **values)

        patch.setattr(decisions, "replace", same_epoch)
        try:
            return await real(self, user, keep, event, **more)
        finally:
            patch.setattr(decisions, "replace", plainly_replaced)

    patch.setattr(Identity, "end_all", end_all)


def renewing_what_is_gone(patch: Patch) -> None:
    """The old session's end and the new one's beginning are two commits."""

    async def renew(self: Any, session: Any, visitor: Any = None) -> Any:
        user = await self.user(session.user_id)
        made, token = sessions.new_session(session)
        await self._begin(made, user, self.events.make(EventKind.SESSION_RENEWED, visitor))
        await self.log_out(session)
        return access.LoggedIn(user, made, token)

    patch.setattr(Identity, "renew", renew)


def any_cookie_name(patch: Patch) -> None:
    """Names are read as Starlette reads them."""

    def cookie(connection: Any, name: str) -> str | None:
        return cookie_parser(connection.headers.get("cookie", "")).get(name)

    patch.setattr(auth, "_cookie", cookie)


def dev_cookie_everywhere(patch: Patch) -> None:
    """The cookie without Secure is set and taken wherever somebody asks."""
    patch.setattr(auth, "is_plain_loopback", lambda _: True)


def counting_documents(patch: Patch) -> None:
    """A document counts once for each verb, however many aliases it has."""
    real = Verbs.of
    patch.setattr(Verbs, "of", lambda self, given: iter(set(real(self, given))))


def trusting_the_host_alone(patch: Patch) -> None:
    """This machine is told by the name that the client sends."""
    patch.setattr(origins, "_FORWARDED", ())


def behind_one(attacker: Visitor, victim: Visitor) -> Callable[..., Awaitable[None]]:
    """The test of shared addresses, for two of them."""
    return partial(log_in_tests.test_b10_a_shared_address_locks_nobody_out, names=104, attacker=attacker, victim=victim)


a_site: Final = partial(log_in_tests.test_b10_a_name_has_a_ceiling_over_a_site, login="anna")
DEV: Final[Any] = ("http://localhost:8000", "127.0.0.1", {}, {"X-Forwarded-For": "192.0.2.1"}, False)
AWAY: Final[Any] = ("http://wallet.example", "127.0.0.1", {}, {}, False)
MISTAKES: Final[list[tuple[Callable[[Patch], None], Test]]] = [
    (
        counting_afterwards,
        with_anna(log_in_tests.test_attempts_at_once_are_counted_before_they_are_made, "identity", "monkeypatch"),
    ),
    (locking_the_name, with_anna(log_in_tests.test_nobody_can_lock_a_user_out, "identity")),
    (whole_addresses, with_anna(log_in_tests.test_an_ipv6_subscriber_is_one_client, "identity")),
    (locking_the_address, with_anna(behind_one(HOME, HOME), "identity")),
    (locking_the_address, with_anna(behind_one(Visitor("2001:db8::1"), Visitor("2001:db8::2")), "identity")),
    (networks_alone, with_anna(a_site, "identity", "clock")),
    (sites_remember, with_anna(log_in_tests.test_b10_a_success_is_no_failure_of_the_site, "identity")),
    (log_ins_by_address, plainly(limits_tests.test_b10_failures_at_the_default_limits_keep_nobody_out)),
    (
        asking_the_session_alone,
        with_anna(log_in_tests.test_a_log_in_does_not_outlive_log_out_everywhere, "identity", "monkeypatch"),
    ),
    (
        asking_the_session_alone,
        with_anna(log_in_tests.test_a_renewal_does_not_outlive_a_new_password, "identity", "monkeypatch"),
    ),
    (renewing_what_is_gone, with_anna(log_in_tests.test_of_fifty_renewals_one_succeeds, "identity")),
    (any_cookie_name, locally(http_tests.test_only_the_exact_cookie_counts, "\xa0__Host-wallet={0}")),
    (counting_documents, plainly(limits_tests.test_each_money_mutation_of_a_document_counts)),
    (
        dev_cookie_everywhere,
        plainly(lambda: http_tests.test_the_cookie_without_tls_is_for_ones_own_machine(*AWAY)),
    ),
    (
        trusting_the_host_alone,
        plainly(lambda: http_tests.test_the_cookie_without_tls_is_for_ones_own_machine(*DEV)),
    ),
]


@pytest.mark.parametrize(
    ("mistake", "test"), MISTAKES, ids=[f"{n}-{mistake.__name__}" for n, (mistake, _) in enumerate(MISTAKES)]
)
async def test_a_mistake_is_convicted(mistake: Callable[[Patch], None], test: Test, monkeypatch: Patch) -> None:
    """The test passes as the code is, and fails with the mistake."""
    await test(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            await test(patch)
