"""Events to merchants: in order, at least once, signed, only to public addresses; two processes, kill -9, mutants."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests.integration._server import serving, settle_all
from wallet_gql.backends import open_store
from wallet_gql.domain.errors import AccountNotFound, InvalidInput, NotAMerchant
from wallet_gql.domain.ids import AccountId, UserId, make_user_id
from wallet_gql.domain.merchants import REPEATS_MAX, Delivery, delivery_key
from wallet_gql.domain.model import Record
from wallet_gql.domain.users import username_claim
from wallet_gql.integrations.webhooks import targets as merchant_targets
from wallet_gql.integrations.webhooks.deliveries import Webhooks
from wallet_gql.integrations.webhooks.events import Event, HttpSender, NotSent, SendFailed, headers_of
from wallet_gql.integrations.webhooks.targets import LookUps, NotLookedUp, TargetRefused, check_url, is_public, resolve
from wallet_gql.records import read
from wallet_gql.storage import HistoryLine
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import CURRENCY, Person, World
from wallet_gql.verbs.ledger import Ledger, To
from wallet_gql.verbs.merchants import Merchants

URL: Final = "https://shop.example/events"


@dataclass
class Inbox:
    """A merchant's server in the process: notes what arrives, answers as it is told to."""

    answers: list[int | str | SendFailed] = field(default_factory=list)
    got: list[int] = field(default_factory=list)
    sent: list[tuple[Event, Sequence[str]]] = field(default_factory=list)
    wait_seconds: float = 0.0

    async def __call__(self, url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        """Take an event."""
        assert url == URL
        assert turn >= 0
        self.sent.append((event, secrets))
        await asyncio.sleep(self.wait_seconds)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, SendFailed):
            raise answer
        if isinstance(answer, str):
            raise SendFailed(answer)
        if 200 <= answer < 300:
            self.got.append(event.sequence)
        return answer


class Town:
    """A payer and a shop whose events go to an inbox."""

    def __init__(self, world: World, payer: Person, shop: Person, inbox: Inbox) -> None:
        self.world, self.payer, self.shop, self.inbox = world, payer, shop, inbox
        self.webhooks = self.teller()
        self.merchants = Merchants(world.ledger, on_paid=self.webhooks.wake)

    def teller(self, kind: type[Webhooks] = Webhooks, **more: Any) -> Webhooks:
        """What a further process would run."""
        return kind(self.world.store, self.inbox, clock=self.world.clock, **{"attempts_max": 4, **more})

    async def pay(self, count: int = 1) -> None:
        """Pay the shop."""
        for _ in range(count):
            pay: dict[str, Any] = {"source": self.payer.account, "merchant": "shop", "currency": CURRENCY}
            await self.merchants.pay(self.payer.id, self.world.key(), amount_minor=10, **pay)

    async def rounds(self, count: int = 1, seconds: float = 0.0, webhooks: Webhooks | None = None) -> None:
        """Some sweeps, with time between them."""
        for _ in range(count):
            self.world.clock.advance(seconds)
            await (webhooks or self.webhooks).sweep()
            await (webhooks or self.webhooks).settle()


async def town_in(world: World) -> Town:
    """A shop that has one entry from before it was a merchant."""
    payer, shop = await world.people(2, 10_000)
    claim = username_claim("shop")
    await world.put(Record(claim.kind, claim.id, claim.slot, shop.id, 1, {"user": shop.id, "confirmed": True}))
    town = Town(world, payer, shop, Inbox())
    await town.merchants.register(shop.id, "Shop", URL)
    return town


@pytest_asyncio.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """The shop, in a world that is audited at the end."""
    async with World(harness_for("memory"), tmp_path) as world:
        yield await town_in(world)


# What is told


