"""Unexpected failures: the top-level `errors` of a response, and what of them a client may see.

Codes that have no error in the domain are in `catalogue.errors`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from graphql import FieldNode, GraphQLError, GraphQLSyntaxError
from graphql.validation.validate import ValidationAbortedError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult, PreExecutionError

from ...domain.errors import InDoubt, RateLimited, Rejected, Unauthenticated, Unavailable, WalletError
from ..catalogue.errors import BAD_REQUEST, INTERNAL, LIMIT_EXCEEDED, Code
from ..http.language import message_of
from ..http.logs import REQUEST_ID, log_answer
from ..http.record import current

log = logging.getLogger(__name__)

ERRORS_MAX: Final = 5
"""The most errors that are reported for a document: it could have one for every word."""

MESSAGE_MAX: Final = 500
"""The longest message that is sent, in characters: a message may quote a whole document."""

PLACES_MAX: Final = 5
"""The most places in the document that one error names."""

_HINT: Final = re.compile(r" Did you mean [^?\n]*\?")
"""Hints that would help to guess the schema step by step. Editors know the schema and give hints themselves."""

_TELLABLE: Final = (Unauthenticated, Unavailable, InDoubt, Rejected)
_CLIENTS_OWN: Final = (CannotGetOperationTypeError, InvalidOperationTypeError, MissingQueryError)
"""Errors that Strawberry raises for a document that it does not run."""


class Fault(Enum):
    """Why a request was not executed. `http_spec` has the HTTP status code of each."""

    JSON = auto()
    """The body, or a parameter in the address, is not JSON."""
    REQUEST = auto()
    """It is JSON, but not a GraphQL request."""
    DOCUMENT = auto()
    """It names an unknown document, or contains one that is not trusted."""
    PARSE = auto()
    """The document has a syntax error."""
    OPERATION = auto()
    """It is not clear which operation of the document should run."""
    VALIDATION = auto()
    """The document does not fit the schema, or exceeds a limit."""
    VARIABLES = auto()
    """A variable has the wrong type."""
    THROTTLED = auto()
    """Too many requests in too short a time."""
    INTERNAL = auto()
    """A bug of ours, or the store did not answer, before any field was resolved."""


class BadRequest(GraphQLError):
    """An argument is wrong in a way that the schema cannot say."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": BAD_REQUEST.name})


class Unanswerable(BadRequest):
    """A request that never becomes an operation; `code` where `BAD_REQUEST` would not tell clients what to do."""

    def __init__(self, fault: Fault, message: str, code: Code = BAD_REQUEST) -> None:
        super().__init__(message)
        self.fault = fault
        self.extensions = {"code": code.name}


class OverLimit(GraphQLError):
    """A document asks for more than the limits allow."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": LIMIT_EXCEEDED.name})


def cause_of(error: GraphQLError) -> Exception | None:
    """The exception of a resolver; None if the fault is in the client's document, variables or arguments."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def fault_of(result: ExecutionResult) -> Fault | None:
    """Why the operation was not executed, from the errors as they were raised; None if it was executed."""
    errors = result.errors or ()
    if result.data is not None or not errors or any(error.path for error in errors):
        return None
    first = errors[0]
    if isinstance(first, Unanswerable):
        return first.fault
    cause = cause_of(first)
    if isinstance(cause, _CLIENTS_OWN):
        return Fault.OPERATION
    if cause is not None:
        return Fault.THROTTLED if isinstance(cause, RateLimited) else Fault.INTERNAL
    if isinstance(first, GraphQLSyntaxError):
        return Fault.PARSE
    return Fault.VALIDATION if isinstance(result, PreExecutionError) else Fault.VARIABLES


class Refused(PreExecutionError):
    """The result of a request that was not executed: errors for the client, no data, and the fault."""

    def __init__(
        self, fault: Fault, errors: Sequence[GraphQLError], extensions: dict[str, object] | None = None
    ) -> None:
        limits = [error for error in errors if isinstance(error, OverLimit)]
        told = [public(error) for error in (limits or errors)[:ERRORS_MAX]]
        super().__init__(None, told, extensions)
        self.fault = fault
        current().fail(str((told[0].extensions or {})["code"]))


def told(result: ExecutionResult) -> ExecutionResult:
    """The result as the client may see it."""
    fault = fault_of(result)
    if fault is not None:
        return Refused(fault, result.errors or (), result.extensions)
    if result.errors:
        result.errors = [public(error) for error in result.errors]
        for error in result.errors:
            current().fail(str((error.extensions or {})["code"]), place=str(error.path[0]) if error.path else "")
    return result


def public(error: GraphQLError) -> GraphQLError:
    """A copy of the error for the client: with code, request id and retryability, and masked if it is a bug of ours."""
    cause = cause_of(error)
    message, code, retryable = cut(_HINT.sub("", error.message[: 2 * MESSAGE_MAX])), _code_of(error), False
    if isinstance(cause, _TELLABLE):
        message, code, retryable = cut(message_of(cause)), cause.code, cause.retryable
    elif isinstance(cause, InvalidOperationTypeError):
        message, code = f"a {cause.operation_type.value} is not run here; send it by HTTP POST", BAD_REQUEST.name
    elif isinstance(cause, CannotGetOperationTypeError):
        message, code = cut(cause.as_http_error_reason()), BAD_REQUEST.name
    elif cause is not None:
        message, code = "something went wrong on our side; the request id helps us find it", INTERNAL.name
    extensions: dict[str, object] = {"code": code, "requestId": REQUEST_ID.get(), "retryable": retryable}
    if isinstance(cause, RateLimited):
        extensions["retryAfterSeconds"] = cause.fields["retry_after_seconds"]
    nodes, positions = list(error.nodes or ())[:PLACES_MAX], list(error.positions or ())[:PLACES_MAX]
    return GraphQLError(message, nodes, error.source, positions, error.path, extensions=extensions)


def cut(message: str) -> str:
    """Shorten a message: the text that it quotes may be as long as a request."""
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"


def report(error: GraphQLError) -> None:
    """Log our own bugs with their traceback, and failures of the store. Mistakes of clients are not logged.

    The line names the field as the schema does: the error's path has the client's aliases, which may be any text.
    """
    cause = cause_of(error)
    where = next((node.name.value for node in error.nodes or () if isinstance(node, FieldNode)), "the document")
    if isinstance(cause, WalletError) and isinstance(cause, _TELLABLE):
        log_answer(where, cause)
    elif cause is not None and not isinstance(cause, _CLIENTS_OWN):
        log.error("unexpected failure at %s", where, exc_info=cause)


def _code_of(error: GraphQLError) -> str:
    if isinstance(error, ValidationAbortedError):
        return LIMIT_EXCEEDED.name
    if isinstance(error, GraphQLSyntaxError) and "Parsing aborted" in error.message:  # too many tokens, or too deep
        return LIMIT_EXCEEDED.name
    return str((error.extensions or {}).get("code", BAD_REQUEST.name))
