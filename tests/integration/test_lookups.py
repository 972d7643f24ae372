"""B4: whoever is looked up by name counts as a look-up, in every operation of both APIs, however deep the name is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import httpx
import pytest
from graphql import (
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
)
from pydantic import BaseModel

from tests.integration._server import Person, new_key, new_name, settle
from tests.integration.test_cost_budgets import limited
from tests.integration.test_rate_limits import ask, by, check_refused
from wallet_gql.domain.changes import ReadSet
from wallet_gql.domain.ids import UserId
from wallet_gql.storage import Store
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.rest import routes as rest
from wallet_gql.transports.rest.routing import Operation

CORE: Final = schema._schema
OWN: Final = frozenset({"signUp", "logIn"})
"""Verbs whose names are the caller's own; they have limits by address and name."""

TELLING: Final = frozenset(
    {
        "user",
        "payee",
        "merchant",
        "transfer",
        "transferBatch",
        "placeHold",
        "payMerchant",
        "findMerchant",
        "holdForMerchant",
    }
)
"""What must be seen to look somebody up, or the generator makes no names any more."""


@dataclass(slots=True)
class Spy:
    """Which usernames the store was asked for, and which were counted."""

    asked: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watches every caller; `watch` adds a store."""
    found = Spy()
    real = Caller.look_up

    async def look_up(self: Caller, name: str) -> None:
        found.counted.add(name)
        await real(self, name)

    monkeypatch.setattr(Caller, "look_up", look_up)
    return found


def watch(spy: Spy, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """See what a store is asked for, in reads and in decisions."""
    fetch, execute = store.fetch, store.execute

    def note(wanted: Any) -> None:
        spy.asked |= {key.id for key in wanted.records if key.kind == "claim" and key.id.startswith("username:")}

    async def fetching(wanted: ReadSet, *args: Any, **kwargs: Any) -> Any:
        note(wanted)
        return await fetch(wanted, *args, **kwargs)

    async def executing(scope: Any, *args: Any, **kwargs: Any) -> Any:
        note(scope)
        return await execute(scope, *args, **kwargs)

    monkeypatch.setattr(store, "fetch", fetching)
    monkeypatch.setattr(store, "execute", executing)


# ---------------------------------------------------------------- inputs with names wherever a text may be


SCALARS: Final[dict[str, Any]] = {"CurrencyCode": "EUR", "BigInt": 1, "Int": 1, "Boolean": True}


def value_for(name: str, kind: Any, person: Person) -> Any:
    """A value of an input type: a new name for every text, the person's own account, one of everything else."""
    inner, bare = get_named_type(kind), get_nullable_type(kind)
    if is_list_type(bare):
        return [value_for(name, bare.of_type, person)]
    if is_enum_type(inner):
        return "INDEPENDENT" if name == "mode" else next(iter(inner.values))
    if is_input_object_type(inner):
        left_out = ("hold", "since", "until", "after", *(["accountId"] if inner.name == "Recipient" else []))
        return {key: value_for(key, one.type, person) for key, one in inner.fields.items() if key not in left_out}
    if inner.name == "ID":
        return new_key() if name == "idempotencyKey" else person.account_id
    return SCALARS[inner.name] if inner.name in SCALARS else new_name("q")


def documents(person: Person) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A document for every field of the roots, and for every field of an account that takes a filter."""
    for root in (CORE.query_type, CORE.mutation_type):
        assert root is not None
        for name, one in root.fields.items():
            given = {key: value_for(key, argument.type, person) for key, argument in one.args.items()}
            declared = ", ".join(f"${key}: {argument.type}" for key, argument in one.args.items())
            passed = ", ".join(f"{key}: ${key}" for key in one.args)
            kind = "mutation" if root is CORE.mutation_type else "query"
            shown = "" if not hasattr(get_named_type(one.type), "fields") and kind == "query" else "{ __typename }"
            head = f"{kind}({declared})" if declared else kind
            yield name, f"{head} {{ {name}{f'({passed})' if passed else ''} {shown} }}", given
    account: Any = CORE.type_map["Account"]
    for name, one in account.fields.items():
        if "filter" in one.args:
            given = {"filter": value_for("filter", one.args["filter"].type, person)}
            inner = f"{name}(first: 1, filter: $filter) {{ __typename }}"
            yield (
                f"Account.{name}",
                f"query($filter: {one.args['filter'].type}) {{ viewer {{ accounts {{ {inner} }} }} }}",
                given,
            )


def bare(annotation: Any) -> Any:
    """The type without None and what is noted about it; of several the first."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not NoneType)
    return annotation


