"""A preview says what the payment then does: the same amounts, or the same refusal; and it changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Person, new_key, settle
from wallet_gql.domain.changes import Scope
from wallet_gql.domain.ids import OPERATOR, AccountId, UserId, make_account_id
from wallet_gql.domain.model import AccountStatus
from wallet_gql.runtime import Wallet
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.asyncio(loop_scope="module")

ERROR: Final = """__typename ... on WalletError { code message retryable }
  ... on InvalidInput { problems { path code } }
  ... on InsufficientFunds { available { minorUnits } required { minorUnits } }"""
PREVIEW: Final = f"""query($input: PreviewInput!) {{ preview(input: $input) {{ refusal {{ {ERROR} }}
  amount {{ minorUnits currency }} fee {{ minorUnits }} received {{ minorUnits }} remaining {{ minorUnits }} }} }}"""
PAYER: Final = "fromAccount { available { minorUnits } }"
PAID: Final = "{ amount { minorUnits currency } fee { minorUnits } }"
TRANSFER: Final = f"""mutation($input: TransferInput!) {{ transfer(input: $input) {{ {ERROR}
  ... on TransferSuccess {{ {PAYER} paid: transfer {PAID} }} }} }}"""
PAYMENT: Final = f"""mutation($input: PayMerchantInput!) {{ payMerchant(input: $input) {{ {ERROR}
  ... on PayMerchantSuccess {{ {PAYER} paid: payment {PAID}
    hold {{ id amount {{ minorUnits currency }} }} }} }} }}"""
HOLD: Final = f"""mutation($input: PlaceHoldInput!) {{ placeHold(input: $input) {{ {ERROR}
  ... on PlaceHoldSuccess {{ {PAYER} hold {{ id amount {{ minorUnits currency }} }} }} }} }}"""
CAPTURE: Final = """mutation($input: CaptureHoldInput!) { captureHold(input: $input) {
  ... on CaptureHoldSuccess { transfer { fee { minorUnits } } } } }"""
STATE: Final = """{ viewer { accounts { id state sequence posted { minorUnits } held { minorUnits } } } }"""


@dataclass(frozen=True)
class Town:
    """People of every kind that a payment may meet."""

    wallet: Wallet
    people: dict[str, Person]
    dollars: AccountId
    """Ann's account in another currency."""

    def input(self, case: dict[str, Any]) -> dict[str, Any]:
        """The input of a preview."""
        source = case.get("from", self.people["ann"].account_id)
        amount = {"minorUnits": case.get("minor", "100"), "currency": case.get("currency", "EUR")}
        account_id = self.dollars if source == "dollars" else source
        hold = {"hold": {"expiresInSeconds": case["hold"]}} if "hold" in case else {}
        return {"fromAccountId": account_id, "to": self._to(case), "amount": amount} | hold

    def _to(self, case: dict[str, Any]) -> dict[str, Any]:
        kind, name = case.get("to", ("username", "bob"))
        known = self.people.get(name)
        if kind == "accountId":
            return {kind: known.account_id if known else name}
        return {kind: known.username if known else name}

    async def pay(self, given: dict[str, Any]) -> Any:
        """The answer of the mutation with the same input."""
        token, to = self.people["ann"].token, given["to"]
        keyed = {**given, "idempotencyKey": new_key()}
        if "hold" in given and "merchant" not in to:
            seconds = keyed.pop("hold")["expiresInSeconds"]
            return await ask(self.wallet, token, HOLD, {"input": {**keyed, "expiresInSeconds": seconds}})
        if "merchant" in to:
            del keyed["to"]
            return await ask(self.wallet, token, PAYMENT, {"input": {**keyed, "merchant": to["merchant"]}})
        return await ask(self.wallet, token, TRANSFER, {"input": keyed})

    async def captured(self, given: dict[str, Any], hold_id: str) -> Any:
        """The fee when the payee has taken a hold."""
        taker = self.people["shop" if "merchant" in given["to"] else "bob"]
        taking = {"input": {"holdId": hold_id, "idempotencyKey": new_key()}}
        return (await ask(self.wallet, taker.token, CAPTURE, taking))["transfer"]["fee"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A wallet that charges for transfers, and a merchant who pays another fee."""
    async with wallet_in(tmp_path_factory.mktemp("town"), transfer_fee_basis_points=100) as wallet:
        people = {name: await settle(wallet, 1_000) for name in ("ann", "bob", "shop", "gone", "cold")}
        await wallet.merchants.register(UserId(people["shop"].id), "The Shop")
        await wallet.merchants.set_fee(UserId(people["shop"].id), 250)
        ann = UserId(people["ann"].id)
        dollars = await wallet.ledger.open_account(ann, "USD")
        gone = people["gone"]
        await wallet.ledger.transfer(
            UserId(gone.id), new_key(), source=AccountId(gone.account_id), to=To(username=people["bob"].username),
            amount_minor=1_000, currency="EUR",
        )  # fmt: skip
        for name, status in (("gone", AccountStatus.CLOSED), ("cold", AccountStatus.FROZEN)):
            await wallet.ledger.set_account_status(OPERATOR, AccountId(people[name].account_id), status)
        yield Town(wallet, people, dollars.id)


UNKNOWN: Final = make_account_id(7, 1, 1)
CASES: Final[dict[str, dict[str, Any]]] = {
    "a transfer": {},
    "to an account": {"to": ("accountId", "bob")},
    "to a frozen account, which receives": {"to": ("accountId", "cold")},
    "to a merchant": {"to": ("merchant", "shop")},
    "by a hold": {"hold": 60},
    "by a hold to a merchant": {"hold": 60, "to": ("merchant", "shop")},
    "of all there is": {"minor": "all"},
    "by a hold of too much": {"hold": 60, "minor": "1000000"},
    "by a hold of no time": {"hold": 0, "to": ("merchant", "shop")},
    "of too much": {"minor": "1000000"},
    "of too much to a merchant": {"minor": "1000000", "to": ("merchant", "shop")},
    "to oneself": {"to": ("username", "ann")},
    "to nobody": {"to": ("username", "nobody-of-that-name")},
    "to no account": {"to": ("accountId", UNKNOWN)},
    "to no merchant": {"to": ("merchant", "bob")},
    "to somebody who has gone": {"to": ("username", "gone")},
    "from another currency": {"from": "dollars"},
    "in a currency that the payee lacks": {"from": "dollars", "currency": "USD"},
    "from somebody else's account": {"from": UNKNOWN},
    "of nothing": {"minor": "0"},
    "of nothing to a merchant": {"minor": "0", "to": ("merchant", "shop")},
    "with everything wrong": {"from": "x", "minor": "-1", "currency": "EURO", "to": ("accountId", "y")},
}
"""Payments that go through, and one for each reason why one does not."""


@pytest.mark.parametrize("name", CASES)
async def test_a_preview_says_what_the_payment_does(town: Town, name: str) -> None:
    """Amounts, fee and what remains are those of the payment; a refusal is the very same answer."""
    token, case = town.people["ann"].token, dict(CASES[name])
    before = await ask(town.wallet, token, STATE)
    if case.get("minor") == "all":
        case["minor"] = before["accounts"][0]["posted"]["minorUnits"]
    given = town.input(case)
    told = await ask(town.wallet, token, PREVIEW, {"input": given})
    assert await ask(town.wallet, token, STATE) == before
    done = await town.pay(given)
    if "fromAccount" not in done:
        assert told == {"refusal": done, "amount": None, "fee": None, "received": None, "remaining": None}
        return
    assert told["refusal"] is None
    hold = done.get("hold")
    assert told["amount"] == (hold["amount"] if hold else given["amount"])
    assert told["fee"] == (await town.captured(given, hold["id"]) if hold else done["paid"]["fee"])
    assert told["remaining"] == done["fromAccount"]["available"]
    net_minor = int(told["amount"]["minorUnits"]) - int(told["fee"]["minorUnits"])
    assert told["received"] == {"minorUnits": str(net_minor)}
    fee_basis_points = 250 if "merchant" in given["to"] else 100
    assert int(told["fee"]["minorUnits"]) == int(given["amount"]["minorUnits"]) * fee_basis_points // 10_000


async def test_a_preview_uses_up_no_key_and_writes_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends no command to the store, whatever it says, and no key is known afterwards."""
    ann, execute, scopes = town.people["ann"], town.wallet.store.execute, list[Scope]()

    async def noting(scope: Scope, *rest: Any, **options: Any) -> Any:
        scopes.append(scope)
        return await execute(scope, *rest, **options)

    monkeypatch.setattr(town.wallet.store, "execute", noting)
    for case in CASES.values():
        if case.get("minor") != "all":
            await ask(town.wallet, ann.token, PREVIEW, {"input": town.input(case)})
    assert [scope for scope in scopes if scope.accounts or scope.credits or scope.receipts] == []
    known = 'query { transferByIdempotencyKey(key: "preview") { operation } }'
    assert await ask(town.wallet, ann.token, known) is None
