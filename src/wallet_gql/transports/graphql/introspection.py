"""Refuses introspection in production, unless `WALLET_INTROSPECTION` allows it; developers have `schema.graphql`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from graphql import FieldNode, Visitor, visit
from strawberry.extensions import SchemaExtension

from ...settings import Mode
from .context import Context
from .failures import BadRequest

_MAYBE: Final = re.compile(r"__(schema|type)\b")
_HIDDEN: Final = ("__schema", "__type")


class HideSchema(SchemaExtension):
    """Refuses introspection in production. Not a validation rule: validated documents are cached for all modes."""

    def on_validate(self) -> Iterator[None]:
        """Add an error where the document asks for the schema."""
        execution = self.execution_context
        context: Context = execution.context
        settings = context.wallet.settings
        if settings.mode is Mode.PRODUCTION and not settings.introspection and _MAYBE.search(execution.query or ""):
            seeker = _Seeker()
            if execution.graphql_document is not None:
                visit(execution.graphql_document, seeker)
            if seeker.found:
                execution.pre_execution_errors = [BadRequest("The schema is not told here; see schema.graphql.")]
        yield


class _Seeker(Visitor):
    found = False

    def enter_field(self, node: FieldNode, *_: object) -> None:
        self.found = self.found or node.name.value in _HIDDEN