def member_for(name: str, annotation: Any, person: Person) -> Any:
    """The same for a member of REST."""
    annotation = bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return body_for(annotation, person)
    if get_origin(annotation) is list:
        return [member_for(name, get_args(annotation)[0], person)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation)).name
    if annotation is int or get_origin(annotation) is dict:
        return 1 if annotation is int else {}
    if name == "currency":
        return "EUR"
    return person.account_id if name.endswith("Id") else new_name("q")


def body_for(model: type[BaseModel], person: Person) -> dict[str, Any]:
    """A body: every member, but of a recipient only the username, and of a filter only texts."""
    found = {}
    for name, one in model.model_fields.items():
        alias = one.alias or name
        if model.__name__ in ("Recipient", "PreviewRecipient") and alias != "username":
            continue
        if "counterparty" in model.model_fields and (
            alias in ("after", "since", "until") or alias.endswith("MinorUnits")
        ):
            continue
        found[alias] = member_for(alias, one.annotation, person)
    return found


def rest_request(one: Operation, person: Person) -> httpx.Request:
    """A request of an operation of REST."""
    path = one.path.replace("{account_id}", person.account_id).replace("{transfer_id}", new_name("t"))
    path = path.replace("{hold_id}", new_name("h")).replace("{top_up_id}", "x").replace("{withdrawal_id}", "x")
    query = {} if one.query is None else {k: v for k, v in body_for(one.query, person).items() if isinstance(v, str)}
    body = None if one.body is None else body_for(one.body, person)
    headers = by(person) | ({"Idempotency-Key": new_key()} if one.entry.keyed else {})
    return httpx.Request(one.method, f"http://wallet.test{path}", params=query, json=body, headers=headers)


