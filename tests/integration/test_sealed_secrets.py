"""Merchants' webhook secrets at rest: encrypted in every store and export if there are keys, and rotated with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from pydantic import SecretStr

from tests.integration._server import run_cli
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import export_lines
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.domain.ids import OPERATOR, UserId
from wallet_gql.domain.merchants import SECRET_PREFIX
from wallet_gql.integrations.webhooks.deliveries import Webhooks
from wallet_gql.integrations.webhooks.events import Event, NotSent
from wallet_gql.integrations.webhooks.sealing import PREFIX, Sealer
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.books import scan_all
from wallet_gql.verbs.ledger import utc_now

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


class Shop:
    """A wallet of a merchant, opened with some keys; what its server was told, and by which secrets it was signed."""

    def __init__(self, path: Path) -> None:
        self.storage = f"sqlite:///{path / 'wallet.db'}"
        self.secret = ""
        self.user = UserId("")
        self.signed: list[Sequence[str]] = []

    async def begin(self, *keys: str) -> None:
        """Sign up and register."""
        async with self.open(*keys) as wallet:
            self.user = (await wallet.identity.sign_up("shop", "shop@example.org", "plain maroon bicycle")).id
            made = await wallet.merchants.register(self.user, "Shop", "https://192.0.2.1/hook")
            self.secret = made.secret

    def open(self, *keys: str) -> Any:
        """Open the wallet with these keys, without sweeps."""
        return open_wallet(
            load_settings(storage=self.storage, secret_keys=SecretStr(" ".join(keys)), webhook_private_targets=True),
            sweeps=False,
        )

    async def tell(self, wallet: Wallet) -> int:
        """Something is paid, and told by a sender that notes its secrets."""

        async def send(url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
            del url, event, turn
            self.signed.append(secrets)
            return 200

        accounts = await wallet.ledger.accounts(self.user)
        account = accounts[0] if accounts else await wallet.ledger.open_account(self.user, "EUR")
        key = f"pay-{len(self.signed)}-{account.sequence}"
        await wallet.ledger.deposit(OPERATOR, key, account.id, 100, "EUR")
        return await Webhooks(wallet.store, send, clock=utc_now, unseal=wallet.webhooks.unseal).tell(self.user)

    async def stored(self, wallet: Wallet) -> str:
        """Everything that is stored, and everything that is exported."""
        records = await scan_all(wallet.store, "record")
        return "".join([*map(repr, records), *[line async for line in export_lines(wallet.store)]])


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Nothing is open yet."""
    yield Shop(tmp_path)


async def test_a7_sealed_at_rest_and_in_exports(shop: Shop) -> None:
    """Neither the store's file nor an export holds the secret; it signs all the same, as does its successor."""
    await shop.begin(OLD)
    async with shop.open(OLD) as wallet:
        again = (await wallet.merchants.rotate_secret(shop.user)).secret
        text = await shop.stored(wallet)
        for secret in (shop.secret, again):
            assert secret.startswith(SECRET_PREFIX)
            assert secret not in text
            assert secret.removeprefix(SECRET_PREFIX) not in text
        assert text.count(PREFIX) == 4
        assert await shop.tell(wallet) == 1
        assert list(shop.signed[-1]) == [again, shop.secret]
        assert (await audit(wallet.store)).clean
    files = b"".join(file.read_bytes() for file in Path(shop.storage.removeprefix("sqlite:///")).parent.iterdir())
    assert shop.secret.encode() not in files
    assert again.encode() not in files


async def test_without_keys_they_are_in_clear(shop: Shop) -> None:
    """As `SECURITY.md` says; a wallet that gets keys later goes on signing with them."""
    await shop.begin()
    async with shop.open() as wallet:
        assert shop.secret in await shop.stored(wallet)
    async with shop.open(NEW) as wallet:
        assert await shop.tell(wallet) == 1
        assert list(shop.signed[-1]) == [shop.secret]


@pytest.mark.parametrize("before", [(), (OLD,), (OLD, OTHER)], ids=["clear", "one key", "two keys"])
async def test_a7_rotating_the_keys(shop: Shop, before: tuple[str, ...]) -> None:
    """A new key in front, resealed, the old one left out: the secret stays the same, and nothing old opens it."""
    await shop.begin(*before)
    async with shop.open(NEW, *before) as wallet:
        reseal = Sealer((NEW, *before)).reseal
        assert await shop.tell(wallet) == 1
        assert await wallet.merchants.reseal(shop.user, reseal)
        assert not await wallet.merchants.reseal(shop.user, reseal)
        assert shop.secret not in await shop.stored(wallet)
    async with shop.open(NEW) as wallet:
        assert await shop.tell(wallet) == 1
        assert [list(secrets) for secrets in shop.signed] == [[shop.secret]] * 2
        found = await wallet.merchants.merchant(shop.user)
        assert found is not None
        with pytest.raises(NotSent):
            Sealer((*before, OTHER)).open(found.secrets[0].text)


@pytest.mark.parametrize("keys", [(), (OTHER,), (NEW, OTHER)], ids=["none", "another", "two others"])
async def test_a_lost_key_loses_no_event(shop: Shop, keys: tuple[str, ...]) -> None:
    """Without the key nothing is sent, and that is no failure of the merchant's; with it again, all is told."""
    await shop.begin(OLD)
    async with shop.open(*keys) as wallet:
        assert await shop.tell(wallet) == 0
        delivery = await wallet.webhooks.delivery(shop.user)
        assert delivery is not None
        assert (shop.signed, delivery.attempts, delivery.dead) == ([], 0, 0)
        with pytest.raises(NotSent, match="WALLET_SECRET_KEYS"):
            await wallet.merchants.reseal(shop.user, Sealer(keys).reseal)
    async with shop.open(NEW, OLD) as wallet:
        await wallet.webhooks.replay(shop.user, (await wallet.ledger.accounts(shop.user))[0].id, 1)
        assert await shop.tell(wallet) == 2


async def test_resealing_by_the_command_line(shop: Shop, tmp_path: Path) -> None:
    """It says how many were changed, and refuses without the key, without showing a secret."""
    await shop.begin(OLD)
    told: Final = {}
    for name, keys in {"first": f"{NEW} {OLD}", "again": f"{NEW} {OLD}", "lost": OTHER}.items():
        told[name] = run_cli(tmp_path, "merchants", "reseal", "--json", storage=shop.storage, secret_keys=keys)
        assert shop.secret not in told[name].stdout + told[name].stderr
        assert not any(key in told[name].stdout + told[name].stderr for key in (OLD, NEW, OTHER))
    assert [json.loads(told[name].stdout)["changed"] for name in ("first", "again")] == [1, 0]
    assert (told["lost"].returncode, told["lost"].stderr.count("\n")) == (2, 1)
    assert "WALLET_SECRET_KEYS" in told["lost"].stderr


@pytest.mark.parametrize(
    "text",
    ["short", OLD[:-1], f"{OLD}A", OLD.replace(OLD[3], "+"), f"{OLD},{OLD}", "é" * 44],
    ids=["short", "cut", "longer", "another alphabet", "commas", "not ASCII"],
)
def test_keys_that_are_none(text: str) -> None:
    """They are refused at the start, with how to make one, and are not shown."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(secret_keys=SecretStr(text))
    assert "WALLET_SECRET_KEYS" in caught.value.message
    assert text not in caught.value.message
