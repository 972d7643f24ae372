"""The cost of a page of history through the served schema, compared with bare graphql-core.

    python benchmarks/graphql_page.py [--rows 100] [--rounds 40]

Both run alternately in one process on the same rows of the same SQLite file, so that a disturbance slows both. The bare
schema is made by graphql-core from the printed one: plain attributes are read with `getattr`, and the three fields that
load something call the same functions as the served resolvers. So the difference is what Strawberry and our own
extensions add: caches, limits, cost, counting, masking.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from inspect import ismethod
from pathlib import Path
from typing import Any, Final

import orjson
from graphql import GraphQLResolveInfo, GraphQLScalarType, GraphQLSchema, build_schema, execute, parse
from graphql.type import is_object_type
from starlette.responses import Response

from wallet_gql.domain.ids import OPERATOR, AccountId, UserId
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql.accounts import Account
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.history import page_of
from wallet_gql.transports.graphql.pages import Asked
from wallet_gql.transports.graphql.schema import schema, sdl
from wallet_gql.transports.graphql.transfers import Transfer
from wallet_gql.transports.http.auth import Caller
from wallet_gql.verbs.ledger import To

ROWS: Final = 100
ROUNDS: Final = 40
QUERY: Final = """query($id: ID!, $first: Int!) { account(id: $id) { id history(first: $first) {
  edges { cursor node { sequence createdAt amount { minorUnits currency } balanceAfter { minorUnits currency }
    transfer { id kind reference counterparty { name } } } }
  pageInfo { hasNextPage endCursor } } } }"""

Run = Callable[[], Awaitable[Any]]


def bare_schema() -> GraphQLSchema:
    """The printed schema with resolvers by hand."""
    made = build_schema(sdl())
    for kind in made.type_map.values():
        if is_object_type(kind) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                field.resolve = _reader(re.sub(r"([A-Z])", r"_\1", name).lower())
    for name, serialize in {"BigInt": str, "CurrencyCode": str, "DateTime": datetime.isoformat}.items():
        scalar = made.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)
        setattr(scalar, "serialize", serialize)  # noqa: B010 - to mypy it is a method
        setattr(scalar, "coerce_output_value", serialize)  # noqa: B010 - same
    resolvers = {
        ("Query", "account"): _account,
        ("Account", "history"): _history,
        ("Transfer", "counterparty"): _counterparty,
        ("Transfer", "kind"): lambda transfer, _info: transfer.transfer.kind.name,
    }
    for (parent, name), resolve in resolvers.items():
        made.type_map[parent].fields[name].resolve = resolve  # type: ignore[attr-defined]  # an object type
    return made


def _reader(name: str) -> Callable[..., Any]:
    def read(source: object, _info: object) -> Any:
        found = getattr(source, name)
        return found() if ismethod(found) else found

    return read


async def _account(_root: object, info: GraphQLResolveInfo[Context], id: str) -> Account | None:  # noqa: A002 - the API's word
    return await Account.find(info.context, await info.context.user_id(), id)


async def _history(account: Account, info: GraphQLResolveInfo[Context], first: int, **_more: object) -> object:
    return await page_of(info.context.ledger, account.account, Asked(first, None, is_backward=False))


_COUNTERPARTY: Final[Callable[..., Awaitable[Any]]] = Transfer.__strawberry_definition__.get_field(  # type: ignore[attr-defined]
    "counterparty"
).base_resolver.wrapped_func


async def _counterparty(transfer: Transfer, info: GraphQLResolveInfo[Context]) -> object:
    return await _COUNTERPARTY(transfer, info)


async def furnish(wallet: Wallet, rows: int) -> tuple[str, str]:
    """Create a user with so many payments; returns a session's token and the account's id."""
    names = ("ann", "bob")
    users = [await wallet.identity.sign_up(name, f"{name}@example.org", "plain maroon bicycle") for name in names]
    accounts = [await wallet.ledger.open_account(user.id, "EUR") for user in users]
    await wallet.ledger.deposit(OPERATOR, "seed", accounts[0].id, rows * 100, "EUR")
    for number in range(rows - 1):
        await _pay(wallet, users[0].id, accounts[0].id, number)
    logged_in = await wallet.identity.log_in("ann", "plain maroon bicycle", SessionKind.BEARER)
    return logged_in.token, accounts[0].id


async def _pay(wallet: Wallet, payer: UserId, source: AccountId, number: int) -> None:
    await wallet.ledger.transfer(
        payer, f"k{number}", source=source, to=To(username="bob"), amount_minor=1, currency="EUR", reference="tea"
    )


async def measure(folder: Path, rows: int = ROWS, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """The best milliseconds of a page, served and bare, and the median of the ratios of all rounds."""
    settings = load_settings(storage=f"sqlite:///{folder / 'page.db'}")
    async with open_wallet(settings, sweeps=False) as wallet:
        token, account_id = await furnish(wallet, rows)
        variables, bare, document = {"id": account_id, "first": rows}, bare_schema(), parse(QUERY)

        def context() -> Context:
            return Context(wallet, Caller(wallet.identity, token), Response())

        async def served() -> Any:
            return await schema.execute(QUERY, variables, context())

        async def plain() -> Any:
            found = execute(bare, document, context_value=context(), variable_values=variables)
            return await found if isinstance(found, Awaitable) else found

        answers = [await run() for run in (served, plain) for _ in range(3)]
        for answer in answers:
            assert answer.errors is None, answer.errors
            assert orjson.dumps(answer.data) == orjson.dumps(answers[0].data)
            assert len(answer.data["account"]["history"]["edges"]) == rows
        times = [(await _timed(served), await _timed(plain)) for _ in range(rounds)]
    ratio = statistics.median(one / other for one, other in times)
    return min(one for one, _ in times), min(other for _, other in times), ratio


async def _timed(run: Run) -> float:
    """Milliseconds of processor time of all threads, which does not include waiting for a busy machine."""
    began = time.process_time()
    await run()
    return (time.process_time() - began) * 1000


def main(arguments: list[str]) -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        served, bare, ratio = asyncio.run(measure(Path(folder), given.rows, given.rounds))
    print(f"{given.rows} rows: {served:.2f} ms as served, {bare:.2f} ms bare; median ratio {ratio:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
