"""The cost of an operation before it runs: the number of fields it may resolve, if every page is full.

`extensions.cost` of each response shows `requested` and `maximum`. The items of a connection are counted `first` or
`last` times, those of `nodes` once per id, the results of a batch once per item, and those of any other list
`LIST_SIZE` times. Lists of what a user has (`HELD`) are counted like other lists at first; if one turns out to be
longer, the rest is added before any of its items is resolved. What `@skip` or `@include` leaves out costs nothing. Each
fragment is measured once, so measuring costs no more than the document is long.

The cost of an operation is deducted from the budgets `cost` and `addressCost` of `WALLET_RATE_LIMITS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    Visitor,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
    visit,
)
from strawberry.extensions import SchemaExtension

from ...domain.annotations import PAIRS_MAX
from ...domain.merchants import SPLITS_MAX
from ...domain.money import EXPONENTS
from ...storage import PAGE_MAX
from ...verbs.summary import GROUPS_MAX
from ..catalogue.errors import PROBLEMS_MAX
from ..catalogue.operations import FILTER_COST, HASHING, LIST_SIZE, PASSWORD_COST
from .failures import OverLimit

COST_MAX: Final = 25_000
"""The highest cost of one operation: everything about a page of 80 entries for each of ten accounts."""

_CHANGED: Final = ("accounts", "entries", "holds", "topUps", "withdrawals")
HELD: Final = frozenset(
    {
        "User.accounts",
        "User.spendingLimits",
        "EventDelivery.positions",
        *(f"ViewerEvent.{name}" for name in _CHANGED),
    }
)
"""Lists whose length depends on the user. Their resolvers, or the subscription, call `Context.count_list`."""

_ONE_ENTRY: Final = ("TransferSuccess", "ReverseTransferSuccess", "CaptureHoldSuccess", "RefundPaymentSuccess")
"""The answers of mutations that make one entry on the account of whoever sends them."""

FIXED: Final[Mapping[str, int]] = {
    "Query.currencies": len(EXPONENTS),
    "Payee.currencies": len(EXPONENTS),
    **dict.fromkeys((f"{name}.entryEdges" for name in _ONE_ENTRY), 1),
    "PayMerchantSuccess.entryEdges": SPLITS_MAX + 1,
    "InvalidInput.problems": PROBLEMS_MAX,
    "Summary.groups": GROUPS_MAX,
    "Transfer.metadata": PAIRS_MAX,
}
"""Lists with a known greatest length."""

_READS: Final[Mapping[str, tuple[str, ...]]] = {
    "Transfer": ("account", "reverses", "hold", "topUp", "withdrawal", "merchant"),
    "Hold": ("account", "transfer"),
    "TopUp": ("account", "transfer"),
    "Withdrawal": ("account", "hold", "transfer"),
    "EventPosition": ("account",),
    "DeadLetter": ("account", "transfer"),
}
"""Fields that read an object of their own from the store."""

WORK: Final[Mapping[str, int]] = {
    **{f"{kind}.{name}": 10 for kind, names in _READS.items() for name in names},
    "Transfer.reversible": 100,
    **dict.fromkeys(("Transfer.version", "Versioned.version"), 100),
    **{f"{name}.entryEdges": 100 for name in (*_ONE_ENTRY, "PayMerchantSuccess")},
    "Account.statement": 200,
    "User.history": 200,
    "Account.summary": 2_500,
    "Query.preview": 50,
    "Account.balanceAt": 100,
    **{f"Mutation.{name}": PASSWORD_COST for name in HASHING},
}
"""The additional cost of fields that read more than they return, or that hash a password."""

_SIZES: Final = ("first", "last", "ids")
_FILTERS: Final = ("filter", "states")
_MEASURED: Final = frozenset({*_SIZES, *_FILTERS, "input"})

PRICES_MAX: Final = 256
"""For how many sets of sizes the cost of one document is kept."""


class Cost(SchemaExtension):
    """Measures each valid operation, refuses operations that cost too much, and reports the cost of the others.

    Listed behind `Checked`, which overwrites the list of errors.
    """

    def on_validate(self) -> Iterator[None]:
        """Measure."""
        context = self.execution_context
        if not context.pre_execution_errors and context.graphql_document is not None:
            meter = Meter(context.schema._schema, context.graphql_document, context.variables or {})  # noqa: SLF001
            price: Price = context.context.cost
            price.requested = meter.of_operation(context.operation_name)
            price.items = meter.items
            if price.requested > COST_MAX:
                context.pre_execution_errors = [_too_dear(price.requested)]
        yield

    def get_results(self) -> dict[str, Any]:
        """The entry for `extensions`."""
        return told_cost(self.execution_context.context.cost)


def told_cost(price: Price) -> dict[str, Any]:
    """What `extensions` of a response tell of the cost."""
    return {} if price.requested is None else {"cost": {"requested": price.requested, "maximum": COST_MAX}}


@dataclass(slots=True)
class Price:
    """The cost of one operation."""

    requested: int | None = None
    """The known cost; None before it is measured."""
    unpaid: int = 0
    """The cost of reading the request, if it is still to be deducted."""
    items: Mapping[str, int] = field(default_factory=dict)
    """The cost of one item of each list in `HELD`, at the place where it is highest."""

    def take(self) -> int:
        """The cost to deduct before the operation runs."""
        unpaid, self.unpaid = self.unpaid, 0
        return unpaid + (self.requested or 0)

    def add(self, name: str, length: int) -> int:
        """The cost of the items of a list that were not counted. Raises OverLimit: it is too high."""
        return self.charge(max(length - LIST_SIZE, 0) * self.items.get(name, 0))

    def charge(self, more: int) -> int:
        """A cost that shows only when the operation runs. Raises OverLimit: it is too high."""
        self.requested = (self.requested or 0) + more
        if more and self.requested > COST_MAX:
            raise _too_dear(self.requested)
        return more


def _too_dear(cost: int) -> OverLimit:
    return OverLimit(f"The operation costs {cost}, {COST_MAX} at most; ask for smaller pages.")


class Pricing:
    """What one operation costs, by its variables: measured once for each set of sizes that they give."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation_name: str | None) -> None:
        self._schema = schema
        self._document = document
        self._operation_name = operation_name
        seeker = _SizesSeeker()
        visit(document, seeker)
        self._names = sorted(seeker.names)
        self._known: dict[tuple[object, ...], tuple[int, Mapping[str, int]]] = {}

    def of(self, variables: Mapping[str, Any]) -> tuple[int, Mapping[str, int]]:
        """The cost with these variables, and that of one item of each list in `HELD`."""
        sizes = tuple([_as_measured(variables[name]) if name in variables else "absent" for name in self._names])
        found = self._known.get(sizes)
        if found is None:
            if len(self._known) >= PRICES_MAX:
                self._known.clear()
            meter = Meter(self._schema, self._document, variables)
            found = self._known[sizes] = meter.of_operation(self._operation_name), meter.items
        return found


