"""REST for mobile and web clients, over the same ledger as GraphQL: the same keys, sessions, cookies and errors.

`OPERATIONS` is the whole API: the routes, `/openapi.json` and the tests are made from it. A money command needs the
header `Idempotency-Key`: one key for each intent, repeated with its retries. The first answer has status 201; a replay
has 200 and `Idempotent-Replayed: true`. `catalogue.operations` lists what each operation may refuse with.
"""

from __future__ import annotations

import gzip
import logging
from functools import cache
from http import HTTPStatus
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...domain.errors import HoldNotFound, TransferNotFound, WalletError
from ...domain.ids import AccountId, HoldId, TransferId, is_id
from ...domain.model import AccountStatus, Hold, HoldState, Transfer
from ...idempotency import key_of
from ...verbs.annotations import annotate
from ...verbs.history import page_of_history
from ...verbs.hold_lists import holds_of
from ...verbs.ledger import Posted
from ...verbs.parties import Direction
from ..catalogue import texts
from ..catalogue.errors import KEY_UNKNOWN
from ..http.compression import accepts_gzip
from ..http.problems import Problem
from . import events as rest_events
from . import history as rest_history
from . import merchants as rest_merchants
from . import models as told
from . import payments as rest_payments
from . import planning as rest_planning
from . import spending as rest_spending
from . import users as rest_users
from .models import (
    AccountsQuery,
    AnnotateTransfer,
    Capture,
    HoldsQuery,
    KeyQuery,
    OpenAccount,
    Payment,
    PlaceHold,
    Reverse,
)
from .openapi import document
from .routing import JSON, Call, Operation, Reply, keyed_reply, routes_of
from .views import View, account_view, held_view, outcome_view, posted_view

log = logging.getLogger(__name__)

CREATED: Final = HTTPStatus.CREATED
OK: Final = HTTPStatus.OK


async def list_accounts(call: Call, given: AccountsQuery) -> Reply:
    """Your accounts, oldest first, each with its balance and its last entries."""
    user_id = await call.user_id()
    found = await call.ledger.accounts(user_id)
    behind = [account for account in found if given.after is None or account.id > given.after]
    page = behind[: given.first]
    store = call.wallet.store
    wanted = given.entries
    pages = [(await page_of_history(store, account, wanted)).lines if wanted else () for account in page]
    view = await View.of(call.wallet, user_id, [line.transfer for lines in pages for line in lines])
    accounts = [
        told.AccountWithEntries(**dict(account_view(account)), entries=[view.entry(line) for line in lines])
        for account, lines in zip(page, pages, strict=True)
    ]
    return Reply(told.Accounts(accounts=accounts, next=page[-1].id if len(behind) > len(page) else None))


async def open_account(call: Call, given: OpenAccount) -> Reply:
    """Open an account of yours: one per currency, besides closed ones."""
    account = await call.ledger.open_account(await call.user_id(), given.currency)
    return Reply(account_view(account), CREATED, {"Location": f"/v1/account/{account.id}"})


async def read_account(call: Call, _: None) -> Reply:
    """One of your accounts."""
    account = await call.ledger.account(await call.user_id(), AccountId(call.path("account_id")))
    return Reply(account_view(account))


async def close_account(call: Call, _: None) -> Reply:
    """Close an account of yours for good, at zero and without open holds. It moves no money, so it needs no key.

    If the answer is lost send it again: `ACCOUNT_CLOSED` then says that it is done.
    """
    user_id, account_id = await call.user_id(), AccountId(call.path("account_id"))
    await call.ledger.set_account_status(user_id, account_id, AccountStatus.CLOSED)
    try:
        account = account_view(await call.ledger.account(user_id, account_id))
    except WalletError as error:
        log.warning("account %s could not be read after it was closed: %s", account_id, error)
        account = None
    return Reply(told.ClosedAccount(account=account))


