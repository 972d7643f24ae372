"""What an operation costs before it runs: the number of fields it may resolve, with every page as large as it asks for.

`extensions.cost` of each response tells `requested` and `maximum`. A list that takes `first` counts as often as that
says, `nodes` as often as it has ids, any other list as `LIST_SIZE`; introspection costs nothing, for other limits hold
it. Each fragment is measured once, so that measuring costs no more than the document is long.
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
    GraphQLOutputType,
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
"""The most that one operation may cost: a history page of 100 for each of ten accounts, with all that there is."""

LIST_SIZE: Final = 10
"""What a list counts that takes no `first`."""

_SIZES: Final = ("first", "ids")


class Cost(SchemaExtension):
    """Measures each operation that is valid, refuses those that cost too much, tells the others what they cost.

    Listed behind the validation cache, which overwrites the list of errors.
    """

    requested: int | None = None

    def on_validate(self) -> Iterator[None]:
        """Measure."""
        context = self.execution_context
        if not context.pre_execution_errors and context.graphql_document is not None:
            meter = _Meter(context.schema._schema, context.graphql_document, context.variables or {})  # noqa: SLF001
            self.requested = meter.of_operation(context.operation_name)
            if self.requested > COST_MAX:
                message = f"The operation costs {self.requested}, {COST_MAX} at most; ask for smaller pages."
                context.pre_execution_errors = [OverLimit(message)]
        yield

    def get_results(self) -> dict[str, Any]:
        """What goes into `extensions`."""
        return {} if self.requested is None else {"cost": {"requested": self.requested, "maximum": COST_MAX}}


class _Meter:
    """Measures one operation of a valid document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._document = document
        self._variables = variables
        nodes = (node for node in document.definitions if isinstance(node, FragmentDefinitionNode))
        self._fragments = {node.name.value: node for node in nodes}
        self._known: dict[str, int] = {}
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

    def _of(self, selection_set: SelectionSetNode | None, parent: GraphQLCompositeType) -> int:
        return sum(self._of_selection(node, parent) for node in selection_set.selections) if selection_set else 0

    def _of_selection(self, node: Any, parent: GraphQLCompositeType) -> int:
        if isinstance(node, FragmentSpreadNode):
            return self._of_fragment(node.name.value)
        if isinstance(node, InlineFragmentNode):
            return self._of(node.selection_set, self._condition(node) or parent)
        return self._of_field(node, parent)

    def _of_fragment(self, name: str) -> int:
        if name not in self._known:
            node = self._fragments[name]
            kind = self._condition(node)
            self._known[name] = self._of(node.selection_set, kind) if kind else 0
        return self._known[name]

    def _condition(self, node: InlineFragmentNode | FragmentDefinitionNode) -> GraphQLCompositeType | None:
        kind = self._schema.get_type(node.type_condition.name.value) if node.type_condition else None
        return kind if is_composite_type(kind) else None

    def _of_field(self, node: FieldNode, parent: GraphQLCompositeType) -> int:
        field = getattr(parent, "fields", {}).get(node.name.value)
        if field is None:  # introspection
            return 0
        kind = get_named_type(field.type)
        inner = self._of(node.selection_set, kind) if is_composite_type(kind) else 0
        return 1 + self._size(node, field.type) * inner

    def _size(self, node: FieldNode, kind: GraphQLOutputType) -> int:
        """How many times what is below a field is resolved."""
        for argument in node.arguments or ():
            if argument.name.value in _SIZES:
                return self._number(argument.value)
        return LIST_SIZE if is_list_type(get_nullable_type(kind)) else 1

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
