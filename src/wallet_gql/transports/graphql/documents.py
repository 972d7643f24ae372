"""Trusted documents: a manifest of all documents that a client will ever send, made when the client is built.

`WALLET_TRUSTED_DOCUMENTS` is `off` (ids are not looked up), `prefer` (a document may be sent by its id or in full) or
`only` (no other documents are run, so that nobody can send costly queries).

The manifest is JSON, `{id: document}`, as graphql-codegen (`sha256:…`) and Relay (bare hexadecimal digits of MD5, SHA-1
or SHA-256) write it. A client names a document by `documentId`, or by `extensions.persistedQuery.sha256Hash` as Apollo
Client and urql do. Nothing is ever registered at run time: a hash that is not in the manifest gets
`PERSISTED_QUERY_NOT_FOUND`, and those clients then send the document itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from graphql import GraphQLError, parse

from ...domain.errors import ConfigurationError
from ...settings import Settings, TrustedDocuments
from ..catalogue.errors import (
    DOCUMENT_NOT_TRUSTED,
    LIMIT_EXCEEDED,
    PERSISTED_QUERY_NOT_FOUND,
    PERSISTED_QUERY_NOT_SUPPORTED,
)
from .asked import Asked
from .failures import Fault, Unanswerable

DOCUMENT_MAX: Final = 16_384
"""The longest document that is parsed, in characters; documents of the manifest may be longer."""

_PREFIX: Final = "sha256:"
_DIGEST: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_ALGORITHMS: Final = {32: "md5", 40: "sha1", 64: "sha256"}
"""The algorithm by the number of digits. Collisions of the old ones do no harm: ids are looked up, never computed."""


class Documents:
    """The documents of a manifest, by digest."""

    def __init__(self, mode: TrustedDocuments, by_digest: Mapping[str, str]) -> None:
        self._mode = mode
        self._by_digest = by_digest
        self._texts = frozenset(by_digest.values())

    @classmethod
    def load(cls, settings: Settings) -> Documents:
        """Read the settings' manifest. Raises ConfigurationError: it cannot be read, or an id is not its document's."""
        mode, file = settings.trusted_documents, settings.trusted_documents_file
        if mode is TrustedDocuments.OFF:
            return cls(mode, {})
        if not file:
            raise ConfigurationError(
                f"WALLET_TRUSTED_DOCUMENTS_FILE: name the manifest, as WALLET_TRUSTED_DOCUMENTS={mode} needs one"
            )
        try:
            manifest = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"WALLET_TRUSTED_DOCUMENTS_FILE: {file} cannot be read: {error}") from error
        return cls(mode, read_manifest(manifest))

    def text_of(self, asked: Asked) -> str:
        """The document that a request names or contains. Raises Unanswerable."""
        if asked.document_id is not None:
            return self._by_id(asked)
        digest = _persisted(asked.extensions)
        if not asked.query:
            return self._by_hash(digest)
        if digest is not None and hashlib.sha256(asked.query.encode()).hexdigest() != digest:
            raise Unanswerable(Fault.REQUEST, "sha256Hash is not the SHA-256 of the query that came with it.")
        return self._by_text(asked.query)

    def _by_id(self, asked: Asked) -> str:
        if asked.query is not None:
            raise Unanswerable(Fault.REQUEST, "Send either documentId or query, not both.")
        return self._find((asked.document_id or "").removeprefix(_PREFIX))

    def _by_hash(self, digest: str | None) -> str:
        if digest is None:
            raise Unanswerable(Fault.REQUEST, 'Send a query, as in {"query": "{ … }"}.')
        return self._find(digest)

    def _by_text(self, query: str) -> str:
        if len(query) > DOCUMENT_MAX:
            message = f"The document has more than {DOCUMENT_MAX} characters; send values as variables."
            raise Unanswerable(Fault.PARSE, message, LIMIT_EXCEEDED)
        if self._mode is TrustedDocuments.ONLY and query not in self._texts:
            message = "This server runs only the documents of its manifest; name one by documentId."
            raise Unanswerable(Fault.DOCUMENT, message, DOCUMENT_NOT_TRUSTED)
        return query

    def _find(self, digest: str) -> str:
        if self._mode is TrustedDocuments.OFF:
            raise Unanswerable(Fault.DOCUMENT, "PersistedQueryNotSupported", PERSISTED_QUERY_NOT_SUPPORTED)
        found = self._by_digest.get(digest)
        if found is None:
            raise Unanswerable(Fault.DOCUMENT, "PersistedQueryNotFound", PERSISTED_QUERY_NOT_FOUND)
        return found


def read_manifest(manifest: Any) -> dict[str, str]:
    """The documents by digest. Raises ConfigurationError, naming the first fault."""
    if not isinstance(manifest, dict):
        raise ConfigurationError("the manifest of trusted documents must be one JSON object: id to document")
    found: dict[str, str] = {}
    for name, text in manifest.items():
        digest = name.removeprefix(_PREFIX)
        if not _DIGEST.fullmatch(digest) or not isinstance(text, str):
            raise ConfigurationError(f"trusted documents: {name!r} is no digest, or its document is no text")
        made = hashlib.new(_ALGORITHMS[len(digest)], text.encode(), usedforsecurity=False).hexdigest()
        if made != digest:
            raise ConfigurationError(f"trusted documents: {name} is not the digest of its document; make it anew")
        try:
            parse(text)
        except GraphQLError as error:
            raise ConfigurationError(f"trusted documents: {name}: {error.message}") from error
        found[digest] = text
    return found


def _persisted(extensions: Mapping[str, Any] | None) -> str | None:
    """The hash in `extensions.persistedQuery`; None if there is none. Raises Unanswerable."""
    given = (extensions or {}).get("persistedQuery")
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("version") != 1 or not isinstance(given.get("sha256Hash"), str):
        raise Unanswerable(Fault.REQUEST, 'extensions.persistedQuery must be {"version": 1, "sha256Hash": "…"}.')
    return str(given["sha256Hash"])
