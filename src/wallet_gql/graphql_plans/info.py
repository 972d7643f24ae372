"""What resolvers are told of their call, made only as far as they ask."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLResolveInfo
from graphql.pyutils import Path as GraphQLPath
from graphql.pyutils import gather_with_cancel
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry import Info
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import _OperationContextAwareGraphQLResolveInfo

from .running import Path, Run, abandon
from .site import Site


class PlanInfo(Info[Any, Any]):
    """Strawberry's `Info`; most resolvers ask for its context alone."""

    def __init__(self, field: Site, path: Path, run: Run) -> None:
        self._plan_field = field
        self._plan_path = path
        self._run = run

    @property
    def context(self) -> Any:
        """The context of the request."""
        return self._run.context

    @property
    def field_name(self) -> str:
        """The field's name in the schema."""
        return self._plan_field.name

    @property
    def _field(self) -> Any:  # type: ignore[override]  # read, never set
        return self._plan_field.strawberrys

    @property
    def _raw_info(self) -> Any:  # type: ignore[override]  # same
        return resolve_info(self._plan_field, self._plan_path, self._run)


def resolve_info(field: Site, path: Path, run: Run) -> GraphQLResolveInfo[Any]:
    """The same as graphql-core and Strawberry tell it."""
    plan = field.plan
    return _OperationContextAwareGraphQLResolveInfo(  # type: ignore[return-value]  # Strawberry's stands for graphql-core's
        field.name,
        field.nodes,
        field.type,
        field.parent,
        _graphql_path(field, path),
        plan.graphql_schema,
        dict(plan.selections.fragments),
        run.root,
        plan.operation,
        dict(run.variables),
        run.context,
        optimized_is_awaitable,
        None,
        GraphQLResolveInfoHelpers(lambda values: gather_with_cancel(*values), _track),
        run.extensions,  # type: ignore[arg-type]  # None, too, where the request has none
    )


def _track(values: Any) -> None:
    abandon(value for value in values if optimized_is_awaitable(value))


def _graphql_path(field: Site | None, path: Path) -> GraphQLPath:
    """A path with the type around each of its fields."""
    assert field is not None
    keys: list[tuple[str | int, str | None]] = [(field.key, field.parent.name)]
    around = field.around
    while path is not None:
        path, key = path
        if isinstance(key, int):
            keys.append((key, None))
        else:
            assert around is not None
            keys.append((key, around.parent.name))
            around = around.around
    made: GraphQLPath | None = None
    for key, name in reversed(keys):
        made = GraphQLPath(made, key, name)
    assert made is not None
    return made
