"""How the domain's errors appear to clients, and the codes that have no error in the domain.

Everything about an error of the domain stands in its class, in `domain.errors`. This module has what follows from that
for all transports: the HTTP status of each category, and the spelling of the fields' names and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from http import HTTPStatus
from typing import Any, Final

from ...domain.errors import (
    AccountExists,
    Category,
    Field,
    HoldNotOpen,
    InDoubt,
    InvalidAmount,
    InvalidInput,
    InvariantViolated,
    LimitExceeded,
    NotReversible,
    Rejected,
    SpendingLimitExceeded,
    Unavailable,
    WalletError,
    error_classes,
)
from ...domain.model import AccountStatus, HoldState, TransferKind
from ...domain.spending import SpendingLimitKind
from ...domain.words import Tell, fill

STATUS: Final[Mapping[Category, HTTPStatus]] = {
    Category.MALFORMED: HTTPStatus.BAD_REQUEST,
    Category.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Category.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Category.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Category.CONFLICT: HTTPStatus.CONFLICT,
    Category.CONTRADICTION: HTTPStatus.UNPROCESSABLE_ENTITY,
    Category.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Category.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Category.IN_DOUBT: HTTPStatus.GATEWAY_TIMEOUT,
    Category.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The one table of statuses."""

ANSWERS: Final[tuple[type[WalletError], ...]] = tuple(
    kind for kind in error_classes() if issubclass(kind, Rejected | Unavailable | InDoubt) and kind is not Rejected
)
"""The errors that a client may get for a command that was understood. GraphQL returns these as data."""

PROBLEMS_MAX: Final = 50
"""The most problems that are told of one input. Only a batch can have more."""

ENUMS: Final[Mapping[tuple[type[WalletError], str], type[StrEnum]]] = {
    (AccountExists, "account_state"): AccountStatus,
    (HoldNotOpen, "state"): HoldState,
    (NotReversible, "kind"): TransferKind,
    (SpendingLimitExceeded, "limit"): SpendingLimitKind,
}
"""The values of errors that are members of an enum. They are sent by name, in capitals, as everywhere."""

_MINOR: Final = "_minor"

WITH_PROBLEMS: Final = (InvalidInput, InvalidAmount)
"""What tells `problems`: each wrong value of an input."""


def status_of(kind: type[WalletError]) -> HTTPStatus:
    """The HTTP status of an error class."""
    return STATUS[kind.category]


def camel(name: str) -> str:
    """`available_minor` -> `availableMinor`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def is_money(name: str) -> bool:
    """Whether a field counts minor units. REST sends those as text of digits: JavaScript would round large numbers."""
    return name.endswith(_MINOR)


def values_of(error: WalletError, tell: Tell = fill) -> dict[str, Any]:
    """An error's own values, as REST sends them; texts for people in the language of `tell`."""
    values: dict[str, Any] = {camel(name): _value(type(error), name, value) for name, value in error.fields.items()}
    if isinstance(error, WITH_PROBLEMS):
        within = ("amount",) if isinstance(error, InvalidAmount) else ()
        problems = [
            {"path": (*within, *one.path), "code": one.code, "reason": one.reason, "message": one.text(tell)}
            for one in error.problems
        ]
        return {**values, "reason": problems[0]["message"], "problems": problems}
    return values


def _value(kind: type[WalletError], name: str, value: Field) -> Field:
    if value is not None and is_money(name):
        return str(value)
    return next((one.name for one in ENUMS.get((kind, name), ()) if one.value == value), value)


class Where(Enum):
    """The part of the server that sends a code."""

    HTTP = "HTTP"
    """Sent before it is known which API is called."""
    REST = "REST"
    GRAPHQL = "GraphQL"


@dataclass(frozen=True, slots=True)
class Code:
    """A code that a transport sends by itself, without an error of the domain.

    `status` is the HTTP status; if GraphQL sends the code, its status depends on the client (`graphql.http_spec`).
    """

    name: str
    status: HTTPStatus
    docs: str
    where: tuple[Where, ...] = (Where.HTTP,)
    retryable: bool = False
    openapi: str = ""
    """Its description in the OpenAPI file, if `docs` would say too much there."""

    @property
    def about(self) -> str:
        """Its description in the OpenAPI file."""
        return self.openapi or self.docs


_BOTH: Final = (Where.REST, Where.GRAPHQL)

