"""No user can read or change anything by other users' ids. The cases are generated from the schema, for all fields.

Every argument and input field of type `ID` gets, from a stranger, each id of another user, and then ids that do not
exist. The answers must be the same, and nothing of the owner's may change.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import (
    GraphQLArgument,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
)

from tests.integration._graphql import SCHEMA, ask, execute, wallet_in
from tests.integration._server import Person, new_key, settle
from tests.integration._stripe import settings_of
from wallet_gql.domain.ids import (
    AccountId,
    HoldId,
    TransferId,
    UserId,
    make_account_id,
    make_hold_id,
    make_top_up_id,
    make_transfer_id,
    make_user_id,
    make_withdrawal_id,
    slot_of,
)
from wallet_gql.runtime import Wallet
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESSES: Final = {
    "Mutation.transfer(input.to.accountId)",
    "Mutation.transferBatch(input.items.to.accountId)",
    "Mutation.placeHold(input.to.accountId)",
    "Mutation.payMerchant(input.splits.to.accountId)",
    "Query.preview(input.to.accountId)",
}
"""An account's id is its address: whoever was told it may pay to it, and do nothing else with it."""

VARYING: Final = re.compile(
    r"(trf|hld|top|wdr)_[0-9a-f]{32}|pi_[0-9]+_secret_[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+\+00:00"
)

STATE: Final = """query($hold: ID!) { viewer { id email sessions(first: 100) { nodes { id } }
  accounts { id state posted { minorUnits } held { minorUnits } history(first: 100) { edges { cursor } } } }
  hold(id: $hold) { state captured { minorUnits } } }"""


def id_paths() -> Iterator[str]:
    """Every place of the schema that takes an id, such as `Mutation.transfer(input.fromAccountId)`."""
    for kind in SCHEMA.type_map.values():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                for argument_name, argument in field.args.items():
                    yield from (f"{kind.name}.{name}({path})" for path in _paths(argument_name, argument.type, ()))


def _paths(name: str, given: Any, inside: tuple[str, ...]) -> Iterator[str]:
    kind = get_named_type(given)
    if kind.name == "ID":
        yield name
    elif isinstance(kind, GraphQLInputObjectType) and kind.name not in inside:
        for field_name, field in kind.fields.items():
            yield from (f"{name}.{path}" for path in _paths(field_name, field.type, (*inside, kind.name)))


PATHS: Final = sorted(set(id_paths()))


@dataclass(frozen=True)
class Town:
    """An owner with something of everything, and a third person who deals with everybody."""

    wallet: Wallet
    fake: FakeStripe
    owner: Person
    third: Person
    fourth: Person
    ids: dict[str, str]
    """Everything of the owner's that has an id."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The owner's account, transfer, hold, key and session; no stranger is part of any."""
    with FakeStripe() as fake:
        async with wallet_in(tmp_path_factory.mktemp("town"), **settings_of(fake)) as wallet:
            yield await furnish(wallet, fake)


async def furnish(wallet: Wallet, fake: FakeStripe) -> Town:
    """Make the people, and something of everything for the owner."""
    owner, third, fourth = [await settle(wallet, balance) for balance in (1_000, 100_000, 0)]
    key, account_id = new_key(), AccountId(owner.account_id)
    pay: dict[str, Any] = {"source": account_id, "to": To(username=third.username), "currency": "EUR"}
    moved = await wallet.ledger.transfer(UserId(owner.id), key, amount_minor=10, **pay)
    held = await wallet.ledger.place_hold(UserId(owner.id), new_key(), amount_minor=20, **pay)
    (session,) = await wallet.identity.sessions(UserId(owner.id))
    ids = {"user": owner.id, "account": account_id, "transfer": moved.result.id, "hold": held.result.id}
    fake.state.fund(100_000, "EUR")
    await bank(wallet, fake, owner)
    top_up = await wallet.payments.top_ups.request(UserId(owner.id), new_key(), account_id, 100, "EUR")
    taken = await wallet.payments.withdrawals.request(UserId(owner.id), new_key(), account_id, 100, "EUR")
    ids |= {"topUp": top_up.top_up.id, "withdrawal": taken.withdrawal.id}
    return Town(wallet, fake, owner, third, fourth, {**ids, "key": key, "session": session.id})


