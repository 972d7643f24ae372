"""Ledgers written by earlier releases: open the wallet on them, repeat a key, restore the files.

`tests/fixtures/write_ledger.py` writes them, `test_old_ledgers.py` reads them. A release's folder has a folder per
backend, with the ledger as the store kept it, and `manifest.json`: the wallet's answers at that time. All backends
answer alike, so they share one manifest.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from bson import json_util
from pymongo import MongoClient

from wallet_gql.domain.codec import encode, from_micros
from wallet_gql.domain.errors import Rejected, WalletError
from wallet_gql.domain.ids import UserId
from wallet_gql.identity import Identity, Passwords
from wallet_gql.integrations.stripe.api import StripeApi
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.stripe.payments import Payments, make_payments
from wallet_gql.integrations.stripe.topups import Started
from wallet_gql.integrations.stripe.withdrawals import Asked
from wallet_gql.integrations.webhooks.deliveries import Webhooks
from wallet_gql.integrations.webhooks.events import Event, SendFailed
from wallet_gql.storage import Store
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.ledger import Ledger, To
from wallet_gql.verbs.merchants import Merchants, Paid, Split

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "ledgers"
BACKENDS: Final = ("sqlite", "postgres", "postgres-3", "redis-3", "mongodb")
FEE_POINTS: Final = 50
"""What transfers cost in these ledgers, in 1/10,000."""

Plain = dict[str, Any]


class Shops:
    """The servers of merchants: each answers what `status` says; an answer that is no 2xx is a failure."""

    def __init__(self) -> None:
        self.status = 200
        self.told: list[tuple[str, str]] = []

    async def __call__(self, url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        """See `Sender`."""
        del turn
        assert secrets, "an event is not signed"
        self.told.append((url, event.id))
        if self.status != 200:
            raise SendFailed(f"HTTP status {self.status}")
        return 200


@dataclass(slots=True)
class Parts:
    """A whole wallet over a store, whose clock the caller moves."""

    store: Store
    ledger: Ledger
    merchants: Merchants
    identity: Identity
    payments: Payments
    webhooks: Webhooks
    shops: Shops
    fake: FakeStripe


@asynccontextmanager
async def wallet_on(
    store: Store,
    clock: Callable[[], datetime],
    entropy: Callable[[], int],
    fake: FakeStripe,
    passwords: Passwords | None = None,
) -> AsyncIterator[Parts]:
    """The wallet on an open store."""
    ledger = Ledger(store, clock=clock, entropy=entropy, transfer_fee_basis_points=FEE_POINTS)
    identity = Identity(store, clock=clock, passwords=passwords)
    api = StripeApi(fake.key, base_url=fake.url, timeout_seconds=5)
    payments = make_payments(Desk(store, clock, entropy), api, fake.secrets)
    shops = Shops()
    webhooks = Webhooks(store, shops, clock=clock, attempts_max=3)
    merchants = Merchants(ledger, fee_basis_points=150, entropy=lambda: entropy().to_bytes(32))
    try:
        yield Parts(store, ledger, merchants, identity, payments, webhooks, shops, fake)
    finally:
        await webhooks.aclose()
        await api.close()
        identity.passwords.close()


# Asking by key

Method = Callable[..., Awaitable[Any]]

VERBS: Final[dict[str, Callable[[Parts], Method]]] = {
    "transfer": lambda parts: parts.ledger.transfer,
    "batch": lambda parts: _batch_of(parts.ledger),
    "deposit": lambda parts: parts.ledger.deposit,
    "withdraw": lambda parts: parts.ledger.withdraw,
    "reverse": lambda parts: parts.ledger.reverse_transfer,
    "hold": lambda parts: parts.ledger.place_hold,
    "capture": lambda parts: parts.ledger.capture_hold,
    "void": lambda parts: parts.ledger.void_hold,
    "pay": lambda parts: parts.merchants.pay,
    "reserve": lambda parts: parts.merchants.hold,
    "refund": lambda parts: parts.merchants.refund,
    "top up": lambda parts: parts.payments.top_ups.request,
    "pay out": lambda parts: parts.payments.withdrawals.request,
}
"""The verbs that take a key."""

STRIPE_VERBS: Final = ("top up", "pay out")
"""Asking them again may go on with the flow."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb said, as JSON data; `replayed` is None of a refusal."""

    said: Any
    replayed: bool | None


async def ask(parts: Parts, verb: str, actor: str, key: str, values: Plain) -> Answer:
    """Use a key. Raises WalletError unless it is a remembered refusal."""
    try:
        return _answer(await VERBS[verb](parts)(actor, key, **_given(values)))
    except Rejected as error:
        if not error.remembered:
            raise
        return _answer(error)