async def transfer(call: Call, given: Payment) -> Reply:
    """Pay somebody from one of your accounts."""
    user_id = await call.user_id()
    posted = await call.ledger.transfer(
        user_id,
        await call.key(),
        source=AccountId(given.from_account_id),
        to=given.to.to(),
        amount_minor=given.amount.minor_units,
        currency=given.amount.currency,
        reference=given.reference,
        annotation=given.annotation(),
    )
    return await _moved(call, posted, paid=True)


async def read_transfer(call: Call, _: None) -> Reply:
    """A transfer that you paid or received."""
    user_id = await call.user_id()
    found = await call.ledger.transfer_by_id(user_id, TransferId(call.path("transfer_id")))
    view = await View.of(call.wallet, user_id, [found])
    return Reply(view.transfer(found))


async def annotate_transfer(call: Call, given: AnnotateTransfer) -> Reply:
    """Note something about a transfer that you paid or received. Only you see it; the other side has its own notes.

    The same again changes nothing.
    """
    user_id, transfer_id = await call.user_id(), TransferId(call.path("transfer_id"))
    pairs = None if given.metadata is None else given.metadata.items()
    found, side = await annotate(call.ledger, user_id, transfer_id, given.category, pairs)
    view = await View.after(call.wallet, user_id, [found])
    return Reply(view.transfer(found, paid=side.account_id == found.debit_account_id))


async def find_transfer(call: Call, given: KeyQuery) -> Reply:
    """What became of one of your keys. Not finding it proves nothing: the request may still be on its way."""
    user_id = await call.user_id()
    known = await call.ledger.outcome(user_id, await key_of(call.wallet.store, user_id, given.idempotency_key))
    if known is None:
        raise Problem(KEY_UNKNOWN, texts.KEY_UNKNOWN())
    return Reply(await outcome_view(call.wallet, user_id, known))


async def reverse_transfer(call: Call, given: Reverse) -> Reply:
    """Send a transfer that you received back, all that is left of it or a part."""
    transfer_id = call.path("transfer_id")
    if not is_id("trf", transfer_id):
        raise TransferNotFound(transfer_id)
    posted = await call.ledger.reverse_transfer(
        await call.user_id(),
        await call.key(),
        TransferId(transfer_id),
        amount_minor=given.minor_units,
        reference=given.reference,
    )
    return await _moved(call, posted, paid=True)


async def place_hold(call: Call, given: PlaceHold) -> Reply:
    """Reserve money of yours for a payee, who captures or voids it."""
    posted = await call.ledger.place_hold(
        await call.user_id(),
        await call.key(),
        source=AccountId(given.from_account_id),
        to=given.to.to(),
        amount_minor=given.amount.minor_units,
        currency=given.amount.currency,
        expires_in_seconds=given.expires_in_seconds,
        reference=given.reference,
    )
    return await _held(call, posted, CREATED)


async def read_hold(call: Call, _: None) -> Reply:
    """A hold that you placed or may close."""
    user_id = await call.user_id()
    hold = await call.ledger.hold(user_id, HoldId(call.path("hold_id")))
    return Reply((await View.of(call.wallet, user_id, [hold])).hold(hold))


async def list_holds(call: Call, given: HoldsQuery) -> Reply:
    """The holds that you placed, and those that others placed for you, newest first."""
    user_id = await call.user_id()
    page = await holds_of(
        call.wallet.store,
        user_id,
        given.first,
        call.ledger.clock(),
        after=given.after or "",
        directions=tuple(Direction) if given.direction is None else (given.direction,),
        states=given.state or tuple(HoldState),
        backward=given.backward,
    )
    view = await View.of(call.wallet, user_id, page.holds)
    return Reply(told.Holds(holds=[view.hold(hold) for hold in given.turned(page.holds)], next=page.goes_on_behind))


async def capture_hold(call: Call, given: Capture) -> Reply:
    """Take the money of a hold that names you payee, all of it or a part; the rest is released."""
    posted = await call.ledger.capture_hold(
        await call.user_id(), await call.key(), _hold_id(call), amount_minor=given.minor_units
    )
    return await _moved(call, posted, paid=False)


