"""Turns a resolver that returns its success and raises everything else into a mutation with a union.

`catalogue.operations` lists the union's members besides the success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from types import GenericAlias
from typing import Annotated, Any, Final, Optional, Union, get_type_hints

import strawberry

from ...domain import errors as domain
from ..catalogue.errors import camel
from ..catalogue.operations import OPERATIONS
from .context import Info
from .errors import InDoubt, Refusal, Unavailable, WalletError, type_of
from .given import check_given, placed

ALWAYS: Final = (Refusal, Unavailable, InDoubt)
"""The errors that any mutation may return. `Refusal` stands for every refusal without a type of its own."""


def mutation(resolver: Callable[..., Awaitable[Any]]) -> Any:
    """A mutation named after its resolver, of type `XResult | null`; its input is checked before the resolver runs.

    The resolver's return type is the success. The field is nullable, so that a failure of one mutation in a document
    does not remove the answers of earlier mutations, which have committed.
    """
    name = camel(resolver.__name__)
    entry = OPERATIONS[name]

    @wraps(resolver)
    async def checked(self: object, info: Info, **arguments: Any) -> Any:
        if entry.session:
            await info.context.user_id()
        sent = arguments.get("given")
        await check_given(info.context, sent)
        with placed(sent):
            return await resolver(self, info=info, **arguments)

    success = get_type_hints(resolver)["return"]
    members = (success, *error_types(kind for kind in entry.refusals if kind not in entry.untyped))
    made = union(f"{name[0].upper()}{name[1:]}Result", members, f"What `{name}` answers.")
    return strawberry.mutation(checked, graphql_type=Optional[made])  # noqa: UP045 - `|` takes no values


def error_types(refusals: Iterable[type[domain.WalletError]]) -> tuple[type[WalletError], ...]:
    """The types of these refusals, and those that any mutation may return."""
    found = [type_of(kind) for kind in refusals]
    return tuple(dict.fromkeys([kind for kind in found if kind is not None] + [*ALWAYS]))


def list_of(made: Any) -> Any:
    """A list of a union."""
    return GenericAlias(list, (made,))


def union(name: str, members: tuple[type, ...], description: str) -> Any:
    """A union of GraphQL."""
    return Annotated[Union[members], strawberry.union(name, description=description)]  # noqa: UP007 - the same