async def test_b4_every_look_up_is_counted(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation is sent with a new name in every text: what the store is asked for was counted before."""
    telling: set[str] = set()
    async with limited("off") as (http, wallet):
        watch(spy, wallet.store, monkeypatch)

        async def send(name: str, request: httpx.Request) -> None:
            spy.asked.clear()
            spy.counted.clear()
            await http.send(request)
            if name not in OWN:
                assert spy.asked <= spy.counted, name
                telling.update([name] if spy.asked else [])

        person = await settle(wallet, 1_000)
        for name, document, variables in documents(person):
            owner = await settle(wallet, 1_000) if name.startswith(("logOut", "revoke", "renew")) else person
            body = {"query": document, "variables": variables}
            await send(name, http.build_request("POST", "/graphql", json=body, headers=by(owner)))
        roots = {name for name, _, _ in documents(person)}
        assert telling >= {"Account.history", *(TELLING & roots)}
        telling.clear()
        for one in rest.OPERATIONS:
            owner = await settle(wallet, 1_000) if one.name in ("logOut", "renewSession") else person
            await send(one.name, rest_request(one, owner))
        assert telling == {"preview", "listEntries", "listHistory"} | TELLING & {one.name for one in rest.OPERATIONS}


# ---------------------------------------------------------------- limits

SHOWN: Final = "{ __typename ... on WalletError { code } }"


def guesses(person: Person, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each name a mutation that would tell whether somebody has it."""
    pay = [("TransferInput", "transfer"), ("PlaceHoldInput", "placeHold"), ("PayMerchantInput", "payMerchant")]
    for number, name in enumerate(names):
        kind, verb = pay[number % 3]
        given = person.pay(name, 1) | ({"expiresInSeconds": 60} if verb == "placeHold" else {})
        if verb == "payMerchant":
            given["merchant"] = given.pop("to")["username"]
        yield f"mutation($input: {kind}!) {{ {verb}(input: $input) {SHOWN} }}", given


async def codes_of(http: httpx.AsyncClient, person: Person, names: list[str]) -> list[str]:
    """What guessing these names by payments is answered with."""
    found = []
    for document, given in guesses(person, names):
        (answer,) = (await ask(http, person, document, given)).json()["data"].values()
        found.append(answer.get("code", answer["__typename"]))
    return found


async def test_b4_payments_do_not_tell_more_names_than_look_ups() -> None:
    """Transfers, holds and payments to merchants, of both APIs, share the limit of queries."""
    async with limited("lookup=6/hour") as (http, wallet):
        ann = await settle(wallet, 1_000)
        codes = await codes_of(http, ann, [new_name() for _ in range(9)])
        assert codes == ["PAYEE_NOT_FOUND", "PAYEE_NOT_FOUND", "PAYEE_NOT_FOUND"] * 2 + ["RATE_LIMITED"] * 3
        payment = {key: value for key, value in ann.pay(new_name(), 1).items() if key != "idempotencyKey"}
        headers = by(ann) | {"Idempotency-Key": new_key()}
        check_refused(await http.post("/v1/transfer", json=payment, headers=headers))
        body = (await ask(http, ann, f'{{ user(username: "{new_name()}") {{ id }} }}')).json()
        assert body["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        where = f'filter: {{counterparty: "{new_name()}"}}'
        history = f"{{ viewer {{ accounts {{ history(first: 1, {where}) {{ __typename }} }} }} }}"
        assert (await ask(http, ann, history)).json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


@pytest.mark.parametrize("mode", ["INDEPENDENT", "ATOMIC"])
async def test_b4_a_batch_tells_no_more_names(mode: str) -> None:
    """Of a hundred names in a batch as many are looked up as the limit allows; the rest may be tried later."""
    shown = "results { __typename ... on WalletError { code } }"
    query = f"""mutation($input: TransferBatchInput!) {{ transferBatch(input: $input) {{
      __typename ... on TransferBatchSuccess {{ {shown} }} ... on WalletError {{ code }} }} }}"""
    async with limited("lookup=10/hour") as (http, wallet):
        ann = await settle(wallet, 1_000)
        items = [ann.pay(new_name(), 1) for _ in range(100)]
        data = (await ask(http, ann, query, {"mode": mode, "items": items})).json()["data"]["transferBatch"]
        if mode == "ATOMIC":
            assert data["code"] == "RATE_LIMITED"
        else:
            codes = [one["code"] for one in data["results"]]
            assert (codes.count("PAYEE_NOT_FOUND"), codes.count("RATE_LIMITED")) == (10, 90)


async def test_b4_a_known_name_is_no_look_up() -> None:
    """Paying one person a hundred times is one look-up, and a repeated request gets its answer at any rate."""
    async with limited("lookup=2/hour") as (http, wallet):
        ann, bob, cat = [await settle(wallet, 1_000) for _ in range(3)]
        document = f"mutation($input: TransferInput!) {{ transfer(input: $input) {SHOWN} }}"
        first = ann.pay(bob.username, 1)
        for given in (first, *(ann.pay(bob.username.upper(), 1) for _ in range(30)), ann.pay(cat.username, 1)):
            answer = (await ask(http, ann, document, given)).json()["data"]["transfer"]
            assert answer["__typename"] == "TransferSuccess"
        assert await codes_of(http, ann, [new_name()]) == ["RATE_LIMITED"]
        assert (await ask(http, ann, document, first)).json()["data"]["transfer"]["__typename"] == "TransferSuccess"


async def test_b4_a_look_up_refused_uses_no_key() -> None:
    """What was refused for the rate is done later under the same key."""
    async with limited("lookup=1/second") as (http, wallet):
        ann, bob, cat = [await settle(wallet, 1_000) for _ in range(3)]
        document = f"mutation($input: TransferInput!) {{ transfer(input: $input) {SHOWN} }}"
        payments = [ann.pay(bob.username, 1), ann.pay(cat.username, 1)]
        for given in payments:
            while (await ask(http, ann, document, given)).json()["data"]["transfer"].get("code") == "RATE_LIMITED":
                pass
        assert (await wallet.ledger.accounts(UserId(ann.id)))[0].posted_minor == 998