async def void_hold(call: Call, _: None) -> Reply:
    """Give the money of a hold that names you payee back to its payer."""
    return await _held(call, await call.ledger.void_hold(await call.user_id(), await call.key(), _hold_id(call)), OK)


def _hold_id(call: Call) -> HoldId:
    hold_id = call.path("hold_id")
    if not is_id("hld", hold_id):
        raise HoldNotFound(hold_id)
    return HoldId(hold_id)


async def _moved(call: Call, posted: Posted[Transfer], *, paid: bool) -> Reply:
    body = await posted_view(call.wallet, await call.user_id(), posted, paid=paid)
    headers = {"Location": f"/v1/transfer/{posted.result.id}"}
    return keyed_reply(body, CREATED, headers, replayed=posted.replayed)


async def _held(call: Call, posted: Posted[Hold], status: HTTPStatus) -> Reply:
    body = await held_view(call.wallet, await call.user_id(), posted)
    return keyed_reply(body, status, {"Location": f"/v1/hold/{posted.result.id}"}, replayed=posted.replayed)


_VARIES: Final = {"Vary": "Accept-Encoding"}
_MOVED: Final = {CREATED: told.Posted, OK: told.Posted}

OPERATIONS: Final = (
    *rest_users.OPERATIONS,
    Operation("GET", "/v1/account", list_accounts, {OK: told.Accounts}, query=AccountsQuery),
    Operation("POST", "/v1/account", open_account, {CREATED: told.Account}, OpenAccount),
    Operation("GET", "/v1/account/{account_id}", read_account, {OK: told.Account}),
    Operation("POST", "/v1/account/{account_id}/close", close_account, {OK: told.ClosedAccount}),
    *rest_history.OPERATIONS,
    Operation("POST", "/v1/transfer", transfer, _MOVED, Payment),
    Operation("GET", "/v1/transfer", find_transfer, {OK: told.Outcome}, query=KeyQuery),
    Operation("GET", "/v1/transfer/{transfer_id}", read_transfer, {OK: told.Transfer}),
    Operation("PATCH", "/v1/transfer/{transfer_id}", annotate_transfer, {OK: told.Transfer}, AnnotateTransfer),
    Operation("POST", "/v1/transfer/{transfer_id}/reversal", reverse_transfer, _MOVED, Reverse),
    Operation("POST", "/v1/hold", place_hold, {CREATED: told.HoldAnswer, OK: told.HoldAnswer}, PlaceHold),
    Operation("GET", "/v1/hold", list_holds, {OK: told.Holds}, query=HoldsQuery),
    Operation("GET", "/v1/hold/{hold_id}", read_hold, {OK: told.Hold}),
    Operation("POST", "/v1/hold/{hold_id}/capture", capture_hold, _MOVED, Capture),
    Operation("POST", "/v1/hold/{hold_id}/void", void_hold, {OK: told.HoldAnswer}),
    *rest_planning.OPERATIONS,
    *rest_payments.OPERATIONS,
    *rest_merchants.OPERATIONS,
    *rest_spending.OPERATIONS,
    *rest_events.OPERATIONS,
)


def routes() -> list[Route]:
    """REST and its description, to be mounted at the root."""
    return [*routes_of(OPERATIONS), Route("/openapi.json", describe, methods=["GET"])]


async def describe(request: Request) -> Response:
    """The OpenAPI file. It is compressed once, not for each request."""
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(_openapi_gzipped(), media_type=JSON, headers={"Content-Encoding": "gzip", **_VARIES})
    return Response(openapi_text(), media_type=JSON, headers=_VARIES)


@cache
def _openapi_gzipped() -> bytes:
    return gzip.compress(openapi_text(), mtime=0)


@cache
def openapi_text() -> bytes:
    """The OpenAPI file as JSON with a fixed order of members, ending in a line feed."""
    return orjson.dumps(document(OPERATIONS), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
