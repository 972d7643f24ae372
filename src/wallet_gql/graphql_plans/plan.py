"""One operation of one document, made ready to run: a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLObjectType,
    OperationType,
    SelectionSetNode,
    Undefined,
    VariableDefinitionNode,
    is_input_type,
    is_non_null_type,
    type_from_ast,
)
from graphql.execution.values import VariableValues, get_variable_values
from strawberry import Schema

from .fields import Field
from .inputs import Check, DoubtError, Inputs, Read
from .objects import compiled
from .running import Coroutine, Run
from .selections import TYPENAME, NotCoveredError, Selections, operation_of
from .site import Site

ERRORS_MAX: Final = 50
"""How many errors of variables are told: as many as graphql-core's `execute` tells."""

SHAPES_MAX: Final = 16
"""For how many combinations of what `@skip` and `@include` say a plan is kept compiled."""


class _Variable(NamedTuple):
    name: str
    check: Check
    default: Read | None
    is_required: bool


class Plan:
    """One operation of a valid document. It belongs to no request: what a request brings is in its `Run`.

    Raises:
        NotCoveredError: there is something in it that plans do not cover.
    """

    def __init__(self, schema: Schema, inputs: Inputs, document: DocumentNode, operation_name: str | None) -> None:
        self.schema = schema
        self.graphql_schema = schema._schema  # noqa: SLF001 - nothing public has it
        self.inputs = inputs
        self.operation = operation_of(document, operation_name)
        root = self.graphql_schema.get_root_type(self.operation.operation)
        if root is None or self.operation.operation is OperationType.SUBSCRIPTION:
            raise NotCoveredError("subscriptions")
        self.root = root
        self.selections = Selections(self.graphql_schema, document, self.operation)
        self._variables = [self._variable(node) for node in self.operation.variable_definitions or ()]
        self._shapes: dict[tuple[Any, ...], Shape] = {}

    def _variable(self, node: VariableDefinitionNode) -> _Variable:
        kind = type_from_ast(self.graphql_schema, node.type)
        assert is_input_type(kind)  # the document is valid
        default = self.inputs.reader(node.default_value, kind) if node.default_value else None
        return _Variable(node.variable.name.value, self.inputs.checker(kind), default, is_non_null_type(kind))

    def prepare(self, variables: Mapping[str, Any] | None) -> Prepared:
        """Check what a request brings.

        Raises:
            NotCoveredError: what `@skip` or `@include` say is no boolean.
        """
        given = variables or {}
        try:
            checked = self._check(given)
        except InvalidVariablesError as invalid:
            return Prepared(None, {}, given, invalid.errors)
        return Prepared(self._shape(checked), checked, given, [])

    def _shape(self, variables: Mapping[str, Any]) -> Shape:
        said: tuple[Any, ...] = tuple([variables.get(name) for name in self.selections.conditions])
        shape = self._shapes.get(said)
        if shape is None:
            if not all(value is True or value is False for value in said):
                raise NotCoveredError("a condition that is no boolean")
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            shape = self._shapes[said] = Shape(self, dict(zip(self.selections.conditions, said, strict=True)))
        return shape

    def _check(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables, checked and with their defaults. Raises InvalidVariablesError."""
        checked = {}
        try:
            for name, check, default, is_required in self._variables:
                value = given.get(name, Undefined)
                if value is not Undefined:
                    checked[name] = check(value)
                elif default is not None:
                    checked[name] = default({})
                elif is_required:
                    raise DoubtError  # noqa: TRY301 - the others raise it deeper inside
        except Exception:  # noqa: BLE001 - DoubtError, or what a type of the schema raises about a value
            return self.variable_values(given).coerced
        return checked

    def variable_values(self, given: Mapping[str, Any]) -> VariableValues:
        """The same by graphql-core. Raises InvalidVariablesError."""
        found = get_variable_values(
            self.graphql_schema, self.operation.variable_definitions or (), dict(given), ERRORS_MAX
        )
        if isinstance(found, list):
            raise InvalidVariablesError(found)
        return found


class InvalidVariablesError(Exception):
    """Variables do not fit the operation; nothing has run."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(len(errors))
        self.errors = errors


class Shape:
    """A plan for what `@skip` and `@include` say in some requests: which fields there are is settled."""

    def __init__(self, plan: Plan, conditions: Mapping[str, bool]) -> None:
        self.plan = plan
        self._conditions = conditions
        fields = self.fields_of(plan.root, [plan.operation.selection_set], None)
        self._is_serial = plan.operation.operation is OperationType.MUTATION
        self._fields = fields
        self._answer = None if self._is_serial else compiled(fields)

    def fields_of(
        self, kind: GraphQLObjectType, selection_sets: Sequence[SelectionSetNode], around: Site | None
    ) -> dict[str, Field | str]:
        """What is asked for of an object, by response key."""
        found = self.plan.selections.collect(kind, selection_sets, self._conditions)
        return {
            key: kind.name if nodes[0].name.value == TYPENAME else Field(self, kind, around, key, nodes)
            for key, nodes in found.items()
        }

    async def answer(self, run: Run) -> dict[str, Any]:
        """The data. Raises GraphQLError: there is none."""
        if self._answer is None:
            return await self._one_by_one(run)
        found = self._answer(run.root, None, run)
        answer: dict[str, Any] = await found if found.__class__ is Coroutine else found
        return answer

    async def _one_by_one(self, run: Run) -> dict[str, Any]:
        """Mutations: each begins when the one before is finished."""
        answer: dict[str, Any] = {}
        for key, field in self._fields.items():
            answer[key] = field if isinstance(field, str) else await field.run(run.root, run)
        return answer


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the variables of one request, ready to run."""

    shape: Shape | None
    """None: the variables do not fit."""
    variables: Mapping[str, Any]
    given: Mapping[str, Any]
    errors: list[GraphQLError]

    async def run(
        self, context: object = None, root: object = None, extensions: Mapping[str, Any] | None = None
    ) -> ExecutionResult:
        """Run it; `extensions` are those of the request."""
        if self.shape is None:
            return ExecutionResult(None, self.errors)
        run = Run(self.variables, self.given, context, root, extensions)
        data = None
        try:
            data = await self.shape.answer(run)
        except GraphQLError as error:
            run.add(error, None)
        return ExecutionResult(data, run.errors or None)
