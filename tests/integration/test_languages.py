"""Messages come in the language that the client wants, and no message is missing in any of them."""

from __future__ import annotations

import ast
import string
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import AsyncMock, MagicMock

import httpx
import pytest
from babel.messages.pofile import read_po
from starlette.websockets import WebSocket, WebSocketState

from tests.integration._live import talking
from tests.integration._server import OPEN_ACCOUNT, TRANSFER, VIEWER, Person, Server, new_key
from tests.integration.test_rate_limits import by, serving_here
from wallet_gql.domain.errors import Category, InsufficientFunds, PayeeNotFound, error_classes, reasons
from wallet_gql.domain.errors.ledger import ACTS
from wallet_gql.domain.errors.reasons import REASONS
from wallet_gql.domain.ids import _NAMES as ID_KINDS
from wallet_gql.domain.model import AccountStatus, HoldState, TransferKind
from wallet_gql.domain.provider_amounts import Direction
from wallet_gql.domain.spending import SpendingLimitKind
from wallet_gql.transports.catalogue import languages
from wallet_gql.transports.catalogue import texts as texts_of
from wallet_gql.transports.catalogue.languages import ACCEPT_MAX, LANGUAGES, SOURCE, messages_of, teller, wanted
from wallet_gql.transports.catalogue.texts import TEXTS
from wallet_gql.transports.graphql.sockets import Connection

SOURCES: Final = Path(languages.__file__).parents[2]
OTHERS: Final = [language for language in LANGUAGES if language != SOURCE]
LISTED: Final = (AccountStatus, HoldState, TransferKind, SpendingLimitKind, Direction)
SAID_OF: Final = ("LimitExceeded", "NotPermitted")
"""Errors whose values are texts of ours, as they are raised."""
PROBLEMS: Final = ("InvalidInput", "InvalidInputError", "DomainInvalidInput", "InvalidAmount")
NAMES: Final = (*SAID_OF, *PROBLEMS, "_closable_hold")


@cache
def called() -> dict[str, list[tuple[Path, ast.Call]]]:
    """Where the sources call each function, by its name."""
    found: dict[str, list[tuple[Path, ast.Call]]] = defaultdict(list)
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(name in text for name in NAMES):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call):
                    found[getattr(node.func, "id", getattr(node.func, "attr", ""))].append((path, node))
    return found


@cache
def texts() -> set[str]:
    """All that is told in English: of errors, of reasons, and the words of ours among their values."""
    errors = {kind.words for kind in error_classes() if kind.category is not Category.INTERNAL}
    raised = {
        node.value
        for name in SAID_OF
        for _, call in called()[name]
        for node in call.args
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    closing = {node.args[-1].value for _, node in called()["_closable_hold"] if isinstance(node.args[-1], ast.Constant)}
    listed = {one.value for kind in LISTED for one in kind} | set(ID_KINDS.values())
    causes = {one.words for one in (*REASONS, *TEXTS)}
    return {*errors, *causes, *raised, *ACTS.values(), *map(str, closing), *listed} - {""}


def placeholders(words: str) -> set[str]:
    """The values that a text names."""
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


@pytest.mark.parametrize("language", OTHERS)
def test_no_message_is_missing(language: str) -> None:
    """Each has a text, which names the same values; none is left of a text that is no more."""
    known = messages_of(language)
    assert texts() - set(known) == set(), "missing in the catalogue"
    assert set(known) - texts() == set(), "told nowhere any more"
    for words, told in known.items():
        assert placeholders(told) == placeholders(words), words
    with (SOURCES / "transports/catalogue/locales" / f"{language}.po").open("rb") as file:
        assert [one.id for one in read_po(file) if one.id and (one.fuzzy or not one.string)] == []


def test_every_problem_has_a_reason() -> None:
    """Whatever the input of a client may be refused with is on the list of reasons: it can be told in any language."""
    inside = {"cli", "exchange.py", "guard.py", "withdrawals.py"}  # operators and programs get these
    for name in PROBLEMS:
        for path, call in called()[name]:
            is_text = len(call.args) > 1 and isinstance(call.args[1], ast.Constant | ast.JoinedStr)
            assert not is_text or inside & {*path.parts}, f"{path}:{call.lineno}"


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("fr-CH, de;q=0.5, *;q=0.1", "de"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("de;q=0.5, en", "en"),
        ("de;q=0", "en"),
        ("fr", "en"),
        ("*", "en"),
        ("de;q=x", "en"),
        (",;=;,", "en"),
    ],
)
def test_what_a_client_wants(accept: str, language: str) -> None:
    """Languages with their weights; what is malformed does not count."""
    assert wanted(accept) == language