BAD_REQUEST: Final = Code(
    "BAD_REQUEST",
    HTTPStatus.BAD_REQUEST,
    "The request has no valid form: the Host header, the JSON, or the document, its variables or an argument.",
    (Where.HTTP, *_BOTH),
    openapi="The body is no JSON object.",
)
BAD_EVENT: Final = Code(
    "BAD_EVENT", HTTPStatus.BAD_REQUEST, "What was sent to `/webhooks/stripe` is no event that Stripe signed."
)
CROSS_SITE: Final = Code(
    "CROSS_SITE", HTTPStatus.FORBIDDEN, "A browser was made to send it by another site.", (Where.HTTP, *_BOTH)
)
NOT_FOUND: Final = Code("NOT_FOUND", HTTPStatus.NOT_FOUND, "There is nothing at this path.")
KEY_UNKNOWN: Final = Code(
    "KEY_UNKNOWN",
    HTTPStatus.NOT_FOUND,
    "Nothing is known of this idempotency key. That proves nothing: send the first request again with the same key.",
    (Where.REST,),
    openapi="What became of one of your keys. Not finding it proves nothing: the request may still be on its way.",
)
METHOD_NOT_ALLOWED: Final = Code(
    "METHOD_NOT_ALLOWED", HTTPStatus.METHOD_NOT_ALLOWED, "Use one of the methods that `Allow` names."
)
NOT_ACCEPTABLE: Final = Code(
    "NOT_ACCEPTABLE", HTTPStatus.NOT_ACCEPTABLE, "`Accept` names no media type that can be had.", (Where.GRAPHQL,)
)
REQUEST_TIMEOUT: Final = Code(
    "REQUEST_TIMEOUT", HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time. Send it again.", retryable=True
)
REQUEST_ENTITY_TOO_LARGE: Final = Code(  # not the name of the HTTP status, which Python 3.13 changed
    "REQUEST_ENTITY_TOO_LARGE", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large."
)
UNSUPPORTED_MEDIA_TYPE: Final = Code(
    "UNSUPPORTED_MEDIA_TYPE", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is no `application/json`.", _BOTH
)
MISDIRECTED_REQUEST: Final = Code(
    "MISDIRECTED_REQUEST", HTTPStatus.MISDIRECTED_REQUEST, "This server does not serve the host that was asked."
)
HEADERS_TOO_LARGE: Final = Code(
    "REQUEST_HEADER_FIELDS_TOO_LARGE",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The address and the headers are too large.",
)
DRAINING: Final = Code(
    "DRAINING", HTTPStatus.SERVICE_UNAVAILABLE, "`/readyz`: the server is being stopped.", retryable=True
)
NOT_OPEN: Final = Code(
    Unavailable.code,
    status_of(Unavailable),
    "The server has no store yet, or its store cannot write now. Nothing changed.",
    retryable=True,
)
INTERNAL: Final = Code(
    InvariantViolated.code,
    status_of(InvariantViolated),
    "Our bug; the log has it under the same request id. The outcome is unknown: ask again later with the same key.",
    (Where.HTTP, *_BOTH),
)
LIMIT_EXCEEDED: Final = Code(
    LimitExceeded.code,
    HTTPStatus.BAD_REQUEST,
    "The document is too deep or too long, or asks for too much at once.",
    (Where.GRAPHQL,),
)
PERSISTED_QUERY_NOT_FOUND: Final = Code(
    "PERSISTED_QUERY_NOT_FOUND",
    HTTPStatus.BAD_REQUEST,
    "No document is known under this id or hash. Send the document itself.",
    (Where.GRAPHQL,),
)
PERSISTED_QUERY_NOT_SUPPORTED: Final = Code(
    "PERSISTED_QUERY_NOT_SUPPORTED",
    HTTPStatus.BAD_REQUEST,
    "This server looks up no documents. Send the document itself.",
    (Where.GRAPHQL,),
)
DOCUMENT_NOT_TRUSTED: Final = Code(
    "DOCUMENT_NOT_TRUSTED", HTTPStatus.BAD_REQUEST, "This server runs only documents it knows.", (Where.GRAPHQL,)
)

CODES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Code))
"""All codes, in the order above."""

ANY_REQUEST: Final = (CROSS_SITE, INTERNAL)
"""The codes that any request of REST may get."""

ANY_BODY: Final = (BAD_REQUEST, REQUEST_ENTITY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
"""The codes that any request of REST with a body may get."""


def code_of(status: HTTPStatus) -> Code:
    """The code of a refusal that the web framework makes itself."""
    found = (code for code in CODES if code.status is status and Where.HTTP in code.where)
    return next(found, None) or Code(status.name, status, status.description)
