"""REST for mobile and web clients, over the same ledger as GraphQL: the same keys, sessions, cookies and errors.

`OPERATIONS` is the whole API: the routes, `/openapi.json` and the tests are made from it. A money command needs the
header `Idempotency-Key`: one key for each intent, repeated with its retries. The first answer has status 201; a replay
has 200 and `Idempotent-Replayed: true`. `catalogue.operations` lists what each operation may refuse with.
"""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...domain.errors import HoldNotFound, TransferNotFound, Unauthenticated
from ...domain.ids import AccountId, HoldId, TransferId, is_id
from ...domain.model import Hold, Transfer
from ...domain.users import SessionKind
from ...idempotency import key_of
from ...identity import LoggedIn
from ...verbs.history import HistoryFilter, page_of_history
from ...verbs.ledger import Posted
from ..catalogue.errors import KEY_UNKNOWN
from ..http.problems import Problem
from . import merchants as rest_merchants
from . import models as told
from . import payments as rest_payments
from . import spending as rest_spending
from .models import (
    AccountsQuery,
    Capture,
    EntriesQuery,
    EventsQuery,
    KeyQuery,
    LogIn,
    OpenAccount,
    Payment,
    PlaceHold,
    Reverse,
    SignUp,
)
from .openapi import document
from .routing import JSON, Call, Operation, Reply, keyed_reply, routes_of
from .views import View, account_view, event_view, held_view, outcome_view, posted_view, user_view

CREATED: Final = HTTPStatus.CREATED
OK: Final = HTTPStatus.OK


async def sign_up(call: Call, given: SignUp) -> Reply:
    """Create a user. Log in next."""
    user = await call.wallet.identity.sign_up(given.username, given.email, given.password, call.caller.visitor)
    return Reply(user_view(user), CREATED, {"Location": "/v1/user"})


async def read_user(call: Call, _: None) -> Reply:
    """The user who asks."""
    user = await call.wallet.identity.user(await call.user_id())
    if user is None:
        raise Unauthenticated
    return Reply(user_view(user))


async def log_in(call: Call, given: LogIn) -> Reply:
    """Start a session: in a cookie for browsers, as a bearer token for other clients. It cannot be replayed."""
    await call.caller.count_log_in(given.login)
    kind = SessionKind(given.session)
    made = await call.wallet.identity.log_in(given.login, given.password, kind, call.caller.visitor)
    return _begun(call, made, CREATED)


async def renew_session(call: Call, _: None) -> Reply:
    """Get a new token for your session; the old one ends at once. A bearer token lasts another 30 days."""
    session = await call.caller.session()
    return _begun(call, await call.wallet.identity.renew(session, call.caller.visitor), CREATED)


def _begun(call: Call, made: LoggedIn, status: HTTPStatus) -> Reply:
    is_cookie = made.session.kind is SessionKind.COOKIE
    body = told.Session(
        user=user_view(made.user), token=None if is_cookie else made.token, expires_at=made.session.expires_at
    )
    adorn = (lambda response: call.caller.keep(response, made.token)) if is_cookie else None
    return Reply(body, status, {"Location": "/v1/session"}, adorn)