def test_no_language_is_wanted_that_was_refused() -> None:
    """However long what comes before the refusal is."""
    for more in range(2 * ACCEPT_MAX):
        assert wanted("x" * more + ",de") == ("de" if more + 3 <= ACCEPT_MAX else "en")
        assert wanted(f"*,{'x' * more},de;q=0.0") == "en"


def test_amounts_are_written_as_people_do() -> None:
    """With the currency's digits, and the marks of the language."""
    tell = teller("de")
    assert "1.234.567,89 EUR" in InsufficientFunds("a", 1, 123_456_789, "EUR").text(tell)
    assert "1.234 JPY" in InsufficientFunds("a", 1, 1_234, "JPY").text(tell)
    assert "0,001 KWD" in InsufficientFunds("a", 1, 5, "KWD").text(tell)


def test_what_people_typed_is_not_translated() -> None:
    """A user may be called as a word of ours is."""
    assert "capture" in messages_of("de")
    assert "Empfänger capture" in PayeeNotFound("capture").text(teller("de"))


# Over HTTP


@pytest.fixture
async def site() -> AsyncIterator[tuple[httpx.AsyncClient, list[Person]]]:
    """A server, and two people with money."""
    async with serving_here("off") as made:
        yield made


GERMAN: Final = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.8"}