async def bank(wallet: Wallet, fake: FakeStripe, person: Person) -> None:
    """Give somebody a connected account."""
    connected = fake.state.connect(f"acct_{person.username}")
    await wallet.payments.withdrawals.set_payout_account(UserId(person.id), connected)


def unknown(kind: str, like: str, *, near: bool) -> str:
    """An id of that kind which nobody has; `near` in the slot of the one that somebody has."""
    if kind == "key":
        return str(uuid.uuid4())
    if kind == "session":
        return secrets.token_hex(32)
    entropy, at_ms = secrets.randbits(62), 1_790_000_000_000
    if kind == "user":
        return make_user_id(at_ms, entropy)
    make: Callable[[int, int, int], str] = {
        "account": make_account_id,
        "transfer": make_transfer_id,
        "hold": make_hold_id,
        "topUp": make_top_up_id,
        "withdrawal": make_withdrawal_id,
    }[kind]
    return make(slot_of(like) if near else (slot_of(like) + 1) % 4096, at_ms, entropy)


# What a stranger may do with ids of their own: the input into which the others' are put


async def payment(town: Town, stranger: Person) -> dict[str, Any]:
    """A payment of the stranger's."""
    return stranger.pay(town.third.username, 1)


async def independent(town: Town, stranger: Person) -> dict[str, Any]:
    """A batch of payments of the stranger's, each for itself."""
    return {"mode": "INDEPENDENT", "items": [stranger.pay(town.third.username, 1) for _ in range(2)]}


async def atomic(town: Town, stranger: Person) -> dict[str, Any]:
    """A batch of payments of the stranger's, all or none."""
    return {**await independent(town, stranger), "mode": "ATOMIC"}


async def received(town: Town, stranger: Person) -> dict[str, Any]:
    """A reversal of something that the stranger received."""
    third = town.third
    pay: dict[str, Any] = {"source": AccountId(third.account_id), "to": To(username=stranger.username)}
    moved = await town.wallet.ledger.transfer(UserId(third.id), new_key(), amount_minor=5, currency="EUR", **pay)
    return {"idempotencyKey": new_key(), "transferId": moved.result.id}


async def payable(town: Town, stranger: Person) -> dict[str, Any]:
    """A hold that the stranger may close."""
    third = town.third
    pay: dict[str, Any] = {"source": AccountId(third.account_id), "to": To(username=stranger.username)}
    held = await town.wallet.ledger.place_hold(UserId(third.id), new_key(), amount_minor=5, currency="EUR", **pay)
    return {"idempotencyKey": new_key(), "holdId": held.result.id}


async def previewed(town: Town, stranger: Person) -> dict[str, Any]:
    """A payment of the stranger's that is not made."""
    given = await payment(town, stranger)
    del given["idempotencyKey"]
    return given


async def nothing(_town: Town, _stranger: Person) -> dict[str, Any]:
    """An input whose only field is the id, or no input at all."""
    return {}


async def purchase(town: Town, stranger: Person) -> dict[str, Any]:
    """A split payment of the stranger's to the third person, who is a merchant: half of it is one cent."""
    third = town.third
    if await town.wallet.merchants.merchant(UserId(third.id)) is None:
        await town.wallet.merchants.register(UserId(third.id), "Third")
    given = stranger.pay(third.username, 2)
    del given["to"]
    half = {"to": {"username": town.fourth.username}, "basisPoints": 5_000}
    return {**given, "merchant": third.username, "splits": [half]}


async def sold(town: Town, stranger: Person) -> dict[str, Any]:
    """A refund of something that the stranger sold."""
    third = town.third
    if await town.wallet.merchants.merchant(UserId(stranger.id)) is None:
        await town.wallet.merchants.register(UserId(stranger.id), "Stranger")
    pay: dict[str, Any] = {"source": AccountId(third.account_id), "merchant": stranger.username, "currency": "EUR"}
    paid = await town.wallet.merchants.pay(UserId(third.id), new_key(), amount_minor=5, **pay)
    return {"idempotencyKey": new_key(), "paymentId": paid.payment.result.id}


async def events(town: Town, stranger: Person) -> dict[str, Any]:
    """A replay of the stranger's events."""
    if await town.wallet.merchants.merchant(UserId(stranger.id)) is None:
        await town.wallet.merchants.register(UserId(stranger.id), "Stranger")
    return {"accountId": stranger.account_id, "fromSequence": 1}