async def log_out(call: Call, _: None) -> Reply:
    """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
    await call.caller.log_out()
    return Reply(None, HTTPStatus.NO_CONTENT, adorn=call.caller.forget)


async def list_events(call: Call, given: EventsQuery) -> Reply:
    """What happened to your access, newest first: log-ins and failed ones, new passwords, ended sessions, freezes."""
    page = await call.wallet.identity.events.page(await call.user_id(), given.first, after=given.after or "")
    events = [event_view(event) for event in page.items]
    return Reply(told.Events(events=events, next=events[-1].id if page.has_more else None))


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


async def list_entries(call: Call, given: EntriesQuery) -> Reply:
    """What happened on an account, newest first. Entries that arrive while you page shift nothing."""
    user_id = await call.user_id()
    account = await call.ledger.account(user_id, AccountId(call.path("account_id")))
    where = HistoryFilter(frozenset(given.kind) or None, since=given.since, until=given.until)
    page = await page_of_history(call.wallet.store, account, given.first, before=given.before, where=where)
    view = await View.of(call.wallet, user_id, [line.transfer for line in page.lines])
    return Reply(told.Entries(entries=[view.entry(line) for line in page.lines], next=page.next_sequence))


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
    )
    return await _moved(call, posted, paid=True)


async def read_transfer(call: Call, _: None) -> Reply:
    """A transfer that you paid or received."""
    user_id = await call.user_id()
    found = await call.ledger.transfer_by_id(user_id, TransferId(call.path("transfer_id")))
    view = await View.of(call.wallet, user_id, [found])
    return Reply(view.transfer(found))


async def find_transfer(call: Call, given: KeyQuery) -> Reply:
    """What became of one of your keys. Not finding it proves nothing: the request may still be on its way."""
    user_id = await call.user_id()
    known = await call.ledger.outcome(user_id, await key_of(call.wallet.store, user_id, given.idempotency_key))
    if known is None:
        detail = (
            "nothing is known of this key, which does not prove that nothing happened or will happen; to be certain, "
            "send the first request again with the same key"
        )
        raise Problem(KEY_UNKNOWN, detail)
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


_MOVED: Final = {CREATED: told.Posted, OK: told.Posted}

OPERATIONS: Final = (
    Operation("POST", "/v1/user", sign_up, {CREATED: told.User}, SignUp),
    Operation("GET", "/v1/user", read_user, {OK: told.User}),
    Operation("POST", "/v1/session", log_in, {CREATED: told.Session}, LogIn),
    Operation("POST", "/v1/session/renewal", renew_session, {CREATED: told.Session}),
    Operation("GET", "/v1/event", list_events, {OK: told.Events}, query=EventsQuery),
    Operation("DELETE", "/v1/session", log_out, {HTTPStatus.NO_CONTENT: None}),
    Operation("GET", "/v1/account", list_accounts, {OK: told.Accounts}, query=AccountsQuery),
    Operation("POST", "/v1/account", open_account, {CREATED: told.Account}, OpenAccount),
    Operation("GET", "/v1/account/{account_id}", read_account, {OK: told.Account}),
    Operation("GET", "/v1/account/{account_id}/entry", list_entries, {OK: told.Entries}, query=EntriesQuery),
    Operation("POST", "/v1/transfer", transfer, _MOVED, Payment),
    Operation("GET", "/v1/transfer", find_transfer, {OK: told.Outcome}, query=KeyQuery),
    Operation("GET", "/v1/transfer/{transfer_id}", read_transfer, {OK: told.Transfer}),
    Operation("POST", "/v1/transfer/{transfer_id}/reversal", reverse_transfer, _MOVED, Reverse),
    Operation("POST", "/v1/hold", place_hold, {CREATED: told.HoldAnswer, OK: told.HoldAnswer}, PlaceHold),
    Operation("GET", "/v1/hold/{hold_id}", read_hold, {OK: told.Hold}),
    Operation("POST", "/v1/hold/{hold_id}/capture", capture_hold, _MOVED, Capture),
    Operation("POST", "/v1/hold/{hold_id}/void", void_hold, {OK: told.HoldAnswer}),
    *rest_payments.OPERATIONS,
    *rest_merchants.OPERATIONS,
    *rest_spending.OPERATIONS,
)


def routes() -> list[Route]:
    """REST and its description, to be mounted at the root."""
    return [*routes_of(OPERATIONS), Route("/openapi.json", describe, methods=["GET"])]


async def describe(_request: Request) -> Response:
    """The OpenAPI file."""
    return Response(openapi_text(), media_type=JSON)


@cache
def openapi_text() -> bytes:
    """The OpenAPI file as JSON with a fixed order of members, ending in a line feed."""
    return orjson.dumps(document(OPERATIONS), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