async def test_graphql_and_rest_speak_german(site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """Errors, problems and top-level errors; the answer says its language, and that another would differ."""
    http, (ann, bob) = site
    refused = {"query": TRANSFER, "variables": {"input": ann.pay(bob.username, 10**9)}}
    malformed = {"query": TRANSFER, "variables": {"input": {**ann.pay(bob.username, -1), "fromAccountId": "x"}}}
    path, body = "/v1/transfer", {"fromAccountId": ann.account_id, "to": {"username": "no-one"}}
    for _ in range(3):  # the first times as they are, then compiled
        answer = await http.post("/graphql", json=refused, headers=by(ann) | GERMAN)
        assert "verfügbar sind" in answer.json()["data"]["transfer"]["message"]
        assert (answer.headers["content-language"], answer.headers["vary"]) == ("de", "Accept-Language")
        answer = await http.post("/graphql", json=malformed, headers=by(ann) | GERMAN)
        told = [one["message"] for one in answer.json()["data"]["transfer"]["problems"]]
        assert told[1] == "ein Betrag über null"
        assert "keine Kennung (Konto)" in told[0]
    answer = await http.post(
        "/graphql", json={"query": OPEN_ACCOUNT, "variables": {"input": {"currency": "EUR"}}}, headers=GERMAN
    )
    assert "Melden Sie sich" in answer.json()["errors"][0]["message"]
    rest: dict[str, Any] = {**body, "amount": {"minorUnits": "1", "currency": "EUR"}}
    keyed = by(ann) | {"Idempotency-Key": new_key()}
    answer = await http.post(path, json=rest, headers=keyed | GERMAN)
    assert answer.json()["detail"] == "Es gibt keinen Empfänger no-one; prüfen Sie die Schreibweise"
    assert answer.headers["content-language"] == "de"
    answer = await http.post(path, json=rest, headers=keyed)
    assert (answer.json()["detail"], answer.headers["content-language"]) == (
        "there is no payee no-one; check the spelling",
        "en",
    )


async def test_http_speaks_german(site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """What is refused before any verb runs, and the shape of what was sent: each problem with its code and reason."""
    http, (ann, _) = site
    who, path = by(ann) | GERMAN, "/v1/transfer"
    refused = (
        (texts_of.NO_PATH, http.get("/nothing", headers=who)),
        (texts_of.METHOD, http.put(path, headers=who)),
        (texts_of.BODY_JSON, http.post(path, content="{", headers=who | {"Content-Type": "application/json"})),
        (texts_of.BODY_OBJECT, http.post(path, json=[], headers=who)),
        (texts_of.BODY_TYPE, http.post(path, content="a=b", headers=who)),
        (texts_of.OTHER_SITE, http.post(path, json={}, headers=GERMAN | {"Sec-Fetch-Site": "cross-site"})),
        (texts_of.BODY_SIZE, http.post(path, json={"x": " " * 300_000}, headers=who)),
        (texts_of.KEY_UNKNOWN, http.get(path, params={"idempotencyKey": new_key()}, headers=who)),
        (texts_of.ONLY_BY_POST, http.get("/graphql", params={"query": "mutation { logOut }"}, headers=who)),
        (texts_of.ACCEPT, http.post("/graphql", json={"query": VIEWER}, headers=who | {"Accept": "image/png"})),
    )
    german = messages_of("de")
    for text, request in refused:
        answer = await request
        assert answer.json()["detail"].startswith(german[text.words].partition("{")[0]), text
        assert (answer.headers["content-language"], answer.headers["vary"]) == ("de", "Accept-Language"), text
    given = {"to": 1, "amount": {"minorUnits": "1", "more": 2}, "reference": []}
    answer = await http.post(path, json=given, headers=who | {"Idempotency-Key": new_key()})
    told = {".".join(one["path"]): (one["code"], one["reason"], one["message"]) for one in answer.json()["problems"]}
    wrong = {
        "fromAccountId": reasons.MISSING,
        "to": reasons.OBJECT,
        "amount.currency": reasons.MISSING,
        "amount.more": reasons.UNKNOWN,
        "reference": reasons.TEXT,
    }
    assert told == {name: ("INVALID_INPUT", one.code, german[one.words]) for name, one in wrong.items()}


async def test_successes_say_no_language(site: tuple[httpx.AsyncClient, list[Person]]) -> None:
    """They have no messages, and do nothing for them."""
    http, (ann, _) = site
    answer = await http.post("/graphql", json={"query": VIEWER}, headers=by(ann) | GERMAN)
    assert "content-language" not in answer.headers
    assert "vary" not in answer.headers


async def test_a_connection_keeps_no_long_text() -> None:
    """What `connection_init` says of languages stays as long as the connection: only the language is kept."""
    for given, kept in (("x" * 60_000 + ",de", b"en"), ("fr, de;q=0.5", b"de"), ("\u65e5\u672c", b"en")):
        socket = WebSocket(
            {"type": "websocket", "scheme": "wss", "headers": [], "app": MagicMock()}, AsyncMock(), AsyncMock()
        )
        socket.application_state = WebSocketState.CONNECTED
        connection = Connection(socket, MagicMock(), MagicMock(), MagicMock())
        await connection._init({"Accept-Language": given})
        assert connection._headers[b"accept-language"] == kept


async def test_websockets_speak_german(server: Server, people: list[Person]) -> None:
    """By the payload of `connection_init`."""
    query = 'subscription { accountEvents(accountId: "acc_x") { sequence } }'
    async with talking(server.url, begin=False) as talk:
        given = {"authorization": f"Bearer {people[0].token}", "Accept-Language": "de"}
        await talk.say("connection_init", payload=given)
        await talk.hear()
        await talk.ask(query, {})
        assert "kein solches Konto" in str(await talk.hear())
