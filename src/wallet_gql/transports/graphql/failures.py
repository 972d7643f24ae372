"""Unexpected failures: the top-level `errors` of a response, and what of them a client may see.

| code | when | retryable |
|---|---|---|
| `BAD_REQUEST` | the document, its variables or an argument is wrong | no |
| `LIMIT_EXCEEDED` | the document is too deep, too long, or asks for too much at once | no |
| `UNAUTHENTICATED` | there is no session, or it is over | no: log in first |
| `UNAVAILABLE` (and its kinds) | a read met a busy or absent server | yes |
| `INTERNAL` | our bug; the log has it under the same request id | no |
"""

from __future__ import annotations

import logging
from typing import Final

from graphql import GraphQLError, GraphQLSyntaxError
from graphql.validation.validate import ValidationAbortedError

from ...domain.errors import InDoubt, Rejected, Unauthenticated, Unavailable, WalletError
from ..logs import REQUEST_ID

log = logging.getLogger(__name__)

BAD_REQUEST: Final = "BAD_REQUEST"
LIMIT_EXCEEDED: Final = "LIMIT_EXCEEDED"
INTERNAL: Final = "INTERNAL"
_TELLABLE: Final = (Unauthenticated, Unavailable, InDoubt, Rejected)


class BadRequest(GraphQLError):
    """An argument is wrong in a way that the schema cannot say."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": BAD_REQUEST})


class OverLimit(GraphQLError):
    """A document asks for more than the limits allow."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": LIMIT_EXCEEDED})


def cause_of(error: GraphQLError) -> Exception | None:
    """What a resolver raised; None if the client's document, variables or arguments are at fault."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def public(error: GraphQLError) -> GraphQLError:
    """A copy for the client: with code, request id and retryability; masked where it is our own bug."""
    cause = cause_of(error)
    message, code, retryable = error.message, _code_of(error), False
    if isinstance(cause, _TELLABLE):
        message, code, retryable = cause.message, cause.code, cause.retryable
    elif cause is not None:
        message, code = "something went wrong on our side; the request id helps us find it", INTERNAL
    extensions = {"code": code, "requestId": REQUEST_ID.get(), "retryable": retryable}
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, extensions=extensions)


def report(error: GraphQLError) -> None:
    """Log our own bugs with their traceback, and nothing of what clients mistype."""
    cause = cause_of(error)
    if cause is None or isinstance(cause, _TELLABLE):
        log.debug("answered with %s", cause.code if isinstance(cause, WalletError) else _code_of(error))
    else:
        path = ".".join(str(part) for part in error.path or ())
        log.error("unexpected failure at %s", path or "the document", exc_info=cause)


def _code_of(error: GraphQLError) -> str:
    if isinstance(error, ValidationAbortedError):
        return LIMIT_EXCEEDED
    if isinstance(error, GraphQLSyntaxError) and "Parsing aborted" in error.message:  # too many tokens, or too deep
        return LIMIT_EXCEEDED
    return str((error.extensions or {}).get("code", BAD_REQUEST))