async def test_events_in_order_and_once(town: Town) -> None:
    """Everything since the registration, in order; one 2xx each; the payload is exact, and the signature fits."""
    await town.pay(3)
    await town.merchants.refund(town.shop.id, "refund", (await newest(town)).transfer.id, amount_minor=4)
    await town.rounds(3)
    assert town.inbox.got == [2, 3, 4, 5]
    event, secrets = town.inbox.sent[-1]
    told = json.loads(event.body)
    assert told["type"] == "reversal.sent"
    assert (told["data"]["amountMinor"], told["data"]["sequence"], told["data"]["currency"]) == ("-4", 5, "EUR")
    assert told["data"]["balanceMinor"] == "10026"
    assert json.loads(town.inbox.sent[0][0].body)["type"] == "payment.received"
    assert len({sent.id for sent, _ in town.inbox.sent}) == 4
    headers = headers_of(event, secrets, datetime.now(UTC))
    assert Webhook(secrets[0]).verify(event.body, headers) == told
    delivery = await town.webhooks.delivery(town.shop.id)
    assert delivery is not None
    assert (delivery.positions[town.shop.account], delivery.lease, delivery.attempts) == (5, "", 0)


async def newest(town: Town) -> HistoryLine:
    """The shop's last entry."""
    from wallet_gql.storage import PageRequest  # noqa: PLC0415 - here alone

    return (await town.world.store.list_transfers(town.shop.account, PageRequest(1))).items[0]


async def test_two_live_secrets(town: Town) -> None:
    """After a rotation each event is signed by both secrets; when the old one has ended, by the new one alone."""
    old = await town.merchants.merchant(town.shop.id)
    new = await town.merchants.rotate_secret(town.shop.id)
    assert old is not None
    for seconds, both in ((0, True), (24 * 3600 + 1, False)):
        town.world.clock.advance(seconds)
        await town.pay()
        await town.rounds(1, 20)
        event, secrets = town.inbox.sent[-1]
        headers = headers_of(event, secrets, datetime.now(UTC))
        assert len(headers["webhook-signature"].split()) == (2 if both else 1)
        Webhook(new.secret).verify(event.body, headers)
        if both:
            Webhook(old.live_secrets(datetime.now(UTC))[0]).verify(event.body, headers)


async def check_failures(town: Town, webhooks: Webhooks) -> None:
    """Raise AssertionError unless a failed event is sent again before those behind it, and nothing is lost."""
    town.inbox.answers = [200, 500, "no answer: ConnectError", 302]
    await town.pay(3)
    await town.rounds(12, 40, webhooks)
    assert [event.sequence for event, _ in town.inbox.sent] == [2, 3, 3, 3, 3, 4]
    assert town.inbox.got == [2, 3, 4]


async def test_failures_are_tried_again_in_order(town: Town) -> None:
    """A redirect, a 5xx and no answer are failures; nothing overtakes."""
    await check_failures(town, town.webhooks)


async def test_waits_grow_to_a_cap(town: Town) -> None:
    """The wait doubles with each failure, is never longer than the cap, and is random in its half."""
    webhooks = town.teller(retry_seconds=5, retry_max_seconds=60)
    waits = {attempts: [webhooks._wait_seconds(attempts) for _ in range(50)] for attempts in (1, 2, 3, 10, 500)}
    for attempts, longest in ((1, 5), (2, 10), (3, 20), (10, 60), (500, 60)):
        assert longest / 2 <= min(waits[attempts]) < max(waits[attempts]) <= longest
    town.inbox.answers = [500]
    await town.pay()
    await town.rounds(2)
    assert len(town.inbox.sent) == 1, "it did not wait"
    town.webhooks.wake(town.shop.id)
    await town.rounds()
    assert len(town.inbox.sent) == 1, "a hint cut the wait short"


