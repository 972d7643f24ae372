"""GraphQL over HTTP: media types and the table of status codes.

The draft of August 2026 and the clients and audits in use disagree on status codes. The default is what clients and
audits expect; `WALLET_GRAPHQL_PROFILE=draft2026` is the draft.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

from starlette.datastructures import Headers
from strawberry.types.execution import ExecutionResult

from ...settings import GraphqlProfile
from ..catalogue import texts
from ..catalogue.errors import NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE
from ..http.problems import Problem
from .failures import Fault, Refused

JSON: Final = "application/json"
RESPONSE_JSON: Final = "application/graphql-response+json"
EVENT_STREAM: Final = "text/event-stream"

PARTIAL_SUCCESS: Final = 294


class Answer(Enum):
    """An operation that was executed; one that was not executed is a `Fault`."""

    WHOLE = auto()
    """With data and no errors."""
    PARTIAL = auto()
    """With errors, and with data or null beside them."""


class Column(Enum):
    """Which of the three columns of status codes applies to a client."""

    RESPONSE = auto()
    """It accepts `application/graphql-response+json`: 4xx is safe, as the type tells our answer from a proxy's."""
    LEGACY = auto()
    """It accepts only `application/json`: 200 for everything that is a GraphQL request."""
    DRAFT = auto()
    """The draft of August 2026, which does not distinguish the two."""


_CODES: Final[Mapping[Answer | Fault, tuple[int, int, int]]] = {
    #                RESPONSE LEGACY DRAFT
    Answer.WHOLE: (200, 200, 200),
    Answer.PARTIAL: (200, 200, PARTIAL_SUCCESS),
    Fault.JSON: (400, 400, 400),
    Fault.REQUEST: (400, 400, 422),
    Fault.DOCUMENT: (400, 200, 422),
    Fault.PARSE: (400, 200, 400),
    Fault.OPERATION: (400, 200, 422),
    Fault.VALIDATION: (400, 200, 422),
    Fault.VARIABLES: (400, 200, 422),
    Fault.THROTTLED: (429, 429, 429),
    Fault.INTERNAL: (500, 500, 500),
}
STATUSES: Final[Mapping[Answer | Fault, Mapping[Column, int]]] = MappingProxyType(
    {of: MappingProxyType(dict(zip(Column, codes, strict=True))) for of, codes in _CODES.items()}
)
"""The one table of status codes, for GraphQL requests. 405, 406, 413 and 415 are answered before it applies."""


def status_of(result: ExecutionResult, media_type: str, profile: GraphqlProfile) -> int:
    """The status code of a result."""
    if profile is GraphqlProfile.DRAFT2026:
        column = Column.DRAFT
    else:
        column = Column.RESPONSE if media_type == RESPONSE_JSON else Column.LEGACY
    if isinstance(result, Refused):
        return STATUSES[result.fault][column]
    return STATUSES[Answer.PARTIAL if result.errors else Answer.WHOLE][column]


def payload(result: ExecutionResult) -> dict[str, Any]:
    """A result as it is sent, over any transport; if it was not executed, it has no `data`."""
    shown: dict[str, Any] = {} if isinstance(result, Refused) else {"data": result.data}
    if result.errors:
        shown["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        shown["extensions"] = result.extensions
    return shown


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client accepts: `json` is the media type of a single answer, None if it accepts none.

    `stream`: it named `text/event-stream`, so a subscription can be answered. `stream_first`: it prefers a stream to
    JSON, for any operation.
    """

    json: str | None
    stream: bool = False
    stream_first: bool = False


_RANGE: Final = re.compile(r"\s*(?P<type>[\w!#$&^.+*-]+/[\w!#$&^.+*-]+)\s*(?P<parameters>(?:;[^,]*)?)", re.ASCII)
_QUALITY: Final = re.compile(r";\s*q\s*=\s*(?P<q>[01](?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII | re.IGNORECASE)


def wanted_by(accept: str | None) -> Wanted:
    """Parse an `Accept` header: the highest quality wins, and among equals the first one named.

    `*/*`, or no header, means `application/json`, as older clients expect, and never a stream: a client that lists
    `text/event-stream` last, behind JSON, wants JSON wherever one answer is enough.

    Raises:
        Problem: 406, none of the accepted types is available.
    """
    if accept is None or not accept.strip():
        return Wanted(JSON)
    ranges = _ranges(accept)
    ranked = {kind: _rank(kind, ranges) for kind in (JSON, RESPONSE_JSON)}
    json = max((kind for kind in ranked if ranked[kind] > _NEVER), key=lambda kind: ranked[kind], default=None)
    stream = _rank(EVENT_STREAM, {name: place for name, place in ranges.items() if name != "*/*"})
    if stream > _NEVER:
        return Wanted(json, stream=True, stream_first=json is None or stream > ranked[json])
    if json is None:
        offered = f"{RESPONSE_JSON}, {JSON}, {EVENT_STREAM}"
        raise Problem(NOT_ACCEPTABLE, texts.ACCEPT(offered=offered))
    return Wanted(json)


_Rank = tuple[float, int, int]
"""Quality, how exactly the type is named (0 to 2), and place in the header (a later place is lower)."""

_NEVER: Final[_Rank] = (0.0, 2, 1)


def _ranges(accept: str) -> dict[str, tuple[float, int]]:
    """Media ranges with quality and place. Ranges that cannot be parsed are left out."""
    found: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        if match := _RANGE.fullmatch(part):
            quality = _QUALITY.search(match["parameters"])
            found.setdefault(match["type"].lower(), (min(float(quality["q"]), 1.0) if quality else 1.0, -place))
    return found


def _rank(kind: str, ranges: Mapping[str, tuple[float, int]]) -> _Rank:
    for exactness, name in ((2, kind), (1, f"{kind.partition('/')[0]}/*"), (0, "*/*")):
        if name in ranges:
            quality, place = ranges[name]
            return quality, exactness, place
    return _NEVER


_CHARSET: Final = re.compile(r"charset\s*=\s*\"?utf-?8\"?", re.ASCII | re.IGNORECASE)


def check_body_type(headers: Headers) -> None:
    """Refuse any body but UTF-8 JSON: other sites can make browsers send forms and plain text. Raises Problem (415)."""
    media_type, _, rest = headers.get("content-type", "").partition(";")
    parameters = [part.strip() for part in rest.split(";") if part.strip()]
    charsets = [part for part in parameters if part.lower().startswith("charset")]
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if media_type.strip().lower() != JSON or encoding != "identity" or not all(map(_CHARSET.fullmatch, charsets)):
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            texts.BODY_TYPE(wanted=JSON),
            {"Accept-Post": JSON},
        )
