"""What an operation costs before it runs: the number of fields it may resolve, with every page as large as it asks for.

`extensions.cost` of each response tells `requested` and `maximum`. The items of a connection count as often as its
`first` says, `nodes` as often as it has ids, those of any other list `LIST_SIZE` times. Introspection costs nothing,
for other limits hold it. Each fragment is measured once, so measuring costs no more than the document is long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)
from strawberry.extensions import SchemaExtension

from ...storage import PAGE_MAX
from .failures import OverLimit

COST_MAX: Final = 25_000
"""The most that one operation may cost: all there is of a page of 80 entries for each of ten accounts."""

LIST_SIZE: Final = 10
"""What a list counts that takes no `first`."""

_SIZES: Final = ("first", "ids")


class Cost(SchemaExtension):
    """Measures each operation that is valid, refuses those that cost too much, tells the others what they cost.

    Listed behind `Checked`, which overwrites the list of errors.
    """

    requested: int | None = None

    def on_validate(self) -> Iterator[None]:
        """Measure."""
        context = self.execution_context
        if not context.pre_execution_errors and context.graphql_document is not None:
            meter = Meter(context.schema._schema, context.graphql_document, context.variables or {})  # noqa: SLF001
            self.requested = meter.of_operation(context.operation_name)
            if self.requested > COST_MAX:
                message = f"The operation costs {self.requested}, {COST_MAX} at most; ask for smaller pages."
                context.pre_execution_errors = [OverLimit(message)]
        yield

    def get_results(self) -> dict[str, Any]:
        """What goes into `extensions`."""
        return {} if self.requested is None else {"cost": {"requested": self.requested, "maximum": COST_MAX}}


class Meter:
    """Measures one operation of a valid document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._document = document
        self._variables = variables
        nodes = (node for node in document.definitions if isinstance(node, FragmentDefinitionNode))
        self._fragments = {node.name.value: node for node in nodes}
        self._known: dict[tuple[str, int | None], int] = {}
        self._defaults: dict[str, ValueNode | None] = {}

    def of_operation(self, name: str | None) -> int:
        """The cost of the operation that will run."""
        for node in self._document.definitions:
            if isinstance(node, OperationDefinitionNode) and (node.name.value if node.name else None) == name:
                definitions = node.variable_definitions or ()
                self._defaults = {each.variable.name.value: each.default_value for each in definitions}
                root = self._schema.get_root_type(node.operation)
                return self._of(node.selection_set, root) if root else 0
        return 0

    def _of(self, selection_set: SelectionSetNode | None, parent: GraphQLCompositeType, page: int | None = None) -> int:
        """The cost of one object of a type; its lists have `page` items, if that is known."""
        selections = selection_set.selections if selection_set else ()
        return sum(self._of_selection(node, parent, page) for node in selections)

    def _of_selection(self, node: Any, parent: GraphQLCompositeType, page: int | None) -> int:
        if isinstance(node, FragmentSpreadNode):
            return self._of_fragment(node.name.value, page)
        if isinstance(node, InlineFragmentNode):
            return self._of(node.selection_set, self._condition(node) or parent, page)
        return self._of_field(node, parent, page)

    def _of_fragment(self, name: str, page: int | None) -> int:
        key = name, page
        if key not in self._known:
            node = self._fragments[name]
            kind = self._condition(node)
            self._known[key] = self._of(node.selection_set, kind, page) if kind else 0
        return self._known[key]

    def _condition(self, node: InlineFragmentNode | FragmentDefinitionNode) -> GraphQLCompositeType | None:
        kind = self._schema.get_type(node.type_condition.name.value) if node.type_condition else None
        return kind if is_composite_type(kind) else None

    def _of_field(self, node: FieldNode, parent: GraphQLCompositeType, page: int | None) -> int:
        field = getattr(parent, "fields", {}).get(node.name.value)
        if field is None:  # introspection
            return 0
        kind, asked = get_named_type(field.type), self._size(node)
        if not is_composite_type(kind):
            return 1
        if not is_list_type(get_nullable_type(field.type)):
            return 1 + self._of(node.selection_set, kind, asked)
        size = asked if asked is not None else page
        return 1 + (LIST_SIZE if size is None else size) * self._of(node.selection_set, kind)

    def _size(self, node: FieldNode) -> int | None:
        """What a field says of its size; None if nothing."""
        for argument in node.arguments or ():
            if argument.name.value in _SIZES:
                return self._number(argument.value)
        return None

    def _number(self, value: ValueNode | None) -> int:
        """A page's size, never more than a page may have: a larger one is refused when it runs."""
        given: Any = None
        if isinstance(value, IntValueNode):
            given = int(value.value)
        elif isinstance(value, ListValueNode):
            given = len(value.values)
        elif isinstance(value, VariableNode) and value.name.value in self._variables:
            given = self._variables[value.name.value]
            given = len(given) if isinstance(given, list) else given
        elif isinstance(value, VariableNode) and self._defaults.get(value.name.value) is not None:
            return self._number(self._defaults[value.name.value])
        return min(max(given, 0), PAGE_MAX) if isinstance(given, int) else PAGE_MAX
