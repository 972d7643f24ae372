"""This release opens ledgers of earlier releases: nothing is lost, old keys replay, and new payments work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import pytest
import pytest_asyncio

from tests.integration._old_ledgers import (
    BACKENDS,
    FOLDER,
    STRIPE_VERBS,
    Parts,
    Plain,
    ask,
    clock_of,
    manifest_of,
    restore,
    restore_stripe,
    settle,
    unpacked,
    wallet_on,
)
from wallet_gql.backends import open_store
from wallet_gql.backends.kit import NotMigrated
from wallet_gql.backends.postgres.placement import slots_of
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import digest_of
from wallet_gql.domain.errors import IdempotencyKeyReused, InvalidCredentials, Unauthenticated
from wallet_gql.domain.ids import OPERATOR, AccountId, UserId
from wallet_gql.domain.model import AccountStatus
from wallet_gql.domain.users import SessionKind
from wallet_gql.testing.books import faults, read_books
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.stripe_fake import FakeStripe

RELEASES: Final = sorted(folder.name for folder in FOLDER.iterdir())
LEDGERS: Final = [
    pytest.param((release, backend), marks=pytest.mark.backend(backend), id=f"{release}-{backend}")
    for release in RELEASES
    for backend in BACKENDS
]


class Old:
    """A ledger of an earlier release under today's wallet, at the moment at which it was left."""

    def __init__(self, parts: Parts, manifest: Plain, clock: list[datetime]) -> None:
        self.parts = parts
        self.manifest = manifest
        self._clock = clock

    def later(self, **time: float) -> None:
        """Time passes."""
        self._clock[0] += timedelta(**time)

    async def clean(self) -> None:
        """The books are in order. Raises AssertionError."""
        await settle(self.parts.store)
        report = await audit(self.parts.store)
        assert report.clean, report.findings
        assert faults(await read_books(self.parts.store)) == []

    async def digest(self) -> str:
        """Of all that is stored."""
        return (await digest_of(self.parts.store)).text


async def nobody_migrates_by_the_way(url: str) -> None:
    """Whoever only wants to look is refused, and again: it was left as it is. Raises AssertionError."""
    for _ in range(2):
        with pytest.raises(NotMigrated, match=r"has schema version .*, this program needs .* run: wallet-gql migrate"):
            async with open_store(url, migrates=False):
                pass


@pytest_asyncio.fixture(params=LEDGERS)
async def old(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Old]:
    """Each backend's ledger of each release, restored."""
    release, backend = request.param
    folder, harness = FOLDER / release, harness_for(backend)
    manifest = manifest_of(folder)
    clock, drawn = [clock_of(manifest)], Random(1)
    with server_or_skip():
        await harness.start(tmp_path)
    try:
        await restore(folder / backend, harness.url)
        await nobody_migrates_by_the_way(harness.url)
        with FakeStripe() as fake:
            restore_stripe(fake, manifest["stripe"])
            async with (
                harness.open() as store,
                wallet_on(store, lambda: clock[0], lambda: drawn.getrandbits(62), fake) as parts,
            ):
                await settle(store)
                yield Old(parts, manifest, clock)
    finally:
        await harness.stop()


@pytest.mark.trial
async def test_an_old_ledger_goes_on(old: Old) -> None:
    """All of it, one after the other, so that each ledger is restored once."""
    await nothing_is_lost(old)
    await slots_move(old)
    await keys_are_answered_as_before(old)
    await keys_of_other_inputs_are_refused(old)
    await people_come_back(old)
    await flows_of_the_provider_are_found(old)
    await sweeps_run(old)
    await new_payments_work(old)
    await closed_accounts_have_successors(old)


async def slots_move(old: Old) -> None:
    """Where there are nodes whose slots can move, all of one node's go to another, and the ledger stays what it was."""
    store = old.parts.store
    if not isinstance(store, PgStore) or len(store.placement.names) == 1:
        return
    before = await old.digest()
    slots = slots_of(store.placement, "n1")
    await store.moves.move(store.placement, "n1", "n2", slots)
    assert await old.digest() == before
    assert store.placement.told["n1"].here == 0
    await old.clean()


async def nothing_is_lost(old: Old) -> None:
    """The same records, the same balances, and books that are in order."""
    await old.clean()
    digest = await digest_of(old.parts.store)
    assert (digest.counts, digest.text) == (old.manifest["counts"], old.manifest["digest"])
    books = await read_books(old.parts.store)
    balances = {
        account.id: [account.currency, account.status, account.posted_minor, account.held_minor, account.sequence]
        for account in books.accounts.values()
    }
    assert balances == old.manifest["balances"]


async def keys_are_answered_as_before(old: Old) -> None:
    """Every key again: the first answer, and nothing is written; a refusal stays one when its reason is gone."""
    later = await old.parts.identity.sign_up("later", "later@example.org", "the pass phrase of later 7")
    await old.parts.ledger.open_account(later.id, "EUR")
    await all_again(old, lambda verb: verb == "batch")  # 0.1.0 kept no receipt of a refused ATOMIC batch itself
    before = await old.digest()
    await all_again(old, lambda verb: verb not in STRIPE_VERBS)
    assert await old.digest() == before


def calls(old: Old, wanted: Callable[[str], bool]) -> list[Plain]:
    """The keyed calls of the old ledger by verb."""
    return [call for call in old.manifest["calls"] if wanted(call["verb"])]


