"""Makes routes from the table of operations.

Every request goes through the same checks, in this order: other sites, the media type, the session, the price of
reading the body, the shape of the body or query, the rate limits. Then its handler runs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, Final, get_origin

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ...domain.errors import InDoubt, InvalidInput, Unauthenticated, WalletError, reasons
from ...domain.ids import UserId
from ...idempotency.keys import HEADER, header_key_of, header_value
from ...runtime import Wallet
from ...verbs.ledger import Ledger
from ..catalogue import operations as catalogue
from ..catalogue import texts
from ..catalogue.errors import BAD_REQUEST, UNSUPPORTED_MEDIA_TYPE, camel
from ..catalogue.operations import OUTAGES, Errors
from ..http.auth import Caller, caller_of, check_same_site
from ..http.errors import problem
from ..http.finishing import Finishing
from ..http.logs import log_answer
from ..http.problems import Problem
from ..http.rate_limits import MONEY
from ..http.record import current
from .cost import cost_of
from .values import Given, Told, read

log = logging.getLogger(__name__)

JSON: Final = "application/json"
REPLAYED: Final = "Idempotent-Replayed"
BYTES_A_COST: Final = 64
"""How many bytes of a body and of a query are read for a cost of 1."""

PARAMETERS_MAX: Final = 100
"""The most parameters of a query. No list of a query needs more."""


@dataclass(frozen=True, slots=True)
class Content:
    """An answer that is no JSON. `model` is what each event of a stream tells."""

    media_type: str
    model: type[Told] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of an operation. A text as `body` is sent as it is, with the media type of the `headers`."""

    body: Told | str | None
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    adorn: Callable[[Response], None] | None = None
    """Changes the response before it is sent, for example to set the cookie."""
    stream: ASGIApp | None = None
    """What is sent instead of all that."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    request: Request
    wallet: Wallet
    caller: Caller

    @property
    def ledger(self) -> Ledger:
        """The verbs of the ledger."""
        return self.wallet.ledger

    async def user_id(self) -> UserId:
        """The id of the user who sent the request. Raises Unauthenticated."""
        return (await self.caller.session()).user_id

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    async def key(self) -> str:
        """The idempotency key. Raises InvalidInput (no key, several, or a malformed one), Unauthenticated."""
        given = header_value(self.request.headers.getlist(HEADER))
        return await header_key_of(self.wallet.store, await self.user_id(), given)


def keyed_reply(body: Told, status: HTTPStatus, headers: Mapping[str, str], *, replayed: bool) -> Reply:
    """The answer to a command with a key: `status` the first time, 200 and `Idempotent-Replayed` for a replay."""
    if replayed:
        return Reply(body, HTTPStatus.OK, {**headers, REPLAYED: "true"})
    return Reply(body, status, headers)


Handler = Callable[[Call, Any], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table. `handler` gets the body if there is one, else the query.

    The handler's name is the name of the operation's entry in the catalogue, which lists its refusals. `answers` are
    the successes by status.
    """

    method: str
    path: str
    handler: Handler
    answers: Mapping[HTTPStatus, type[Told] | Content | None]
    body: type[Given] | None = None
    query: type[Given] | None = None
    has_keys_in_body: bool = False
    """Whether its body has a key for each payment, so that the header would say nothing."""

    entry: catalogue.Operation = field(init=False)
    """The operation's entry in the catalogue."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", catalogue.OPERATIONS[camel(self.handler.__name__)])

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.entry.name

    @property
    def takes_key(self) -> bool:
        """Whether it needs the header with the idempotency key."""
        return bool(self.entry.keyed) and not self.has_keys_in_body

    @property
    def models(self) -> Mapping[HTTPStatus, type[Told]]:
        """Its answers that have members."""
        found = {status: one.model if isinstance(one, Content) else one for status, one in self.answers.items()}
        return {status: model for status, model in found.items() if model is not None}

    @property
    def all_errors(self) -> Errors:
        """Every error that it may raise."""
        found = [*self.entry.refusals, *OUTAGES]
        if self.entry.session:
            found.append(Unauthenticated)
        if self.method != "GET" and not self.entry.reads:
            found.append(InDoubt)
        return tuple(dict.fromkeys(found))


def routes_of(operations: Sequence[Operation]) -> list[Route]:
    """One route per path. A method that the path does not have gets 405 and `Allow`."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, methods: Mapping[str, Operation]) -> Route:
    async def endpoint(request: Request) -> ASGIApp:
        operation = methods[request.method]
        if request.method == "GET":
            return await _answer(operation, request)
        await request.body()  # otherwise the server would wait for the whole body, even if it never comes
        finishing: Finishing = request.app.state.finishing
        return await finishing.to_the_end(_answer(operation, request))

    route = Route(path, endpoint, methods=list(methods))
    route.methods = set(methods)  # Starlette adds HEAD, which is not supported here
    return route