class _SizesSeeker(Visitor):
    """Finds the variables that `Meter` looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_argument(self, node: ArgumentNode, *_: object) -> None:
        """Note those in arguments that say something of a size."""
        if node.name.value in _MEASURED:
            pending: list[ValueNode] = [node.value]
            while pending:
                value = pending.pop()
                if isinstance(value, VariableNode):
                    self.names.add(value.name.value)
                elif isinstance(value, ObjectValueNode):
                    pending.extend(one.value for one in value.fields)

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        """Note those that decide whether something is left out."""
        self.names.update(one.value.name.value for one in node.arguments or () if isinstance(one.value, VariableNode))


def _as_measured(value: object) -> object:
    """The size of a variable as `Meter` sees it, as a key: variables of one size are measured once."""
    if isinstance(value, dict):
        return ("items", _bounded(value["items"])) if "items" in value else "object"
    return None if value is None else _bounded(value)


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
        self.items: defaultdict[str, int] = defaultdict(int)
        """The cost of one item of each list in `HELD`, at the place where it is highest."""

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
        """The cost of one object of a type. Its lists have `page` items, if that is known."""
        selections = selection_set.selections if selection_set else ()
        return sum(self._of_selection(node, parent, page) for node in selections)

    def _of_selection(self, node: Any, parent: GraphQLCompositeType, page: int | None) -> int:
        if any(map(self._leaves_out, node.directives or ())):
            return 0
        if isinstance(node, FragmentSpreadNode):
            return self._of_fragment(node.name.value, page)
        if isinstance(node, InlineFragmentNode):
            return self._of(node.selection_set, self._condition(node) or parent, page)
        return self._of_field(node, parent, page)

    def _leaves_out(self, directive: DirectiveNode) -> bool:
        """Whether a directive is known to leave out what it stands at."""
        at = {"skip": True, "include": False}.get(directive.name.value)
        for argument in (directive.arguments or ()) if at is not None else ():
            value: Any = argument.value
            if isinstance(value, VariableNode):
                name = value.name.value
                value = self._variables[name] if name in self._variables else self._defaults.get(name)
            return (value.value if isinstance(value, BooleanValueNode) else value) is at
        return False

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
        name = f"{parent.name}.{node.name.value}"
        kind, asked = get_named_type(field.type), self._size(node)
        own = 1 + WORK.get(name, 0) + (FILTER_COST if self._is_filtered(node) else 0)
        if not is_composite_type(kind):
            return own
        if not is_list_type(get_nullable_type(field.type)):
            return own + self._of(node.selection_set, kind, asked)
        item = self._of(node.selection_set, kind)
        if name in HELD:
            self.items[name] = max(self.items[name], item)
        size = asked if asked is not None else FIXED.get(name, page)
        return own + (LIST_SIZE if size is None else size) * item

    def _is_filtered(self, node: FieldNode) -> bool:
        """Whether a field has a filter that is not null."""
        given = next((each.value for each in node.arguments or () if each.name.value in _FILTERS), None)
        if isinstance(given, VariableNode):
            given = self._variables.get(given.name.value, self._defaults.get(given.name.value))
        return given is not None and not isinstance(given, NullValueNode)

    def _size(self, node: FieldNode) -> int | None:
        """The size that a field asks for; None if it names none. Of `first` and `last` one may be there and null."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        if "input" in given:
            return self._items_of(given["input"])
        sizes = [value for name, value in given.items() if name in _SIZES]
        told = [self._number(value) for value in sizes if not self._is_null(value)]
        return max(told, default=PAGE_MAX if sizes else None)

    def _is_null(self, value: ValueNode) -> bool:
        """Whether an argument is null or, being a variable without a value or default, absent."""
        if isinstance(value, VariableNode):
            name = value.name.value
            return (self._variables[name] if name in self._variables else self._defaults.get(name)) is None
        return isinstance(value, NullValueNode)

    def _items_of(self, value: ValueNode | None) -> int | None:
        """The number of items in the input of a batch; None if it is not a batch."""
        if isinstance(value, VariableNode):
            given = self._variables.get(value.name.value)
            if isinstance(given, dict) and "items" in given:
                return _bounded(given["items"])
            return self._items_of(self._defaults.get(value.name.value)) if given is None else None
        if isinstance(value, ObjectValueNode):
            return next((self._number(one.value) for one in value.fields if one.name.value == "items"), None)
        return None

    def _number(self, value: ValueNode | None) -> int:
        """The size of a page, at most the largest allowed one: a larger page is refused when it runs."""
        if isinstance(value, IntValueNode):
            return _bounded(int(value.value))
        if isinstance(value, ListValueNode):
            return _bounded(len(value.values))
        if isinstance(value, VariableNode) and value.name.value in self._variables:
            return _bounded(self._variables[value.name.value])
        if isinstance(value, VariableNode) and self._defaults.get(value.name.value) is not None:
            return self._number(self._defaults[value.name.value])
        return PAGE_MAX


def _bounded(size: object) -> int:
    """A number, or the length of a list, up to the size of a page; a whole page if it is neither."""
    found = len(size) if isinstance(size, list) else size
    return min(max(found, 0), PAGE_MAX) if isinstance(found, int) else PAGE_MAX
