"""The limits of one document. The rules are built once at import, so that the cache of validated documents works.

Depth and aliases are measured with each fragment measured once. A rule that follows fragments at every spread, like
those that Strawberry ships, takes 2^100 steps for a hundred fragments that each spread the next one twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    NameNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

from ..catalogue.operations import HASHING, KEYED
from .failures import BadRequest, OverLimit

DEPTH_MAX: Final = 12
"""The deepest nesting of fields; introspection has its own rule."""

TOKENS_MAX: Final = 1_000
ALIASES_MAX: Final = 15
DIRECTIVES_MAX: Final = 50
FIELDS_MAX: Final = 400
BRANCHES_MAX: Final = 30
"""The most fields of one response key with a selection set: validation compares each with each."""

LEAVES_MAX: Final = 100
"""The most fields of one response key without a selection set."""

SPREADS_MAX: Final = 60
NAME_MAX: Final = 100
"""The longest name, in characters: an alias is repeated in the answer for each item of a list."""

DIGITS_MAX: Final = 40
"""The longest number, in digits: a document could be a quarter of a million digits, which take too long to convert."""

MONEY_MUTATIONS_MAX: Final = 5
"""The most mutations that take one or more idempotency keys. A batch counts once here: it has a limit of its own."""

_PARTS_MAX: Final[Mapping[str, tuple[str, int, str]]] = {
    "document": ("definitions", 100, "operations and fragments"),
    "operation_definition": ("variable_definitions", 50, "variables"),
    "field": ("arguments", 20, "arguments at one field"),
    "directive": ("arguments", 10, "arguments at one directive"),
    "object_value": ("fields", 30, "fields in one input"),
}
"""For each kind of node: its list of parts, how many there may be, and their name in errors."""


@dataclass(frozen=True, slots=True)
class _Measure:
    depth: int = 0
    aliases: int = 0


class LimitsRule(ValidationRule):
    """Refuses documents that are too deep or too long, or have too many aliases, directives or costly mutations.

    It runs before the rules of the specification: one of them compares all fields with the same response key with one
    another, so that a thousand tokens could take half a second.
    """

    directives = spreads = fields = 0

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._alike: Counter[tuple[str, bool]] = Counter()

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        """Count the field, and the fields that validation compares it with."""
        self.fields += 1
        if self.fields == FIELDS_MAX + 1:
            self.report_error(OverLimit(f"The document has more than {FIELDS_MAX} fields."))
        key, is_branch = _response_key(node), node.selection_set is not None
        self._alike[key, is_branch] += 1
        most = BRANCHES_MAX if is_branch else LEAVES_MAX
        if self._alike[key, is_branch] == most + 1:
            self.report_error(OverLimit(f"The document has more than {most} fields that are answered under one name."))

    def enter_fragment_spread(self, *_: Any) -> None:
        """Count the spread."""
        self.spreads += 1
        if self.spreads == SPREADS_MAX + 1:
            self.report_error(OverLimit(f"The document spreads more than {SPREADS_MAX} fragments."))

    def enter_int_value(self, node: IntValueNode, *_: Any) -> None:
        """Measure the number."""
        self._check_digits(node.value)

    def enter_float_value(self, node: FloatValueNode, *_: Any) -> None:
        """Measure the number."""
        self._check_digits(node.value)

    def _check_digits(self, number: str) -> None:
        if len(number) > DIGITS_MAX:
            self.report_error(BadRequest(f"A number has more than {DIGITS_MAX} characters."))

    def enter_directive(self, *_: Any) -> None:
        """Count the directive."""
        self.directives += 1
        if self.directives == DIRECTIVES_MAX + 1:
            self.report_error(OverLimit(f"The document has more than {DIRECTIVES_MAX} directives."))

    def enter_document(self, document: DocumentNode, *_: Any) -> None:
        """Measure the whole document at once."""
        meter = Meter(document)
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        measures = [meter.of(node.selection_set) for node in operations]
        if any(measure.depth > DEPTH_MAX for measure in measures):
            self.report_error(OverLimit(f"The document is nested deeper than {DEPTH_MAX} fields."))
        aliases = sum(measure.aliases for measure in measures)
        if aliases > ALIASES_MAX:
            self.report_error(OverLimit(f"The document has more than {ALIASES_MAX} aliases."))
        self._check_mutations([root.name.value for node in operations for root in meter.roots(node).values()])

    def _check_mutations(self, names: list[str]) -> None:
        if sum(name in KEYED for name in names) > MONEY_MUTATIONS_MAX:
            self.report_error(OverLimit(f"A document may move money {MONEY_MUTATIONS_MAX} times; send several."))
        for name in HASHING:
            if names.count(name) > 1:
                self.report_error(OverLimit(f"A document may contain {name} once."))


class PartsRule(ValidationRule):
    """Refuses nodes with too many parts, and names that are too long."""

    def enter(self, node: Node, *_: Any) -> None:
        """Measure any node."""
        if node.kind in _PARTS_MAX:
            attribute, most, called = _PARTS_MAX[node.kind]
            if len(getattr(node, attribute) or ()) > most:
                self.report_error(OverLimit(f"The document has more than {most} {called}."))
        for attribute in ("name", "alias"):
            name = getattr(node, attribute, None)
            if isinstance(name, NameNode) and len(name.value) > NAME_MAX:
                self.report_error(OverLimit(f"A name has more than {NAME_MAX} characters."))


def _response_key(node: FieldNode) -> str:
    return node.alias.value if node.alias else node.name.value


class Meter:
    """Measures selection sets, and each fragment once."""

    def __init__(self, document: DocumentNode) -> None:
        fragments = (node for node in document.definitions if isinstance(node, FragmentDefinitionNode))
        self._fragments = {node.name.value: node.selection_set for node in fragments}
        self._known: dict[str, _Measure] = {}

    def of(self, selection_set: SelectionSetNode | None) -> _Measure:
        """The deepest nesting, and the number of aliases with every spread counted."""
        if selection_set is None:
            return _Measure()
        parts = [self._of_selection(node) for node in selection_set.selections]
        return _Measure(max((part.depth for part in parts), default=0), sum(part.aliases for part in parts))

    def _of_selection(self, node: Any) -> _Measure:
        if isinstance(node, FragmentSpreadNode):
            return self._of_fragment(node.name.value)
        inner = self.of(node.selection_set)
        if isinstance(node, InlineFragmentNode):
            return inner
        depth = 0 if node.name.value.startswith("__") else inner.depth + 1
        return _Measure(depth, inner.aliases + (node.alias is not None))

    def _of_fragment(self, name: str) -> _Measure:
        if name not in self._known:
            self._known[name] = _Measure()  # the value within a cycle, which another rule refuses
            self._known[name] = self.of(self._fragments.get(name))
        return self._known[name]

    def roots(self, operation: OperationDefinitionNode) -> Mapping[str, FieldNode]:
        """The top fields of an operation by response key: those with the same one are executed once and count once."""
        return {_response_key(node): node for node in self._top_fields(operation.selection_set, set())}

    def _top_fields(self, selection_set: SelectionSetNode | None, seen: set[str]) -> Iterator[FieldNode]:
        for node in selection_set.selections if selection_set else ():
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, InlineFragmentNode):
                yield from self._top_fields(node.selection_set, seen)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                yield from self._top_fields(self._fragments.get(node.name.value), seen)
