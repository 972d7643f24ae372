"""Resolves fields without arguments directly: most of a history page consists of them.

For each field of each row, Strawberry makes three calls of its own for a field without a resolver, and more for a field
with one. Here graphql-core gets the function that does the work. `benchmarks/graphql_page.py` measures the saving.
Resolvers then get graphql-core's `info`; ours use only `info.context`, which is the same.
"""

from __future__ import annotations

from typing import Any, cast

from graphql import GraphQLFieldResolver, GraphQLSchema
from graphql.type import is_object_type
from strawberry.types.field import StrawberryField


def resolve_plainly(schema: GraphQLSchema) -> None:
    """Replace the resolvers of a schema's fields that take no arguments; mutations and subscriptions stay."""
    roots = (schema.mutation_type, schema.subscription_type)
    for kind in schema.type_map.values():
        if not is_object_type(kind) or kind in roots:
            continue
        for field in kind.fields.values():
            definition = field.extensions.get("strawberry-definition")
            if isinstance(definition, StrawberryField) and not definition.arguments and not definition.extensions:
                field.resolve = _resolver(definition) or field.resolve


def _resolver(definition: StrawberryField) -> GraphQLFieldResolver | None:
    """The function behind a field, called with source and info; None if it takes other arguments."""
    resolver = definition.base_resolver
    if resolver is not None:
        function = resolver.wrapped_func
        is_plain = resolver.self_parameter and resolver.info_parameter and not isinstance(function, classmethod)
        return cast("GraphQLFieldResolver", function) if is_plain else None
    name = definition.python_name

    def read(source: Any, _info: object) -> Any:
        return getattr(source, name)

    return read