def _given(values: Plain) -> Plain:
    """A verb's arguments of JSON data."""
    given = dict(values)
    if "to" in given:
        given["to"] = To(**given["to"])
    if "splits" in given:
        given["splits"] = [Split(To(**split["to"]), split["basis_points"]) for split in given["splits"]]
    return given


def _batch_of(ledger: Ledger) -> Method:
    async def run(actor: UserId, key: str, *, mode: str, items: Sequence[Plain]) -> Any:
        """Each item has a key of its own, which begins with the batch's."""
        asked = [BatchItem(f"{key}-{place}", **_given(item)) for place, item in enumerate(items)]
        return await transfer_batch(ledger, actor, asked, BatchMode(mode))

    return run


def _answer(result: Any) -> Answer:
    if isinstance(result, tuple):
        answers = [_answer(one) for one in result]
        return Answer([one.said for one in answers], all(one.replayed is not False for one in answers))
    if isinstance(result, WalletError):
        return Answer({"refused": result.code, "fields": getattr(result, "fields", {})}, None)
    if isinstance(result, Paid):
        assert result.splits is not None
        said = {"payment": encode(result.payment.result), "splits": [encode(split) for split in result.splits]}
        return Answer(said, result.payment.replayed)
    if isinstance(result, Started):
        return Answer({"top up": result.top_up.id}, result.replayed)
    if isinstance(result, Asked):
        return Answer({"withdrawal": result.withdrawal.id}, result.replayed)
    return Answer(encode(result.result), result.replayed)


# The books


async def settle(store: Store) -> None:
    """Let everything on its way between nodes arrive."""
    while True:
        await store.recover(1_000)
        flight: Counter[str] = Counter()
        for total in await store.totals():
            flight[total.currency] += total.clearing_minor
        if not any(flight.values()):
            return
        await asyncio.sleep(0.01)


# Files


def packed(path: Path, content: bytes) -> None:
    """Write a compressed file: the same content gives the same bytes."""
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def unpacked(path: Path) -> bytes:
    """What is in it."""
    return gzip.decompress(path.read_bytes())


def manifest_of(folder: Path) -> Plain:
    """What the wallet answered when the ledger was written."""
    found: Plain = json.loads((folder / "manifest.json").read_text())
    return found


def clock_of(manifest: Plain) -> datetime:
    """When the ledger was left."""
    return from_micros(manifest["left_at"])


async def restore(folder: Path, url: str) -> None:
    """Put the ledger of one backend where the empty one of `url` is."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        Path(urlsplit(url).path[1:]).write_bytes(unpacked(folder / "wallet.db.gz"))  # noqa: ASYNC240 - a small file
    elif scheme == "mongodb":
        await asyncio.to_thread(_restore_mongo, unpacked(folder / "ledger.jsonl.gz"), url)
    else:
        for name, node in postgres_nodes(url):
            await _restore_postgres(unpacked(folder / f"{name}.sql.gz").decode(), node)


def postgres_nodes(url: str) -> Iterator[tuple[str, str]]:
    """The names and URLs of the Postgres nodes in a storage URL."""
    for part in map(urlsplit, url.split(",")):
        if part.scheme == "postgres":
            yield dict(parse_qsl(part.query))["node"], part._replace(query="").geturl()


async def _restore_postgres(dump: str, url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.execute(dump)
    finally:
        await connection.close()


def _restore_mongo(dump: bytes, url: str) -> None:
    """A dump is, for each collection, a line of its options and indexes, then a line for each document."""
    options = json_util.CANONICAL_JSON_OPTIONS
    with MongoClient[Plain](url) as client:
        database = client.get_default_database()
        client.drop_database(database)
        collection = database["none"]
        for line in map(str, dump.decode().splitlines()):
            plain: Plain = json_util.loads(line, json_options=options)
            if "document" in plain:
                collection.insert_one(plain["document"])
                continue
            collection = database.create_collection(plain["collection"], **plain["options"])
            if plain["indexes"]:
                database.command({"createIndexes": collection.name, "indexes": plain["indexes"]})


# Stripe's stand-in


def stripe_state(fake: FakeStripe) -> Plain:
    """What the stand-in knows, as JSON data."""
    state = fake.state
    balances = [[*place, minor] for place, minor in state.balances.items()]
    listed = {"objects": state.objects, "movements": state.movements, "events": state.events, "count": state._count}
    return {**listed, "balances": balances, "accounts": sorted(state.accounts)}


def restore_stripe(fake: FakeStripe, kept: Plain) -> None:
    """Let it know that again."""
    state = fake.state
    state.objects, state.movements, state.events = kept["objects"], kept["movements"], kept["events"]
    state._count = kept["count"]
    state.accounts = set(kept["accounts"])
    state.balances = Counter({(account, currency): minor for account, currency, minor in kept["balances"]})