async def money_in(_town: Town, stranger: Person) -> dict[str, Any]:
    """A top-up of the stranger's."""
    amount = {"minorUnits": 100, "currency": "EUR"}
    return {"idempotencyKey": new_key(), "toAccountId": stranger.account_id, "amount": amount}


async def money_out(town: Town, stranger: Person) -> dict[str, Any]:
    """A withdrawal of the stranger's."""
    await bank(town.wallet, town.fake, stranger)
    amount = {"minorUnits": 10, "currency": "EUR"}
    return {"idempotencyKey": new_key(), "fromAccountId": stranger.account_id, "amount": amount}


Make = Callable[[Town, Person], Awaitable[dict[str, Any]]]


async def notes(_: Town, __: Person) -> dict[str, Any]:
    """What to note about a transfer."""
    return {"category": "mine", "metadata": []}


INPUTS: Final[dict[str, tuple[Make, ...]]] = {
    "annotateTransfer": (notes,),
    "preview": (previewed,),
    "transfer": (payment,),
    "placeHold": (payment,),
    "transferBatch": (independent, atomic),
    "reverseTransfer": (received,),
    "captureHold": (payable,),
    "voidHold": (payable,),
    "closeAccount": (nothing,),
    "payMerchant": (purchase,),
    "refundPayment": (sold,),
    "replayEvents": (events,),
    "topUp": (money_in,),
    "withdraw": (money_out,),
    "revokeSession": (nothing,),
}


def parts(path: str) -> tuple[str, str, list[str]]:
    """Type, field and the way to the id of a path."""
    match = re.fullmatch(r"(\w+)\.(\w+)\(([\w.]+)\)", path)
    assert match is not None
    return match[1], match[2], match[3].split(".")


def document(path: str) -> str:
    """A request of that field, which selects everything that needs no arguments."""
    root, name, (argument_name, *_) = parts(path)
    kind = SCHEMA.type_map[root]
    assert isinstance(kind, GraphQLObjectType)
    argument: GraphQLArgument = kind.fields[name].args[argument_name]
    operation = root.lower()
    call = f"{name}({argument_name}: $given) {{ {selection(kind.fields[name].type)} }}"
    return f"{operation}($given: {argument.type}) {{ {call} }}"


def selection(given: GraphQLOutputType) -> str:
    """`__typename` and all leaves."""
    kind = get_named_type(given)
    if isinstance(kind, GraphQLUnionType):
        return "__typename " + " ".join(f"... on {member.name} {{ {selection(member)} }}" for member in kind.types)
    assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
    leaves = [n for n, f in kind.fields.items() if is_leaf_type(get_named_type(f.type)) and not f.args]
    inner = {n: get_named_type(f.type) for n, f in kind.fields.items()}
    told = {n: one for n, one in inner.items() if isinstance(one, GraphQLUnionType) or one.name == "WalletError"}
    return " ".join(["__typename", *leaves, *(f"{name} {{ {selection(one)} }}" for name, one in told.items())])


def cases() -> Iterator[Any]:
    """Each path, with each input that it can be a part of; a mutation without one fails here."""
    for path in PATHS:
        root, name, _ = parts(path)
        for make in INPUTS[name] if root == "Mutation" or name in INPUTS else (nothing,):
            yield pytest.param(path, make, id=f"{path}-{make.__name__}")


async def variables(town: Town, stranger: Person, path: str, make: Make, given: str) -> dict[str, Any]:
    """The stranger's own input, with `given` at the place of the path."""
    root, name, way = parts(path)
    kind = SCHEMA.type_map[root]
    assert isinstance(kind, GraphQLObjectType)
    argument = kind.fields[name].args[way[0]]
    if len(way) == 1:
        return {"given": given if "[" not in str(argument.type) else [given]}
    made = await make(town, stranger)
    _put(made, get_named_type(argument.type), way[1:], given)
    return {"given": made}


def _put(where: dict[str, Any], kind: Any, way: list[str], given: str) -> None:
    if kind.is_one_of:
        where.clear()
    name = way[0]
    if len(way) == 1:
        where[name] = given
        return
    inner = where.setdefault(name, {})
    _put(inner[0] if isinstance(inner, list) else inner, get_named_type(kind.fields[name].type), way[1:], given)


