"""Errors for forms: all that is wrong with an input is told at once, each with its path as it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    get_named_type,
    get_nullable_type,
    is_list_type,
)

from tests.integration._graphql import SCHEMA, ask, execute, wallet_in
from tests.integration._server import PASSWORD, Person, new_key, new_name, settle
from tests.integration._stripe import settings_of
from wallet_gql.domain.errors.reasons import REASONS
from wallet_gql.domain.ids import UserId
from wallet_gql.runtime import Wallet
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.graphql.errors import ErrorCode

pytestmark = pytest.mark.asyncio(loop_scope="module")

assert SCHEMA.mutation_type is not None
MUTATIONS: Final = sorted(name for name, field in SCHEMA.mutation_type.fields.items() if field.args)

FREE: Final = {
    "LogInInput.login": "whatever it is, the answer is that of a wrong password",
    "LogInInput.password": "the same",
    "ChangePasswordInput.oldPassword": "it is right or wrong",
    "RevokeSessionInput.sessionId": "an id of no session is no error",
    "Recipient.username": "an impossible name is nobody's",
    "PayMerchantInput.merchant": "the same",
}
"""The fields that take any text."""

WRONG: Final = {"ID": "\n", "String": "\x00", "BigInt": "-1", "Int": -1, "CurrencyCode": "EURO"}
"""A value of each scalar that no field accepts."""

UNREADABLE: Final = {
    "BigInt": (12.5, "12,50", "", True, 2**63, "1e3", [5], {"value": 5}),
    "CurrencyCode": (978, True, ["EUR"]),
}
"""What is no value of our own scalars at all."""

PROBLEMS: Final = "... on InvalidInput { code message problems { path code reason message } }"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def wallet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wallet]:
    """One wallet with a payment provider."""
    with FakeStripe() as fake:
        async with wallet_in(tmp_path_factory.mktemp("forms"), **settings_of(fake)) as wallet:
            yield wallet


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def person(wallet: Wallet) -> Person:
    """Somebody who fills in forms."""
    return await settle(wallet, 10_000)


async def send(wallet: Wallet, person: Person, verb: str, given: dict[str, Any], more: str = "") -> Any:
    """What a mutation answers."""
    kind = f"{verb[0].upper()}{verb[1:]}"
    query = f"mutation($input: {kind}Input!) {{ {verb}(input: $input) {{ __typename {PROBLEMS} {more} }} }}"
    return await ask(wallet, person.token, query, {"input": given})


def all_wrong(kind: GraphQLInputObjectType, path: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """A value of an input with every field wrong, and the paths of those fields."""
    value: dict[str, Any] = {}
    paths = []
    for name, field in kind.fields.items():
        inner, here = get_named_type(field.type), (*path, name)
        if isinstance(inner, GraphQLInputObjectType):
            if is_list_type(get_nullable_type(field.type)):
                made = [all_wrong(inner, (*here, str(place))) for place in range(2)]
                value[name] = [each for each, _ in made]
                paths += [one for _, some in made for one in some]
            else:
                value[name], some = all_wrong(inner, here)
                paths += some
        elif isinstance(inner, GraphQLEnumType):
            value[name] = next(iter(inner.values))
        elif inner.name == "Boolean":
            value[name] = True
        elif kind.is_one_of and value:
            continue
        else:
            value[name] = WRONG[inner.name]
            if f"{kind.name}.{name}" not in FREE:
                paths.append(here)
    return value, paths


def fields_of(kind: GraphQLInputObjectType) -> Iterator[str]:
    """The fields of an input and of those inside it."""
    for name, field in kind.fields.items():
        yield f"{kind.name}.{name}"
        inner = get_named_type(field.type)
        if isinstance(inner, GraphQLInputObjectType):
            yield from fields_of(inner)


def input_of(verb: str) -> GraphQLInputObjectType:
    """The input of a mutation."""
    assert SCHEMA.mutation_type is not None
    kind = get_named_type(SCHEMA.mutation_type.fields[verb].args["input"].type)
    assert isinstance(kind, GraphQLInputObjectType)
    return kind


@pytest.mark.parametrize("verb", MUTATIONS)
async def test_every_field_wrong_at_once(wallet: Wallet, person: Person, verb: str) -> None:
    """Every mutation with every field of its input wrong: all paths are told, each once, with a code and a message."""
    given, paths = all_wrong(input_of(verb))
    answer = await send(wallet, person, verb, given)
    if not paths:
        assert answer["__typename"] != "InvalidInput"
        return
    assert answer["__typename"] == "InvalidInput"
    assert sorted(tuple(one["path"]) for one in answer["problems"]) == sorted(paths)
    for problem in answer["problems"]:
        assert problem["code"] in {"INVALID_INPUT", "INVALID_AMOUNT"}
        assert problem["reason"] in {one.code for one in REASONS}
        assert ".".join(problem["path"]) + ": " + problem["message"] in answer["message"]


@pytest.mark.parametrize("verb", MUTATIONS)
async def test_malformed_scalars_are_problems_too(
    wallet: Wallet, person: Person, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no number or no currency is told in the same shape, beside all else."""
    for turn in range(max(map(len, UNREADABLE.values()))):
        for name, values in UNREADABLE.items():
            monkeypatch.setitem(WRONG, name, values[turn % len(values)])
        await test_every_field_wrong_at_once(wallet, person, verb)


