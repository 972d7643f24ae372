"""Which fields an object is asked for, once it is known what `@skip` and `@include` say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    is_abstract_type,
)

TYPENAME: Final = "__typename"

Selection = FieldNode | FragmentSpreadNode | InlineFragmentNode


class NotCoveredError(Exception):
    """An operation that plans do not cover; graphql-core runs it."""


def operation_of(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation to run. Raises NotCoveredError: there is none of that name, or several and no name."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        operations = [node for node in operations if node.name and node.name.value == name]
    if len(operations) != 1:
        raise NotCoveredError(f"{len(operations)} operations")
    return operations[0]


class Selections:
    """The selection sets of one operation of a valid document.

    Raises:
        NotCoveredError: there is something in the document that plans do not cover.
    """

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        nodes = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
        self.fragments: Mapping[str, FragmentDefinitionNode] = {node.name.value: node for node in nodes}
        if operation.directives or any(node.variable_definitions for node in nodes):
            raise NotCoveredError("directives of an operation, or arguments of a fragment")
        names: set[str] = set()
        for selection_set in (operation.selection_set, *(node.selection_set for node in nodes)):
            for selection in _selections(selection_set):
                names.update(_condition_variables(selection))
        self.conditions: tuple[str, ...] = tuple(sorted(names))
        """The variables that decide, by `@skip` or `@include`, what is selected."""

    def collect(
        self, kind: GraphQLObjectType, selection_sets: Sequence[SelectionSetNode], conditions: Mapping[str, bool]
    ) -> dict[str, list[FieldNode]]:
        """Response key -> the fields that are answered under it, in the order of the answer."""
        found: dict[str, list[FieldNode]] = {}
        seen: set[str] = set()
        for selection_set in selection_sets:
            self._collect(kind, selection_set, conditions, found, seen)
        return found

    def _collect(
        self,
        kind: GraphQLObjectType,
        selection_set: SelectionSetNode,
        conditions: Mapping[str, bool],
        found: dict[str, list[FieldNode]],
        seen: set[str],
    ) -> None:
        for node in selection_set.selections:
            if not _is_included(node, conditions):
                continue
            if isinstance(node, FieldNode):
                found.setdefault((node.alias or node.name).value, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                if self._applies(node, kind):
                    self._collect(kind, node.selection_set, conditions, found, seen)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                fragment = self.fragments[node.name.value]
                if self._applies(fragment, kind):
                    seen.add(node.name.value)
                    self._collect(kind, fragment.selection_set, conditions, found, seen)

    def _applies(self, fragment: FragmentDefinitionNode | InlineFragmentNode, kind: GraphQLObjectType) -> bool:
        if fragment.type_condition is None:
            return True
        condition = self._schema.get_type(fragment.type_condition.name.value)
        return condition is kind or (is_abstract_type(condition) and self._schema.is_sub_type(condition, kind))


def _selections(selection_set: SelectionSetNode) -> Iterator[Selection]:
    pending = [selection_set]
    while pending:
        for node in pending.pop().selections:
            assert isinstance(node, Selection)
            if isinstance(node, FieldNode) and node.name.value.startswith("__") and node.name.value != TYPENAME:
                raise NotCoveredError("introspection")
            yield node
            if isinstance(node, FragmentSpreadNode):
                if node.arguments:
                    raise NotCoveredError("arguments of a fragment")
            elif node.selection_set:
                pending.append(node.selection_set)


def _condition_variables(node: Selection) -> Iterator[str]:
    for directive in node.directives or ():
        if directive.name.value not in {"skip", "include"}:
            raise NotCoveredError(f"@{directive.name.value}")
        value = directive.arguments[0].value if directive.arguments else None
        if isinstance(value, VariableNode):
            yield value.name.value
        elif not isinstance(value, BooleanValueNode):
            raise NotCoveredError(f"@{directive.name.value} without a value")


def _is_included(node: object, conditions: Mapping[str, bool]) -> bool:
    assert isinstance(node, Selection)
    for directive in node.directives or ():
        if _value(directive, conditions) is (directive.name.value == "skip"):
            return False
    return True


def _value(directive: DirectiveNode, conditions: Mapping[str, bool]) -> bool:
    value = directive.arguments[0].value if directive.arguments else None
    if isinstance(value, VariableNode):
        return conditions[value.name.value]
    assert isinstance(value, BooleanValueNode)
    return value.value
