"""Merchants: fees, splits and refunds, as rules and over a store, with mutants that the tests detect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import example, given
from hypothesis import strategies as st

from wallet_gql.domain import merchants as domain
from wallet_gql.domain import rules
from wallet_gql.domain.changes import Changes, Scope, Snapshot
from wallet_gql.domain.commands import ReverseTransfer
from wallet_gql.domain.errors import (
    Contended,
    IdempotencyKeyReused,
    InsufficientFunds,
    InvalidInput,
    MerchantExists,
    NotAMerchant,
    NotPermitted,
    NotReversible,
    PayeeNotFound,
    ReversalExceedsOriginal,
    SameAccount,
    TransferNotFound,
    Unauthenticated,
)
from wallet_gql.domain.ids import TransferId, make_transfer_id, make_user_id, system_account
from wallet_gql.domain.model import FEES, HoldState, Record, Transfer, TransferKind
from wallet_gql.domain.users import username_claim
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import CURRENCY, Person, World
from wallet_gql.verbs.ledger import To
from wallet_gql.verbs.merchants import Merchants, Paid, Split

shares = st.lists(st.integers(1, 999), max_size=domain.SPLITS_MAX)
amounts = st.integers(1, 10**15)


class Town:
    """A payer, a merchant and two who share, each on a home of its own."""

    def __init__(self, world: World, people: Sequence[Person], merchants: Merchants) -> None:
        self.world = world
        self.payer, self.shop, self.ann, self.bob = people
        self.merchants = merchants
        self.name = "shop"

    async def pay(self, amount_minor: int, *splits: int, key: str | None = None, **more: Any) -> Paid:
        """Pay the shop; the first split goes to Ann, the second to Bob."""
        people = (self.ann, self.bob)
        shared = [Split(To(person.account), points) for person, points in zip(people, splits, strict=False)]
        given: dict[str, Any] = {"source": self.payer.account, "merchant": self.name, "currency": CURRENCY, **more}
        used = key or self.world.key()
        return await self.merchants.pay(self.payer.id, used, amount_minor=amount_minor, splits=shared, **given)

    async def balances(self) -> list[int]:
        """What the four have."""
        return [(await self.world.balance(person))[0] for person in (self.payer, self.shop, self.ann, self.bob)]

    async def fees(self) -> int:
        """What the wallet earned."""
        books = await self.world.books()
        account = system_account(FEES, CURRENCY)
        lines = (line for item in books.journal for line in item.system_entries if line.account_id == account)
        return sum(line.amount_minor for line in lines)


async def town_in(world: World, fee: int = 250) -> Town:
    """The people, and the shop with its name and its fee."""
    people = await world.people(4, 10_000)
    merchants = Merchants(world.ledger, fee_basis_points=fee)
    town = Town(world, people, merchants)
    claim = username_claim(town.name)
    await world.put(
        Record(claim.kind, claim.id, claim.slot, town.shop.id, 1, {"user": town.shop.id, "confirmed": True})
    )
    await merchants.register(town.shop.id, "The  Shop")
    return town


@pytest_asyncio.fixture(params=["memory", "memory-3", "sqlite"])
async def town(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Town]:
    """On one node, on three, and on disk; the books are audited at the end."""
    async with World(harness_for(request.param), tmp_path) as world:
        yield await town_in(world)


# Sharing out


def check_parts(amount_minor: int, splits: Sequence[int], parts: Sequence[int]) -> None:
    """Raise AssertionError unless they are the amount, each rounded down, or up for the largest that lose by it."""
    all_shares = [domain.WHOLE_BASIS_POINTS - sum(splits), *splits]
    assert sum(parts) == amount_minor
    for part, share in zip(parts, all_shares, strict=True):
        assert abs(part * domain.WHOLE_BASIS_POINTS - amount_minor * share) < domain.WHOLE_BASIS_POINTS
    ordered = sorted(zip(all_shares, parts, strict=True), key=lambda pair: -pair[0])
    rounded = [(share, part) for share, part in ordered if amount_minor * share % domain.WHOLE_BASIS_POINTS]
    over = [part - amount_minor * share // domain.WHOLE_BASIS_POINTS for share, part in rounded]
    assert over == sorted(over, reverse=True)


@given(amounts, shares)
@example(150, [3_333, 2_667])
def test_parts_sum_to_the_amount(amount_minor: int, splits: list[int]) -> None:
    """Nothing is lost or made, and the remainder goes to the largest shares."""
    parts = rules.merchants.share_out(amount_minor, splits)
    check_parts(amount_minor, splits, parts)
    assert parts == rules.merchants.share_out(amount_minor, splits)


def test_the_remainder_by_example() -> None:
    """Two units are left over: the two largest shares get one each, the first of equals first."""
    assert rules.merchants.share_out(100, [3333, 3333]) == (34, 33, 33)
    assert rules.merchants.share_out(101, [3333, 3334]) == (34, 33, 34)
    assert rules.merchants.share_out(1, [5000]) == (1, 0)
    assert rules.merchants.share_out(7, []) == (7,)


def lost_remainder(amount_minor: int, splits: Sequence[int]) -> tuple[int, ...]:
    """A mutant: every part is rounded down, and the rest is nobody's."""
    all_shares = [domain.WHOLE_BASIS_POINTS - sum(splits), *splits]
    return tuple(amount_minor * share // domain.WHOLE_BASIS_POINTS for share in all_shares)


def remainder_to_the_last(amount_minor: int, splits: Sequence[int]) -> tuple[int, ...]:
    """A mutant: all of the remainder goes to the last split."""
    parts = list(lost_remainder(amount_minor, splits))
    return (*parts[:-1], parts[-1] + amount_minor - sum(parts))


@pytest.mark.parametrize("mutant", [lost_remainder, remainder_to_the_last])
def test_a_wrong_remainder_is_convicted(mutant: Callable[[int, Sequence[int]], tuple[int, ...]]) -> None:
    """The check of the parts finds a rule that loses the remainder, and one that gives it to the wrong one."""
    with pytest.raises(AssertionError):
        check_parts(103, [3333, 3333, 1], mutant(103, [3333, 3333, 1]))


def test_splits_have_a_shape() -> None:
    """Shares above zero that leave the merchant something, ten at most."""
    domain.check_splits([])
    domain.check_splits([9_999])
    for bad in ([0], [-1], [10_000], [5_000, 5_000], [1] * 11):
        with pytest.raises(InvalidInput):
            domain.check_splits(bad)


# Paying


async def check_fee(town: Town) -> None:
    """Raise AssertionError unless the fee of 2.5 % is rounded down, and kept from the merchant's part."""
    paid = await town.pay(1_039)
    assert paid.payment.result.kind is TransferKind.PAYMENT
    assert (paid.payment.result.amount_minor, paid.payment.result.fee_minor) == (1_039, 25)
    assert await town.balances() == [8_961, 11_014, 10_000, 10_000]
    assert await town.fees() == 25


async def test_a_payment_and_its_fee(town: Town) -> None:
    """The fee is kept from what the merchant gets; the same key pays once, and replays."""
    await check_fee(town)
    first = await town.pay(100, key="again")
    second = await town.pay(100, key="again")
    assert (first.payment.replayed, second.payment.replayed) == (False, True)
    assert second.payment.result == first.payment.result
    with pytest.raises(IdempotencyKeyReused):
        await town.pay(101, key="again")


async def test_a_fee_in_the_wrong_direction_is_convicted(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the fee finds one that is rounded up."""
    monkeypatch.setattr(rules.merchants, "fee_of", lambda amount_minor, points: -(-amount_minor * points // 10_000))
    with pytest.raises(AssertionError):
        await check_fee(town)


async def test_a_split_payment(town: Town) -> None:
    """One debit in one commit; the fee is the merchant's alone, the splits are transfers of their own; it replays."""
    paid = await town.pay(1_001, 1_000, 3_333, key="split")
    assert paid.payment.result.amount_minor == 568
    assert paid.splits is not None
    assert [one.amount_minor for one in paid.splits] == [100, 333]
    assert {one.kind for one in paid.splits} == {TransferKind.SPLIT}
    assert await town.balances() == [8_999, 10_000 + 568 - 25, 10_100, 10_333]
    again = await town.pay(1_001, 1_000, 3_333, key="split")
    assert (again.payment.replayed, again.splits) == (True, paid.splits)
    with pytest.raises(IdempotencyKeyReused):
        await town.pay(1_001, 1_000, 3_334, key="split")


@pytest.mark.parametrize(
    ("amount_minor", "splits", "more", "error"),
    [
        (10_001, (5_000,), {}, InsufficientFunds),
        (10_001, (), {}, InsufficientFunds),
        (1, (5_000,), {}, InvalidInput),
        (100, (9_800,), {}, InvalidInput),  # the merchant's 2 are not more than the fee of 2
        (100, (), {"merchant": "nobody"}, PayeeNotFound),
        (100, (), {"merchant": "Not a name"}, PayeeNotFound),
    ],
)
async def test_what_is_refused_moves_nothing(
    town: Town, amount_minor: int, splits: tuple[int, ...], more: dict[str, Any], error: type[Exception]
) -> None:
    """Not one part of it moves."""
    with pytest.raises(error):
        await town.pay(amount_minor, *splits, **more)
    assert await town.balances() == [10_000] * 4


async def test_who_cannot_be_paid_so(town: Town) -> None:
    """A user who is no merchant, oneself, the merchant as a split, and oneself as a split."""
    world, payer = town.world, town.payer
    claim = username_claim("payer")
    await world.put(Record(claim.kind, claim.id, claim.slot, payer.id, 1, {"user": payer.id, "confirmed": True}))
    pay: dict[str, Any] = {"amount_minor": 100, "currency": CURRENCY}
    with pytest.raises(NotAMerchant):
        await town.pay(100, merchant="payer")
    with pytest.raises(SameAccount):
        await town.merchants.pay(town.shop.id, world.key(), source=town.shop.account, merchant="shop", **pay)
    for person, error in ((town.shop, InvalidInput), (payer, SameAccount)):
        shared = [Split(To(person.account), 100)]
        with pytest.raises(error):
            await town.merchants.pay(payer.id, world.key(), source=payer.account, merchant="shop", splits=shared, **pay)
    assert await town.balances() == [10_000] * 4


# By a hold


async def test_hold_then_capture_has_the_agreed_fee(town: Town) -> None:
    """The fee is the one in force when the hold was placed, whoever captures in whatever way, and however much."""
    held = await town.merchants.hold(
        town.payer.id, "hold", source=town.payer.account, merchant="shop", amount_minor=1_000, currency=CURRENCY
    )
    await town.merchants.set_fee(town.shop.id, 0)
    captured = await town.world.ledger.capture_hold(town.shop.id, "take", held.result.id, amount_minor=600)
    assert (captured.result.amount_minor, captured.result.fee_minor) == (600, 15)
    hold = await town.world.ledger.hold(town.shop.id, held.result.id)
    assert hold.state is HoldState.CAPTURED
    assert await town.balances() == [9_400, 10_585, 10_000, 10_000]
    refunded = await town.merchants.refund(town.shop.id, "refund", captured.result.id)
    assert refunded.result.amount_minor == 600
    with pytest.raises(PayeeNotFound):
        await town.merchants.hold(
            town.payer.id, "other", source=town.payer.account, merchant="nobody", amount_minor=1, currency=CURRENCY
        )


# Refunds


async def check_refunds(town: Town) -> None:
    """Raise AssertionError unless refunds of a split payment add up to at most its total, by any way."""
    paid = await town.pay(1_000, 2_000, 1_000)
    payment, shop = paid.payment.result, town.shop
    refund = town.merchants.refund
    assert (await refund(shop.id, "r1", payment.id, amount_minor=800)).result.amount_minor == 800
    with pytest.raises(ReversalExceedsOriginal):
        await refund(shop.id, "r2", payment.id, amount_minor=201)
    with pytest.raises(ReversalExceedsOriginal):
        await town.world.ledger.reverse_transfer(shop.id, "r3", payment.id, amount_minor=201)
    last = await refund(shop.id, "r4", payment.id)
    assert (last.result.amount_minor, last.result.credit_account_id) == (200, town.payer.account)
    with pytest.raises(ReversalExceedsOriginal):
        await refund(shop.id, "r5", payment.id)
    assert (await refund(shop.id, "r1", payment.id, amount_minor=800)).replayed is True
    assert await town.balances() == [10_000, 10_000 + 700 - 25 - 1_000, 10_200, 10_100]


async def test_refunds_add_up_to_the_total(town: Town) -> None:
    """The merchant of record refunds everything; what comes after is refused."""
    await check_refunds(town)


async def test_a_refund_above_the_original_is_convicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of refunds finds a rule that looks at each refund alone, and so does the look at all the books."""
    sound = rules.reverse_transfer

    def forgetful(snapshot: Snapshot, command: ReverseTransfer, now: datetime, **kinds: Any) -> Changes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Snapshot, "reversed_minor", lambda _self, _transfer_id: 0)
            return sound(snapshot, command, now, **kinds)

    monkeypatch.setattr(rules, "reverse_transfer", forgetful)
    world = await World(harness_for("memory"), tmp_path).__aenter__()
    town = await town_in(world)
    with pytest.raises(pytest.fail.Exception):
        await check_refunds(town)
    with pytest.raises(AssertionError, match="were reversed, it moved 1000"):
        await world.__aexit__(None, None, None)


async def test_splits_return_to_the_merchant(town: Town) -> None:
    """Who got a split sends it back to the merchant, up to what it was; nobody else can."""
    paid = await town.pay(1_000, 2_000)
    assert paid.splits is not None
    (split,) = paid.splits
    reverse = town.world.ledger.reverse_transfer
    back = await reverse(town.ann.id, "b1", split.id, amount_minor=150)
    assert (back.result.credit_account_id, back.result.reverses) == (town.shop.account, split.id)
    with pytest.raises(ReversalExceedsOriginal):
        await reverse(town.ann.id, "b2", split.id, amount_minor=51)
    for stranger in (town.bob, town.payer, town.shop):
        with pytest.raises((TransferNotFound, NotPermitted)):
            await reverse(stranger.id, "b3", split.id)
    with pytest.raises(NotReversible):
        await town.merchants.refund(town.ann.id, "b4", split.id)
    assert await town.balances() == [9_000, 10_000 + 800 - 25 + 150, 10_050, 10_000]


async def test_only_the_merchant_refunds(town: Town) -> None:
    """The payer may not, strangers learn nothing, and what is no payment is not refunded."""
    paid = await town.pay(1_000)
    with pytest.raises(NotPermitted):
        await town.merchants.refund(town.payer.id, "r1", paid.payment.result.id)
    with pytest.raises(TransferNotFound):
        await town.merchants.refund(town.ann.id, "r2", paid.payment.result.id)
    plain = await town.world.pay(town.payer, town.shop, 100)
    with pytest.raises(NotReversible):
        await town.merchants.refund(town.shop.id, "r3", plain.result.id)
    await town.world.pay(town.shop, town.ann, 10_000 + 975 + 100)
    with pytest.raises(InsufficientFunds):
        await town.merchants.refund(town.shop.id, "r4", paid.payment.result.id)


async def test_a_refund_before_the_credit_has_arrived(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment that is decided and has not reached the merchant's node is no refusal: the same key refunds later."""
    payment = (await town.pay(1_000)).payment.result
    known = Snapshot.transfer

    def transfer(self: Snapshot, transfer_id: TransferId) -> Transfer | None:
        at_the_shop = isinstance(self._scope, Scope) and self._scope.home == town.shop.slot
        return None if at_the_shop else known(self, transfer_id)

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "transfer", transfer)
        for _ in range(2):
            with pytest.raises(Contended):
                await town.merchants.refund(town.shop.id, "early", payment.id)
    done = await town.merchants.refund(town.shop.id, "early", payment.id)
    assert (done.replayed, done.result.amount_minor) == (False, 1_000)
    with pytest.raises(TransferNotFound):
        await town.merchants.refund(town.shop.id, "unknown", make_transfer_id(town.payer.slot, 1, 1))


async def test_concurrent_refunds_and_payments(town: Town) -> None:
    """Fifty refunds at once refund the total, once; fifty duplicates of a split payment pay once."""
    paid = await town.world.together(town.pay(1_000, 2_000, key="same") for _ in range(50))
    assert len({one.payment.result.id for one in paid}) == 1
    payment_id = paid[0].payment.result.id
    refunds = (town.merchants.refund(town.shop.id, f"r{n}", payment_id, amount_minor=100) for n in range(50))
    outcomes = await town.world.together(refunds)
    assert sum(isinstance(one, ReversalExceedsOriginal) for one in outcomes) == 40
    assert (await town.balances())[0] == 10_000


# Who is a merchant


async def test_registering(town: Town) -> None:
    """Once for each user; names are tidied; secrets are not in any repr; rotation leaves two live."""
    merchants, shop = town.merchants, town.shop
    found = await merchants.find("SHOP")
    assert found is not None
    assert (found.name, found.fee_basis_points, found.webhook_url) == ("The Shop", 250, None)
    with pytest.raises(MerchantExists):
        await merchants.register(shop.id, "Again")
    with pytest.raises(Unauthenticated):
        await merchants.register(make_user_id(1, 1), "x")
    first = found.live_secrets(town.world.clock())
    rotated = await merchants.rotate_secret(shop.id)
    assert rotated.merchant.live_secrets(town.world.clock()) == (rotated.secret, *first)
    again = await merchants.rotate_secret(shop.id)
    assert again.merchant.live_secrets(town.world.clock()) == (again.secret, rotated.secret)
    town.world.clock.advance(24 * 3600 + 1)
    assert again.merchant.live_secrets(town.world.clock()) == (again.secret,)
    assert "whsec" not in repr(again.merchant)
    for bad in ("", " ", "x" * 81, "a\x00b"):
        with pytest.raises(InvalidInput):
            await merchants.update(shop.id, name=bad)
    with pytest.raises(InvalidInput):
        await merchants.set_fee(shop.id, 5_001)
    with pytest.raises(NotAMerchant):
        await merchants.update(town.ann.id, name="x")
    assert (await merchants.merchant(town.ann.id), await merchants.find("nobody")) == (None, None)