async def test_malformed_scalars_of_questions(wallet: Wallet, person: Person) -> None:
    """Queries and subscriptions have no problems: they answer with `BAD_REQUEST`, wherever a number can be sent."""
    filtered = "{ viewer { history(first: 1, filter: {%s: VALUE}) { nodes { sequence } } } }"
    watched = f'subscription {{ accountEvents(accountId: "{person.account_id}", afterSequence: VALUE) {{ sequence }} }}'
    asked = {
        **{f"HistoryFilterInput.{name}": filtered % name for name in ("minMinorUnits", "maxMinorUnits")},
        "Subscription.accountEvents.afterSequence": watched,
    }
    mutated = {name for verb in MUTATIONS for name in fields_of(input_of(verb))}
    assert set(asked) == {name for name in numbers() if name not in mutated}
    for query in asked.values():
        for value in ("12.5", '"12,50"', "true", "9223372036854775808", '"01"'):
            result = await execute(wallet, person.token, query.replace("VALUE", value), {})
            assert [(error.extensions or {})["code"] for error in result.errors or ()] == ["BAD_REQUEST"], (
                query,
                value,
            )


async def test_malformed_scalars_of_a_preview(wallet: Wallet, person: Person) -> None:
    """A preview tells them as the payment would."""
    query = f"query($input: PreviewInput!) {{ preview(input: $input) {{ refusal {{ __typename {PROBLEMS} }} }} }}"
    asked = {"fromAccountId": person.account_id, "to": {"username": "bob"}}
    for minor, currency in ((12.5, "EUR"), ("12,50", "EUR"), (1, 978)):
        given = {"input": {**asked, "amount": {"minorUnits": minor, "currency": currency}}}
        refusal = (await ask(wallet, person.token, query, given))["refusal"]
        wrong = "minorUnits" if currency == "EUR" else "currency"
        assert [one["path"] for one in refusal["problems"]] == [["amount", wrong]]


def numbers() -> Iterator[str]:
    """Each place of the schema where a `BigInt` can be sent."""
    for kind in SCHEMA.type_map.values():
        for name, field in getattr(kind, "fields", {}).items():
            if isinstance(kind, GraphQLInputObjectType) and get_named_type(field.type).name == "BigInt":
                yield f"{kind.name}.{name}"
            for given, argument in getattr(field, "args", {}).items():
                if get_named_type(argument.type).name == "BigInt":
                    yield f"{kind.name}.{name}.{given}"


async def test_the_free_fields_are_there() -> None:
    """Each field that takes any text is one of the schema's."""
    assert set(FREE) <= {name for verb in MUTATIONS for name in fields_of(input_of(verb))}
    assert set(ErrorCode.__members__) >= {"INVALID_INPUT", "INVALID_AMOUNT", "USERNAME_TAKEN", "EMAIL_TAKEN"}


async def test_a_form_without_a_session_tells_nothing(wallet: Wallet) -> None:
    """Who has no session is told to log in, whatever the input: but for what starts one."""
    nobody = Person("", "", "", "")
    for verb in MUTATIONS:
        given, _ = all_wrong(input_of(verb))
        if verb in {"signUp", "logIn"}:
            assert (await send(wallet, nobody, verb, given))["__typename"] in {"InvalidInput", "Refusal"}
        else:
            with pytest.raises(AssertionError, match="UNAUTHENTICATED"):
                await send(wallet, nobody, verb, given)


async def test_what_the_verbs_find_has_a_path_too(wallet: Wallet, person: Person) -> None:
    """What only the verbs can see is told in the same form: names, the provider's amounts, parts that do not fit."""
    name = new_name()
    sign_up = {"username": name, "email": f"{name}@example.org", "password": "password1"}
    money = {"minorUnits": 1_000, "currency": "EUR"}
    splits = [{"to": {"username": name}, "basisPoints": 100}]
    bill = {"fromAccountId": person.account_id, "merchant": name, "amount": money, "idempotencyKey": new_key()}
    opened = 'mutation { openAccount(input: {currency: "HUF"}) { ... on OpenAccountSuccess { account { id } } } }'
    forint = (await ask(wallet, person.token, opened))["account"]["id"]
    top_up = {"idempotencyKey": new_key(), "toAccountId": forint, "amount": {"minorUnits": 1, "currency": "HUF"}}
    await wallet.merchants.register(UserId(person.id), "A Shop")
    cases: list[tuple[str, dict[str, Any], list[str]]] = [
        ("signUp", sign_up, ["password"]),
        ("changePassword", {"oldPassword": PASSWORD, "newPassword": PASSWORD}, ["newPassword"]),
        ("payMerchant", {**bill, "splits": splits, "hold": {"expiresInSeconds": 60}}, ["splits"]),
        ("payMerchant", {**bill, "category": "food", "hold": {"expiresInSeconds": 60}}, ["category"]),
        ("payMerchant", {**bill, "splits": [*splits, {**splits[0], "basisPoints": 9_950}]}, ["splits"]),
        ("topUp", top_up, ["amount", "minorUnits"]),
        ("replayEvents", {"accountId": person.account_id, "fromSequence": 99}, ["fromSequence"]),
        ("updateMerchant", {"webhook": True}, ["webhookUrl"]),
    ]
    for verb, given, path in cases:
        answer = await send(wallet, person, verb, given)
        assert (answer["__typename"], [one["path"] for one in answer["problems"]]) == ("InvalidInput", [path]), verb


async def test_each_item_of_a_batch_tells_all(wallet: Wallet, person: Person) -> None:
    """In an INDEPENDENT batch an item that is wrong tells all its problems, and the others go on."""
    other = await settle(wallet)
    good = person.pay(other.username, 5)
    bad, paths = all_wrong(input_of("transfer"), ("items", "1"))
    answer = await send(
        wallet, person, "transferBatch", {"mode": "INDEPENDENT", "items": [good, bad]},
        more=f"... on TransferBatchSuccess {{ results {{ __typename {PROBLEMS} }} }}",
    )  # fmt: skip
    first, second = answer["results"]
    assert first == {"__typename": "TransferSuccess"}
    assert sorted(tuple(one["path"]) for one in second["problems"]) == sorted(paths)
