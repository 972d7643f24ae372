"""The schema without a server: for tests that send hundreds of requests, or query every field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from graphql import GraphQLSchema, build_schema
from starlette.responses import Response
from strawberry.types.execution import ExecutionResult

from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.schema import schema, sdl
from wallet_gql.transports.http.auth import Caller

SCHEMA: Final[GraphQLSchema] = build_schema(sdl())
"""The schema as clients build it from its text. Made once, for that takes half a second; no test may change it."""


@asynccontextmanager
async def wallet_in(folder: Path, **settings: Any) -> AsyncIterator[Wallet]:
    """A wallet on a SQLite file, without sweeps: what happens is what a test does."""
    given = load_settings(**{"storage": f"sqlite:///{folder / 'wallet.db'}", "mode": "test", **settings})
    async with open_wallet(given, sweeps=False) as wallet:
        yield wallet


async def execute(wallet: Wallet, token: str | None, query: str, variables: dict[str, Any]) -> ExecutionResult:
    """What the schema answers to somebody with this token; to a subscription, its first event."""
    context = Context(wallet, Caller(wallet.identity, token), Response())
    if query.lstrip().startswith("subscription"):
        async with aclosing(await schema.stream(query, variables, context)) as results:
            return await anext(results)
    result = await schema.execute(query, variable_values=variables, context_value=context)
    result.data = as_sent(result.data)
    return result


def as_sent(data: Any) -> Any:
    """Data as clients get it: plans leave times to what writes the JSON."""
    return orjson.loads(orjson.dumps(data))


async def ask(wallet: Wallet, token: str | None, query: str, variables: dict[str, Any] | None = None) -> Any:
    """The first value of `data`; there must be no errors."""
    result = await execute(wallet, token, query, variables or {})
    assert result.errors is None, result.errors
    assert result.data is not None
    return next(iter(result.data.values()))