async def test_dead_letters_and_replay(town: Town) -> None:
    """An event that fails too often becomes a dead letter, later events go on; a replay sends it again, in order."""
    town.inbox.answers = [500] * 4
    await town.pay(2)
    await town.rounds(8, 60)
    assert town.inbox.got == [3]
    (dead,) = (await town.webhooks.dead_letters(town.shop.id)).items
    assert (dead.error, dead.account_id, dead.sequence) == ("status 500", town.shop.account, 2)
    assert await town.webhooks.all_dead_letters(10) == [dead]
    assert (await town.webhooks.delivery(town.shop.id)).dead == 1  # type: ignore[union-attr]
    await town.webhooks.replay(town.shop.id, town.shop.account, 2)
    await town.rounds(1, 60)
    assert town.inbox.got == [3, 2, 3]
    assert (await town.webhooks.dead_letters(town.shop.id)).items == ()
    await town.webhooks.replay(town.shop.id, town.shop.account, 1)
    await town.rounds(1, 60)
    assert town.inbox.got[3:] == [1, 2, 3]
    for bad, error in ((0, InvalidInput), (5, InvalidInput)):
        with pytest.raises(error):
            await town.webhooks.replay(town.shop.id, town.shop.account, bad)
    with pytest.raises(AccountNotFound):
        await town.webhooks.replay(town.shop.id, town.payer.account, 1)
    with pytest.raises(NotAMerchant):
        await town.webhooks.replay(town.payer.id, town.payer.account, 1)


@pytest.mark.parametrize("answer", [200, 500, "no answer"], ids=str)
async def test_b3_replays_are_told_at_a_bounded_rate(town: Town, answer: int | str) -> None:
    """Whatever is asked for, a target gets sixty events a minute again, whether it takes or refuses them."""
    town.webhooks = town.teller(retry_seconds=0.001, retry_max_seconds=0.001, attempts_max=2)
    await town.pay(100)
    await town.rounds(3)
    assert len(town.inbox.got) == 100
    town.inbox.sent.clear()
    town.inbox.answers = [answer] * 10_000
    for _ in range(200):
        await town.webhooks.replay(town.shop.id, town.shop.account, 1)
        await town.rounds(2, 0.05)
    assert len(town.inbox.sent) == REPEATS_MAX  # in 20 seconds
    town.inbox.sent.clear()
    await town.webhooks.replay(town.shop.id, town.shop.account, 50)
    await town.rounds(2)
    assert town.inbox.sent == []
    town.inbox.answers = []
    await town.pay(5)
    await town.rounds(4, 61)
    assert [event.sequence for event, _ in town.inbox.sent] == list(range(50, 107))  # all of them, and the new ones


async def test_b3_new_events_are_not_slowed_down(town: Town) -> None:
    """Only what was told before is counted, also after a change of the target or a failure."""
    await town.pay(3 * REPEATS_MAX)
    town.inbox.answers = [500]
    await town.rounds(1)
    await town.merchants.update(town.shop.id, webhook_url=URL)
    await town.rounds(4)
    assert len(town.inbox.got) == 3 * REPEATS_MAX


async def test_b3_the_bound_outlives_processes(town: Town) -> None:
    """It is kept in the delivery: another process, or a restarted one, goes on with the same count."""
    await town.pay(100)
    await town.rounds(3)
    town.inbox.sent.clear()
    for _ in range(10):
        town.webhooks = town.teller()
        await town.webhooks.replay(town.shop.id, town.shop.account, 1)
        await town.rounds(1, 0.5)
    assert len(town.inbox.sent) == REPEATS_MAX


async def test_b3_deliveries_of_before_are_read(town: Town) -> None:
    """A record without the counts is one that has told everything up to its positions."""
    await town.pay(2)
    await town.rounds(1)
    record = await read(town.world.store, delivery_key(town.shop.id))
    assert record is not None
    body = {name: value for name, value in record.body.items() if name not in ("furthest", "repeats", "repeats_since")}
    before = Delivery.from_record(replace(record, body=body))
    assert (before.is_repeat(town.shop.account, 3), before.is_repeat(town.shop.account, 4)) == (True, False)


