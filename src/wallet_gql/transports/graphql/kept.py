"""The documents that a process keeps parsed: those that were found valid, the most recently used of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from graphql import DocumentNode

DOCUMENTS_KEPT: Final = 128
"""How many valid documents a process keeps parsed."""


class Kept:
    """Documents by their text. A document that is not kept must be parsed, which costs time: see `reading`."""

    def __init__(self, most: int = DOCUMENTS_KEPT) -> None:
        self._most = most
        self._documents: OrderedDict[str, DocumentNode] = OrderedDict()

    def __contains__(self, text: str) -> bool:
        """Whether the document is kept."""
        return text in self._documents

    def __len__(self) -> int:
        """The number of kept documents."""
        return len(self._documents)

    def find(self, text: str) -> DocumentNode | None:
        """The document, if it is kept."""
        found = self._documents.get(text)
        if found is not None:
            self._documents.move_to_end(text)
        return found

    def keep(self, text: str, document: DocumentNode) -> None:
        """Keep a valid document, and drop the least recently used one."""
        self._documents[text] = document
        if len(self._documents) > self._most:
            self._documents.popitem(last=False)

    def use(self, text: str, document: DocumentNode) -> None:
        """Keep a valid document that was just used, though nobody looked for it here."""
        if self.find(text) is None:
            self.keep(text, document)

    def clear(self) -> None:
        """Drop all documents."""
        self._documents.clear()


KEPT: Final = Kept()
"""The documents of this process, which has one schema."""