async def _answer(operation: Operation, request: Request) -> ASGIApp:
    """Check a request, run its handler, and make a response of the result or the error. Raises Problem."""
    record = current()
    record.api, record.verbs = "rest", (operation.name,)
    check_same_site(request)
    wallet: Wallet = request.app.state.wallet
    call = Call(request, wallet, caller_of(request))
    try:
        if operation.body is not None:
            check_media_type(request)
        if operation.entry.session:
            call.caller.announce(operation.name)
            await call.caller.session()
        sent = len(await request.body()) + len(request.scope["query_string"])
        await call.caller.spend(sent // BYTES_A_COST)
        given = await _given(operation, request)
        payments = given.payments() if given is not None else 1
        await call.caller.count(operation.name, *((MONEY,) * payments if operation.entry.keyed else ()))
        await call.caller.spend(cost_of(operation, given))
        reply = await operation.handler(call, given)
    except WalletError as error:
        if type(error) not in (*operation.all_errors, *operation.entry.unlisted):
            log.error("%s is not documented to answer with %s", operation.name, error.code)  # noqa: TRY400 - not a bug
        log_answer(operation.name, error)
        return problem(error)
    return reply.stream or _response(reply)


def _response(reply: Reply) -> Response:
    headers = dict(reply.headers)
    if reply.body is None or isinstance(reply.body, str):
        response = Response(reply.body, reply.status, headers)
    else:
        response = Response(reply.body.model_dump_json(by_alias=True), reply.status, headers, JSON)
    if reply.adorn is not None:
        reply.adorn(response)
    return response


def check_media_type(request: Request) -> None:
    """Refuse any body but JSON: other sites can make a browser send forms and plain text. Raises Problem (415)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise Problem(UNSUPPORTED_MEDIA_TYPE, texts.BODY_TYPE(wanted=JSON), {"Accept-Post": JSON})


async def _given(operation: Operation, request: Request) -> Given | None:
    """The operation's input, checked. Raises InvalidInput, InvalidAmount, Problem (400)."""
    query = None if operation.query is None else read(operation.query, _query_values(operation.query, request))
    if operation.query is None and request.query_params:
        raise InvalidInput("query", reasons.NO_PARAMETERS())
    raw = await request.body()
    if operation.body is None:
        if raw:
            raise InvalidInput("body", reasons.NO_BODY())
        return query
    try:
        values = orjson.loads(raw)
    except JSONDecodeError as error:
        raise Problem(BAD_REQUEST, texts.BODY_JSON(error=error)) from error
    if not isinstance(values, dict):
        raise Problem(BAD_REQUEST, texts.BODY_OBJECT())
    return read(operation.body, values)


def _query_values(model: type[Given], request: Request) -> dict[str, str | list[str]]:
    """The parameters by name. One that is not a list may come only once. Raises InvalidInput."""
    if request.scope["query_string"].count(b"&") >= PARAMETERS_MAX:  # before they are parsed
        raise InvalidInput("query", reasons.PARAMETERS(most=PARAMETERS_MAX))
    lists = {one.alias or name for name, one in model.model_fields.items() if get_origin(one.annotation) is list}
    values: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, []).append(value)
    for name, given in values.items():
        if name not in lists and len(given) > 1:
            raise InvalidInput(name[:40], reasons.ONCE())
    return {name: given if name in lists else given[0] for name, given in values.items()}