async def all_again(old: Old, wanted: Callable[[str], bool]) -> None:
    """Use old keys again, as they were used: the answers are the same. Raises AssertionError."""
    asked = calls(old, wanted)
    words = [[call[name] for name in ("verb", "actor", "key", "values")] for call in asked]
    answers = await asyncio.gather(*(ask(old.parts, *given) for given in words))
    for call, answer in zip(asked, answers, strict=True):
        assert (answer.said, answer.replayed is not False) == (call["said"], True), call


async def keys_of_other_inputs_are_refused(old: Old) -> None:
    """An old key stands for its input alone, whatever verb it was used for."""
    before = await old.digest()
    account = AccountId(next(iter(old.manifest["balances"])))
    asked = [
        old.parts.ledger.deposit(call["actor"], call["key"], account, 1, "EUR", reference="another input")
        for call in calls(old, lambda verb: verb != "batch")
    ]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {IdempotencyKeyReused}
    assert await old.digest() == before


async def people_come_back(old: Old) -> None:
    """Passwords and live sessions work; a session that had ended stays ended."""
    identity = old.parts.identity
    for session in old.manifest["sessions"]:
        if session["is_live"]:
            assert (await identity.authenticate(session["token"])).user_id == session["user"]
        else:
            with pytest.raises(Unauthenticated):
                await identity.authenticate(session["token"])
    logins = old.manifest["logins"].items()
    log_ins = [identity.log_in(f"{name}@example.org", password, SessionKind.COOKIE) for name, password in logins]
    begun = await asyncio.gather(*log_ins)
    assert [one.user.id for one in begun] == [old.manifest["users"][name] for name, _ in logins]
    with pytest.raises(InvalidCredentials):
        await identity.log_in("dana", "the pass phrase of dana 7", SessionKind.COOKIE)  # she has chosen another since


async def flows_of_the_provider_are_found(old: Old) -> None:
    """The keys of top-ups and withdrawals stand for the same flow; what was still to be done goes on."""
    await all_again(old, lambda verb: verb in STRIPE_VERBS)


async def sweeps_run(old: Old) -> None:
    """All that is due is done, without a fault; the merchant hears what it has not heard."""
    parts = old.parts
    for _ in range(3):
        old.later(days=1)
        await parts.store.recover(1_000)
        await parts.ledger.expire_due_holds()
        await parts.identity.sweep()
        await parts.payments.sweep()
        await parts.webhooks.sweep()
        await parts.webhooks.settle()
    assert parts.shops.told, "no event was due"
    assert await parts.store.list_due("hold", clock_of(old.manifest), 10) == []
    intents = parts.fake.state.of_kind("payment_intent")
    paid_in_part = {one["id"] for one in intents if one["amount_received"] not in (0, one["amount"])}
    found = (await parts.payments.reconciler.run(settle=False)).differences
    assert {one.about for one in found if not one.in_flight} == paid_in_part  # that waits for an operator
    await old.clean()


async def new_payments_work(old: Old) -> None:
    """Each old user pays another one, or is refused for a reason that an old one has."""
    numbers = count(1)
    people = [(old.manifest["users"][name], old.manifest["accounts"][name]) for name in ("ann", "bob", "cleo", "dana")]
    for (payer, source), (_, target) in zip(people, [*people[1:], people[0]], strict=True):
        key = f"new-{next(numbers)}"
        await old.parts.ledger.deposit(OPERATOR, key, source, 500, "EUR")
        values = {"amount_minor": 100, "currency": "EUR", "source": source, "to": {"account_id": target}}
        first, second = [await ask(old.parts, "transfer", payer, key, values) for _ in range(2)]
        assert (first.replayed, second.replayed) == (False, True)
        assert first.said == second.said
    await old.clean()


async def closed_accounts_have_successors(old: Old) -> None:
    """Who closed an account with an older version opens another in its currency, and is paid there by name."""
    ledger, finn = old.parts.ledger, UserId(old.manifest["users"]["finn"])
    for number in range(2):
        account = await ledger.open_account(finn, "EUR")
        values = {"amount_minor": 100, "currency": "EUR", "source": old.manifest["accounts"]["ann"]}
        sent = await ask(
            old.parts,
            "transfer",
            old.manifest["users"]["ann"],
            f"finn-{number}",
            {**values, "to": {"username": "finn"}},
        )
        assert not sent.replayed
        await settle(old.parts.store)
        await ledger.withdraw(OPERATOR, f"finn-out-{number}", account.id, 100, "EUR")
        await ledger.set_account_status(finn, account.id, AccountStatus.CLOSED)
    await old.clean()


@pytest.mark.parametrize("release", RELEASES)
def test_old_ledgers_are_what_they_are_to_be(release: str) -> None:
    """All backends, all verbs, many states, and with Redis a credit that nobody had applied when it was left."""
    folder = FOLDER / release
    assert {entry.name for entry in folder.iterdir()} == {*BACKENDS, "manifest.json"}
    nodes = [unpacked(path) for path in (folder / "redis-3").iterdir()]
    assert sum(node.count(b"INSERT INTO public.intents ") for node in nodes) > 0
    assert all(node.count(b"INSERT INTO public.accounts ") > 0 for node in nodes)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2**19