async def test_a_server_that_is_gone(town: Town) -> None:
    """After 410 nothing is sent until there is a URL again; then nothing is missing. Off and on works so too."""
    town.inbox.answers = [410]
    await town.pay(2)
    await town.rounds(5, 100)
    assert len(town.inbox.sent) == 1
    await town.merchants.update(town.shop.id, webhook_url=URL)
    await town.rounds()
    assert town.inbox.got == [2, 3]
    await town.merchants.update(town.shop.id, webhook=False)
    await town.pay()
    await town.rounds(3, 100)
    assert town.inbox.got == [2, 3]
    await town.merchants.update(town.shop.id, webhook_url=URL)
    await town.rounds()
    assert town.inbox.got == [2, 3, 4]


async def test_the_idle_are_looked_at_ever_less(town: Town) -> None:
    """With nothing to tell there is a look every few seconds; a payment elsewhere is found, a hint finds it at once."""
    await town.rounds(10, 20)
    delivery = await town.webhooks.delivery(town.shop.id)
    assert delivery is not None
    assert delivery.due_at is not None
    assert delivery.due_at - town.world.clock() == timedelta(seconds=15)
    await town.world.pay(town.payer, town.shop, 10)
    await town.rounds()
    assert town.inbox.got == []
    await town.rounds(1, 16)
    assert town.inbox.got == [2]
    await town.pay()
    await town.rounds()
    assert town.inbox.got == [2, 3]


async def test_what_was_never_tried_is_no_failure(town: Town) -> None:
    """An event that could not be sent for a reason of our own waits, is not counted, and is no dead letter."""
    webhooks = town.teller(attempts_max=1)
    town.inbox.answers = [*[NotSent("busy")] * 5]
    await town.pay()
    await town.rounds(5, 6, webhooks)
    assert len(town.inbox.sent) == 5
    delivery = await webhooks.delivery(town.shop.id)
    assert delivery is not None
    assert (delivery.attempts, delivery.dead, delivery.lease) == (0, 0, "")
    assert delivery.due_at is not None
    assert delivery.due_at > town.world.clock()
    await town.rounds(1, 6, webhooks)
    assert town.inbox.got == [2]