async def answer(town: Town, stranger: Person, path: str, make: Make, given: str) -> str:
    """What the stranger gets, as text, without what differs from request to request."""
    sent = await variables(town, stranger, path, make, given)
    result = await execute(town.wallet, stranger.token, document(path), sent)
    text = json.dumps([result.data, [error.message for error in result.errors or ()]], sort_keys=True, default=str)
    own = json.dumps(sent)
    for value in re.findall(r"(?:trf|hld|acc|top|wdr)_[0-9a-f]{32}", own):
        text = text.replace(value, "OWN" if value != given else "ID")
    return VARYING.sub("…", text.replace(given, "ID").replace(given[:48], "ID"))  # refusals quote 48 characters


async def test_paths_are_found() -> None:
    """The walk over the schema finds arguments, fields of inputs, and fields of inputs in lists."""
    wanted = {"Query.node(id)", "Query.nodes(ids)", "Mutation.captureHold(input.holdId)", *ADDRESSES}
    assert wanted <= set(PATHS)
    assert len(PATHS) > 20


@pytest.mark.parametrize(("path", "make"), list(cases()))
async def test_ids_of_others_are_like_unknown_ids(town: Town, path: str, make: Make) -> None:
    """A stranger gets the same answer for each id of the owner's as for ids of nobody, and changes nothing."""
    stranger = await settle(town.wallet, 1_000)
    state = partial(execute, town.wallet, town.owner.token, STATE, {"hold": town.ids["hold"]})
    before = await state()
    assert before.errors is None
    for kind, given in town.ids.items():
        if kind == "account" and path in ADDRESSES:
            continue
        found = await answer(town, stranger, path, make, given)
        for near in (True, False):
            assert found == await answer(town, stranger, path, make, unknown(kind, given, near=near)), (kind, given)
    assert (await state()).data == before.data


@pytest.mark.parametrize(("path", "make"), list(cases()))
async def test_everything_that_takes_an_id_needs_a_session(town: Town, path: str, make: Make) -> None:
    """Without a session there is no answer but UNAUTHENTICATED, whatever the id."""
    nobody = await settle(town.wallet, 1_000)
    for given in town.ids.values():
        sent = await variables(town, nobody, path, make, given)
        result = await execute(town.wallet, None, document(path), sent)
        assert [error.extensions["code"] for error in result.errors or () if error.extensions] == ["UNAUTHENTICATED"]


@pytest.mark.parametrize(
    ("path", "make"), [case for case in cases() if case.values[0] in ADDRESSES and "Mutation" in case.id]
)
async def test_an_account_id_is_an_address(town: Town, path: str, make: Make) -> None:
    """Who knows an account's id can pay to it; the owner has no less for it."""
    stranger = await settle(town.wallet, 1_000)
    before = (await town.wallet.ledger.accounts(UserId(town.owner.id)))[0]
    found = await answer(town, stranger, path, make, town.ids["account"])
    assert "Success" in found
    after = (await town.wallet.ledger.accounts(UserId(town.owner.id)))[0]
    assert after.posted_minor - before.posted_minor == (0 if "Hold" in path else 1)
    assert after.held_minor == before.held_minor


async def test_the_owner_has_all_of_it(town: Town) -> None:
    """The ids in question are real: the owner reaches each of them."""
    node = "query($id: ID!) { node(id: $id) { __typename } }"
    for kind in ("user", "account", "transfer", "hold", "topUp", "withdrawal"):
        name = kind[0].upper() + kind[1:]
        assert await ask(town.wallet, town.owner.token, node, {"id": town.ids[kind]}) == {"__typename": name}
    by_key = "query($id: ID!) { transferByIdempotencyKey(key: $id) { transfer { id } } }"
    known = await ask(town.wallet, town.owner.token, by_key, {"id": town.ids["key"]})
    assert known["transfer"]["id"] == town.ids["transfer"]
    hold = await town.wallet.ledger.hold(town.third.id, HoldId(town.ids["hold"]))
    assert hold.account_id == town.ids["account"]
    moved = await town.wallet.ledger.transfer_by_id(town.owner.id, TransferId(town.ids["transfer"]))
    assert moved.debit_account_id == town.ids["account"]
