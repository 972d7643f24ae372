"""Where a field stands: what is known of it before it is known how its value is got."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    is_non_null_type,
)
from graphql.execution.values import VariableValues
from strawberry import Schema
from strawberry.types.field import StrawberryField

from .along import Made
from .inputs import Inputs
from .running import Path, Run
from .selections import Selections

Call = Callable[[Any, Path, Run], Any]
"""Source, its place in the answer and the run -> what the field's resolver returns."""


class PlanParts(Protocol):
    """What a field knows of its plan."""

    schema: Schema
    graphql_schema: GraphQLSchema
    operation: OperationDefinitionNode
    selections: Selections
    inputs: Inputs

    def variable_values(self, given: Mapping[str, Any]) -> VariableValues:
        """The variables as graphql-core checks them."""
        ...


class ShapeParts(Protocol):
    """What a field knows of the shape of its plan."""

    @property
    def plan(self) -> PlanParts:
        """The plan."""
        ...

    def fields_of(
        self, kind: GraphQLObjectType, selection_sets: Sequence[SelectionSetNode], around: Site | None
    ) -> Mapping[str, Site | str]:
        """What is asked for of an object, by response key."""
        ...


class Site:
    """One field of one selection set on one object type.

    `attribute` is what it reads, where that is a plain attribute, or a path of them. `made` is what its resolver makes,
    where that is known. `method` takes the source alone, where the resolver wants no more. `call` gets the value in any
    case.
    """

    attribute: str | None = None
    made: Made | None = None
    method: Callable[[Any], Any] | None = None
    call: Call

    def __init__(
        self, shape: ShapeParts, parent: GraphQLObjectType, around: Site | None, key: str, nodes: list[FieldNode]
    ) -> None:
        self.shape = shape
        self.plan = shape.plan
        self.parent = parent
        self.around = around
        self.key = key
        self.nodes = nodes
        self.name = nodes[0].name.value
        self.definition: GraphQLField = parent.fields[self.name]
        self.type = self.definition.type
        self.is_required = is_non_null_type(self.type)
        self.strawberrys: StrawberryField | None = self.definition.extensions.get("strawberry-definition")
        self.objects: dict[str, Any] = {}
        """What is asked for of its value, by the name of the value's type."""

    @property
    def selection_sets(self) -> list[SelectionSetNode]:
        """What is asked for of its value."""
        return [node.selection_set for node in self.nodes if node.selection_set]