async def test_a_slow_merchant_gives_way(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round ends after some time; the remaining events are sent in the next rounds, in order."""
    monkeypatch.setattr("wallet_gql.integrations.webhooks.deliveries._ROUND_SECONDS", 0.05)
    town.inbox.wait_seconds = 0.02
    await town.pay(8)
    await town.rounds()
    assert 1 <= len(town.inbox.got) <= 3
    await town.rounds(8)
    assert town.inbox.got == list(range(2, 10))


async def test_hints_do_not_hold_up_those_who_are_due(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hints there are, every second place is for those who waited for their time."""
    monkeypatch.setattr("wallet_gql.integrations.webhooks.deliveries._AT_ONCE", 2)
    webhooks = town.teller()
    for n in range(10):
        webhooks.wake(make_user_id(n, n))
    await town.world.pay(town.payer, town.shop, 10)
    await town.rounds(1, 0, webhooks)
    assert town.inbox.got == [2]


async def test_a_change_counts_from_the_next_event_on(town: Town) -> None:
    """A URL that is set before the lease is taken is the one; one that is set while an event is sent, the next's."""
    sent: list[tuple[str, int]] = []

    async def send(url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        assert (event.sequence > 1, turn) == (True, 0)
        sent.append((url, len(secrets)))
        if len(sent) == 1:
            await town.merchants.rotate_secret(town.shop.id)
        if len(sent) == 2:
            await town.merchants.update(town.shop.id, webhook_url="https://third.example/")
        return 200

    class Slow(Webhooks):
        async def _take(self, merchant_id: UserId, token: str) -> Any:
            await town.merchants.update(merchant_id, webhook_url="https://second.example/")
            self._take = super()._take  # type: ignore[method-assign] # once
            return await super()._take(merchant_id, token)

    webhooks = Slow(town.world.store, send, clock=town.world.clock)
    await town.pay(3)
    await webhooks.tell(town.shop.id)
    await webhooks.tell(town.shop.id)
    second = "https://second.example/"
    assert sent == [(second, 1), (second, 2), ("https://third.example/", 2), ("https://third.example/", 2)]


# Several processes


async def check_two_tellers(town: Town, kind: type[Webhooks] = Webhooks) -> None:
    """Raise AssertionError unless two processes beside each other tell every event once and in order."""
    await town.pay(30)
    tellers = [town.teller(kind) for _ in range(2)]
    for _ in range(3):
        await asyncio.gather(*(teller.sweep() for teller in tellers))
        await asyncio.gather(*(teller.settle() for teller in tellers))
    assert town.inbox.got == list(range(2, 32))


async def test_two_processes_do_not_interleave(town: Town) -> None:
    """While one process has the lease, the other sends nothing."""
    await check_two_tellers(town)


async def test_a_process_that_was_taken_for_dead_moves_nothing(town: Town) -> None:
    """A lease ends during a send; another process continues; the late one notices and stops."""
    await town.pay(4)
    other = town.teller()

    async def slow(url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        town.world.clock.advance(61)
        await other.sweep()
        await other.settle()
        return await town.inbox(url, event, secrets, turn)

    late = Webhooks(town.world.store, slow, clock=town.world.clock)
    assert await late.tell(town.shop.id) == 0
    assert town.inbox.got == [2, 3, 4, 5, 2], "an event twice is allowed, one out of order behind it is not"


moves = st.lists(
    st.sampled_from(("pay", "pay", "first", "second", "wait", "wait longer", "fail", "lost", "stop", "replay")),
    max_size=40,
)


@given(moves)
@settings(max_examples=60, deadline=None)
def test_any_schedule_tells_everything_in_order(schedule: list[str]) -> None:
    """Two processes, failures, lost answers, a process that is stopped: nothing is lost, nothing overtakes."""
    asyncio.run(play(schedule))


async def play(schedule: list[str]) -> None:
    """Play it to the end. Raises AssertionError."""
    with TemporaryDirectory() as folder:
        async with World(harness_for("memory"), Path(folder)) as world:
            town = await town_in(world)
            tellers = {"first": town.teller(attempts_max=1_000), "second": town.teller(attempts_max=1_000)}
            seconds = {"wait": 5, "wait longer": 61}
            for move in schedule:
                if move == "pay":
                    await town.pay()
                elif move in tellers:
                    await tellers[move].sweep()
                    await asyncio.sleep(0)
                elif move in seconds:
                    world.clock.advance(seconds[move])
                elif move == "stop":
                    await tellers["first"].aclose()
                elif move == "replay":
                    await town.webhooks.replay(town.shop.id, town.shop.account, 1)
                else:
                    town.inbox.answers.append(503 if move == "fail" else "no answer: ReadTimeout")
            town.inbox.answers.clear()
            for _ in range(4):
                await town.rounds(1, 3_601, tellers["second"])
            sequence = (await world.account(town.shop)).sequence
            told = list(dict.fromkeys(town.inbox.got))
            first = 1 if 1 in told else 2
            assert sorted(told) == list(range(first, sequence + 1)), "an event is missing"
            assert [one for one in told if one > 1] == list(range(2, sequence + 1)), "an event overtook another"


# Mutants


class MovesFirst(Webhooks):
    """A mutant: the position moves on before the merchant has answered."""

    async def _attempt(self, merchant: Any, event: Event, delivery: Any) -> str:
        def told(found: Any) -> Any:
            return found.told(event.account_id, event.sequence)

        await self._change(merchant.id, told)
        return await super()._attempt(merchant, event, delivery)


class OutOfOrder(Webhooks):
    """A mutant: the newest event first."""

    async def _lines(self, account: Any, after: int) -> Any:
        found = [line async for line in super()._lines(account, after)]
        for line in reversed(found):
            yield line


class Unleased(Webhooks):
    """A mutant: whoever finds events tells them, lease or not."""

    async def _take(self, merchant_id: UserId, token: str) -> Any:
        del token
        return await self._change(merchant_id, lambda found: found)

    async def _move(self, merchant_id: UserId, token: str, line: HistoryLine) -> Any:
        del token
        entry = line.entry
        return await self._change(merchant_id, lambda found: found.told(entry.account_id, entry.sequence))


async def test_a_position_before_the_2xx_is_convicted(town: Town) -> None:
    """The check of failures finds the mutant: the event that failed is never sent again."""
    with pytest.raises(AssertionError):
        await check_failures(town, town.teller(MovesFirst))


async def test_events_out_of_order_are_convicted(town: Town) -> None:
    """The check of two tellers finds the mutant."""
    with pytest.raises(AssertionError):
        await check_two_tellers(town, OutOfOrder)


async def test_a_missing_lease_is_convicted(town: Town) -> None:
    """The check of two senders finds events that were sent twice."""
    with pytest.raises(AssertionError):
        await check_two_tellers(town, Unleased)


# Where events may go


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::1", "::7f00:1", "2001:0:7f00:1::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, local, special and tunnelled ones are refused, in a URL as behind a name."""
    assert not is_public(address)
    if "%" not in address:
        host = f"[{address}]" if ip_address(address).version == 6 else address
        with pytest.raises(InvalidInput):
            check_url(f"https://{host}/x")


def test_public_addresses() -> None:
    """Ordinary ones are allowed."""
    for address in ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"):
        assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/x", "ftp://shop.example/x", "https://", "https:///x", "shop.example", "https://a@shop.example/",
        "https://shop.example/#x", "https://shop.example:0/", "https://shop.example:99999/", "https://shop.example/ x",
        "https://shop.example\\@evil.example/", "https://shöp.example/", "https://shop.example/\n", "https://[::1/x",
        f"https://shop.example/{'x' * 2_000}", "javascript:alert(1)", "https://127.0.0.1/", "https://[::1]/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    """No https URL of a public server; the refusal does not repeat it."""
    with pytest.raises(InvalidInput) as refused:
        check_url(url)
    assert "evil" not in refused.value.message


async def test_every_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address among public ones refuses them all; else the checked address is what is connected to."""
    found = ["1.1.1.1", "10.0.0.1"]

    async def look_up(host: str) -> list[str]:
        assert host == "shop.example"
        return found

    monkeypatch.setattr(merchant_targets, "_look_up", look_up)
    with pytest.raises(TargetRefused):
        await resolve("https://shop.example:8443/x?y=1")
    found[:] = ["1.1.1.1", "2606:4700::1111"]
    target = await resolve("https://shop.example:8443/x?y=1")
    assert (target.url, target.host, target.name) == (
        "https://1.1.1.1:8443/x?y=1", "shop.example:8443", "shop.example",
    )  # fmt: skip
    assert (await resolve("https://shop.example:8443", turn=1)).url == "https://[2606:4700::1111]:8443/"
    found[:] = []
    with pytest.raises(TargetRefused):
        await resolve("https://shop.example:8443/x")


async def test_a_refusal_tells_nothing_of_an_inner_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A merchant cannot tell a name that nobody knows from one of a private address."""
    told = []
    for answer in (["10.0.0.1"], [], OSError("unknown"), TimeoutError()):

        async def look_up(_host: str, answer: Any = answer) -> list[str]:
            if isinstance(answer, OSError):
                raise answer
            return list(answer)

        monkeypatch.setattr(merchant_targets, "_look_up", look_up)
        with pytest.raises(SendFailed) as refused:
            await HttpSender()("https://inner.example/", EVENT, [SECRET], 0)
        told.append(str(refused.value))
    assert len(set(told)) == 1


@contextmanager
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], threading.Event]]:
    """Names that begin with `slow` are not answered before the event; all that was asked, and the event."""
    asked: list[str] = []
    answered = threading.Event()

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if host.startswith("slow"):
            answered.wait(patience(60))
        return [(2, 1, 6, "", ("93.184.216.34", 0))]

    monkeypatch.setattr(merchant_targets, "_look_up", LookUps(2, 1))
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        try:
            yield asked, answered
        finally:
            answered.set()


@contextmanager
def looking_up_for(*, queue_seconds: float = 10.0, resolve_seconds: float = 10.0) -> Iterator[None]:
    """Look-ups get so much time; as many seconds as the machine is slow, where none are told."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("QUEUE_SECONDS", queue_seconds), ("RESOLVE_SECONDS", resolve_seconds)):
            patch.setattr(merchant_targets, name, seconds if seconds < 1 else patience(seconds))
        yield


async def test_slow_names_fail_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that gets no thread is no failure of its merchant; slow hosts get threads of their own after that."""
    with slow_names(monkeypatch) as (asked, answered):
        slow = [f"https://slow{n}.example/" for n in range(2)]
        with looking_up_for(resolve_seconds=0.1):
            for one in await asyncio.gather(*map(resolve, slow * 3), return_exceptions=True):
                assert isinstance(one, TargetRefused)
            assert sorted(asked) == ["slow0.example", "slow1.example"], "a host was looked up twice at once"
            with looking_up_for(queue_seconds=0.2), pytest.raises(NotSent):
                await HttpSender()("https://honest.example/", EVENT, [SECRET], 0)
            answered.set()
            # Who asks before the first look-ups have ended would get their answers.
            while merchant_targets._look_up._under_way:  # noqa: ASYNC110 - threads empty it
                await asyncio.sleep(0.01)
        with looking_up_for():
            assert (await resolve("https://honest.example/")).name == "honest.example"
        answered.clear()
        with looking_up_for(queue_seconds=0.2, resolve_seconds=0.1):
            for one in await asyncio.gather(*map(resolve, slow), return_exceptions=True):
                assert isinstance(one, TargetRefused | NotLookedUp)
        with looking_up_for():  # the thread for slow hosts is still taken
            assert (await resolve("https://other.example/")).name == "other.example"
            answered.set()
            assert (await resolve("https://slow1.example/")).url == "https://93.184.216.34:443/"


# Over real sockets


@dataclass
class Listener:
    """A tiny server: notes requests and answers with fixed bytes."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
            if writer.get_extra_info("ssl_object"):
                await reader.read()
        if writer.get_extra_info("ssl_object"):
            writer.transport.abort()  # a polite end of TLS waits for the other side's
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length:", 1)[1].split("\r\n", 1)[0])
        body = await reader.readexactly(length)
        self.heads.append(head)
        self.bodies.append(body)
        writer.write(self.answer)
        await writer.drain()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """A listener on a free port of loopback."""
    listener = Listener()
    server = await asyncio.start_server(listener.handle, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # what a client hung up on has its end, too


EVENT: Final = Event("evt_1_1", AccountId("acc_1"), 1, "trf_1", '{"type":"payment.received"}')
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_a_request_as_it_travels() -> None:
    """The body is the signed text; the headers verify; redirects are not followed, and answers not read."""
    sender = HttpSender(allow_private=True)
    async with listening() as listener, listening() as other:
        url = f"http://localhost:{listener.port}/events?a=1"
        assert await sender(url, EVENT, [SECRET], 0) == 204
        head = listener.heads[0]
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        assert head.startswith("POST /events?a=1 HTTP/1.1")
        assert headers["host"] == f"localhost:{listener.port}"
        assert Webhook(SECRET).verify(listener.bodies[0], headers) == {"type": "payment.received"}
        listener.answer = f"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:{other.port}/\r\n\r\n".encode()
        assert await sender(url, EVENT, [SECRET], 0) == 307
        assert other.heads == []
        listener.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n" + b"x" * 100_000
        assert await sender(url, EVENT, [SECRET], 0) == 200
        listener.answer = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000
        for answer in (listener.answer, b"nonsense\r\n\r\n", b""):
            listener.answer = answer
            with pytest.raises(SendFailed):
                await sender(url, EVENT, [SECRET], 0)
    with pytest.raises(SendFailed):
        await sender(url, EVENT, [SECRET], 0)
    with pytest.raises(SendFailed) as refused:
        await HttpSender()("https://localhost:9/x", EVENT, [SECRET], 0)
    assert SECRET not in str(refused.value)
    await sender.aclose()


async def test_cookies_are_not_kept() -> None:
    """What one merchant's server sets is not sent to another's at the same address, nor to itself."""
    sender = HttpSender(allow_private=True)
    async with listening() as listener:
        listener.answer = b"HTTP/1.1 204 No Content\r\nset-cookie: a=1; path=/; max-age=9999\r\n\r\n"
        for path in ("attacker", "victim"):
            assert await sender(f"http://localhost:{listener.port}/{path}", EVENT, [SECRET], 0) == 204
        assert not any("cookie:" in head.lower() for head in listener.heads)
    await sender.aclose()


async def test_a_slow_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts a request and never answers costs no more than the time-out."""
    monkeypatch.setattr("wallet_gql.integrations.webhooks.events.SEND_SECONDS", 0.2)

    ended = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    sender = HttpSender(allow_private=True)
    with pytest.raises(SendFailed, match="Time"):
        await sender(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", EVENT, [SECRET], 0)
    await sender.aclose()
    await asyncio.wait_for(ended.wait(), patience(5))
    server.close()


async def test_the_certificate_is_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes to the checked address, and the certificate must be that of the name."""
    context, trusted = certificate(tmp_path, "shop.test")

    async def look_up(_host: str) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(merchant_targets, "_look_up", look_up)
    sender = HttpSender(allow_private=True, verify=trusted)
    async with listening(context) as listener:
        assert await sender(f"https://shop.test:{listener.port}/", EVENT, [SECRET], 0) == 204
        with pytest.raises(SendFailed):
            await sender(f"https://evil.test:{listener.port}/", EVENT, [SECRET], 0)
        assert len(listener.heads) == 1
    await sender.aclose()


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of that name, and a client's that trusts it."""
    from cryptography import x509  # noqa: PLC0415 - here alone
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=made.public_bytes(pem).decode())


# kill -9


@pytest.mark.trial
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize(("point", "twice"), [("webhooks.leased", 0), ("webhooks.sent@2", 1), ("webhooks.moved@2", 0)])
async def test_kill_9_loses_no_event(tmp_path: Path, point: str, twice: int) -> None:
    """Killed with the lease, between the 2xx and the position, or behind it: the next process goes on in order."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, shop = await asyncio.to_thread(settle_all, storage, 1_000, 0)
    async with listening() as listener, open_store(storage) as store:
        ledger = Ledger(store)
        merchants = Merchants(ledger)
        await merchants.register(UserId(shop.id), "Shop", f"http://127.0.0.1:{listener.port}/")
        for n in range(4):
            source, to = AccountId(payer.account_id), To(username=shop.username)
            pay: dict[str, Any] = {"source": source, "amount_minor": 10, "currency": "EUR"}
            await ledger.transfer(UserId(payer.id), f"k{n}", to=to, **pay)
        name, _, hit = point.partition("@")
        settings = {"webhook_private_targets": "true", "sweep_seconds": "0.1", "webhook_retry_seconds": "0.1"}
        with serving(tmp_path, storage=storage, failpoints=f"{name}=kill@{hit or 1}", **settings) as server:
            assert await asyncio.to_thread(server.process.wait, 20) == -9
        later = Webhooks(store, HttpSender(allow_private=True), clock=lambda: datetime.now(UTC) + timedelta(61))
        await later.sweep()
        await later.settle()
        assert [json.loads(body)["data"]["sequence"] for body in listener.bodies] == sorted([1, 2, 3, 4] + [2] * twice)
        delivery = await later.delivery(UserId(shop.id))
        assert delivery is not None
        assert delivery.positions[AccountId(shop.account_id)] == 4
