"""Trusted documents: the forms of a manifest, and what each mode runs, over every transport."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration._live import talking
from tests.integration._server import TRANSFER, Person, Server, counted, run_cli, serving
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.settings import TrustedDocuments, load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.graphql.asked import Asked
from wallet_gql.transports.graphql.documents import Documents, read_manifest
from wallet_gql.transports.graphql.failures import Unanswerable

pytestmark = pytest.mark.balances(10_000, 0)

ME: Final = "query Me { viewer { username } }"
WATCH: Final = "subscription Watch($id: ID!) { accountEvents(accountId: $id) { sequence } }"
FREE: Final = "{ viewer { id } }"


def sha256(text: str) -> str:
    """A document's hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def persisted(text: str) -> dict[str, Any]:
    """The extension that names a document by its hash."""
    return {"persistedQuery": {"version": 1, "sha256Hash": sha256(text)}}


PAY: Final = hashlib.md5(TRANSFER.encode()).hexdigest()
MANIFEST: Final = {f"sha256:{sha256(ME)}": ME, sha256(WATCH): WATCH, PAY: TRANSFER}


@pytest.fixture(scope="module", params=[TrustedDocuments.OFF, TrustedDocuments.PREFER, TrustedDocuments.ONLY])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in each of the modes."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    settings = {"trusted_documents": str(request.param), "trusted_documents_file": str(folder / "manifest.json")}
    with serving(folder, **settings) as server:
        yield server


def mode_of(request: pytest.FixtureRequest) -> TrustedDocuments:
    """The mode that a test's server is in."""
    found: TrustedDocuments = request.node.callspec.params["server"]
    return found


def ask(server: Server, person: Person, **body: Any) -> tuple[int, Any]:
    """Status and body of a request."""
    headers = {"Authorization": f"Bearer {person.token}", "Accept": "application/graphql-response+json"}
    answer = httpx.post(f"{server.url}/graphql", json=body, headers=headers, timeout=patience(30))
    return answer.status_code, answer.json()


def code_of(answer: tuple[int, Any]) -> str:
    """The code of a request that was refused with 400."""
    status, body = answer
    assert (status, "data" in body) == (400, False)
    return str(body["errors"][0]["extensions"]["code"])


def test_documents_by_id(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """A document is found by its id with the prefix or bare, by any digest, and by the hash in the extensions."""
    ids: list[dict[str, Any]] = [
        {"documentId": f"sha256:{sha256(ME)}"},
        {"documentId": sha256(ME)},
        {"extensions": persisted(ME)},
    ]
    for given in ids:
        answer = ask(server, people[0], **given)
        if mode_of(request) is TrustedDocuments.OFF:
            assert code_of(answer) == "PERSISTED_QUERY_NOT_SUPPORTED"
        else:
            assert answer[1]["data"] == {"viewer": {"username": people[0].username}}
    headers = {"Authorization": f"Bearer {people[0].token}"}
    parameters = {"extensions": json.dumps(persisted(ME))}
    got = httpx.get(f"{server.url}/graphql", params=parameters, headers=headers)
    assert ("errors" in got.json()) == (mode_of(request) is TrustedDocuments.OFF)


def test_payments_by_id(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """A mutation has its variables beside its id, and its key counts as ever."""
    if mode_of(request) is TrustedDocuments.OFF:
        return
    variables = {"input": people[0].pay(people[1].username, 1)}
    replays = [ask(server, people[0], documentId=PAY, variables=variables)[1]["data"]["transfer"] for _ in range(2)]
    assert [replay["replayed"] for replay in replays] == [False, True]


def test_whole_documents(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """`only` runs nothing but its own documents, word for word; the others run any."""
    before = counted(server.path, "transfers", "receipts")
    payment = {"input": people[0].pay(people[1].username, 1)}
    for text in (FREE, f"{ME} ", TRANSFER.replace("replayed", ""), "{ __schema { types { name } } }"):
        answer = ask(server, people[0], query=text, variables=payment if "mutation" in text else None)
        if mode_of(request) is TrustedDocuments.ONLY:
            assert code_of(answer) == "DOCUMENT_NOT_TRUSTED"
        else:
            assert answer[0] == 200
    if mode_of(request) is TrustedDocuments.ONLY:
        assert counted(server.path, "transfers", "receipts") == before
    assert ask(server, people[0], query=ME)[1]["data"]["viewer"]["username"] == people[0].username


def test_unknown_and_wrong_ids(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """An unknown id is reported; a wrong hash, two documents at once, and nonsense are errors."""
    is_off = mode_of(request) is TrustedDocuments.OFF
    unknown = "PERSISTED_QUERY_NOT_SUPPORTED" if is_off else "PERSISTED_QUERY_NOT_FOUND"
    assert code_of(ask(server, people[0], extensions=persisted(FREE))) == unknown
    for name in ("", "sha256:", "0" * 64, sha256(ME).upper(), f"md5:{sha256(ME)}", "x" * 10_000):
        assert code_of(ask(server, people[0], documentId=name)) == unknown
    mistakes: list[dict[str, Any]] = [
        {"query": FREE, "extensions": persisted(ME)},
        {"query": ME, "documentId": sha256(ME)},
        {"extensions": {"persistedQuery": "a hash"}},
        {"extensions": {"persistedQuery": {"version": 2, "sha256Hash": sha256(ME)}}},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": 7}}},
        {"extensions": {}},
    ]
    for body in mistakes:
        assert code_of(ask(server, people[0], **body)) == "BAD_REQUEST"


def test_nothing_is_registered(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """A hash that came with its query is as unknown afterwards as before."""
    answer = ask(server, people[0], query=FREE, extensions=persisted(FREE))
    assert (answer[0] == 200) == (mode_of(request) is not TrustedDocuments.ONLY)
    assert code_of(ask(server, people[0], extensions=persisted(FREE))).startswith("PERSISTED_QUERY_NOT_")


def test_subscriptions_by_id(request: pytest.FixtureRequest, server: Server, people: list[Person]) -> None:
    """WebSockets and streams obey the same mode."""
    person, is_only = people[0], mode_of(request) is TrustedDocuments.ONLY

    async def work() -> None:
        async with talking(server.url, person.token) as talk:
            given = {"documentId": sha256(WATCH), "variables": {"id": person.account_id}}
            await talk.say("subscribe", id="1", payload=given)
            message = await talk.hear()
            assert message["type"] == ("error" if mode_of(request) is TrustedDocuments.OFF else "next")
            await talk.ask(FREE, name="2")
            message = await talk.hear()
            assert message["type"] == ("error" if is_only else "next")
            if is_only:
                assert message["payload"][0]["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"

    asyncio.run(work())
    headers = {"Authorization": f"Bearer {person.token}", "Accept": "text/event-stream"}
    answer = httpx.post(f"{server.url}/graphql", json={"query": FREE}, headers=headers)
    assert ("DOCUMENT_NOT_TRUSTED" in answer.text) == is_only


# ---------------------------------------------------------------- the manifest


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ([], "one JSON object"),
        ({"me": ME}, "no digest"),
        ({sha256(ME)[:60]: ME}, "no digest"),
        ({sha256(ME).upper(): ME}, "no digest"),
        ({sha256(ME): 7}, "no text"),
        ({sha256(ME): f"{ME} "}, "make it anew"),
        ({hashlib.md5(ME.encode()).hexdigest(): FREE}, "make it anew"),
        ({sha256("{ viewer {"): "{ viewer {"}, "Syntax Error"),
    ],
)
def test_manifests_that_are_wrong(manifest: Any, told: str) -> None:
    """A wrong manifest is refused as a whole, with its fault."""
    with pytest.raises(ConfigurationError, match=told):
        read_manifest(manifest)


def test_an_empty_manifest_trusts_nothing() -> None:
    """With `only` and no documents, nothing runs."""
    documents = Documents(TrustedDocuments.ONLY, read_manifest({}))
    with pytest.raises(Unanswerable):
        documents.text_of(Asked.of({"query": ME}))


@pytest.mark.parametrize(("manifest", "workers"), [(None, "2"), (b"\xff", "1")])
def test_a_server_without_its_manifest_does_not_start(tmp_path: Path, manifest: bytes | None, workers: str) -> None:
    """The reason is printed, and the exit code is that of a wrong setting."""
    file = tmp_path / "manifest.json"
    if manifest is not None:
        file.write_bytes(manifest)
    settings = {"trusted_documents": "prefer", "trusted_documents_file": str(file)}
    done = run_cli(
        tmp_path, "serve", "--port", "0", "--workers", workers, storage=f"sqlite:///{tmp_path / 'w.db'}", **settings
    )
    assert done.returncode == 2
    assert "trusted" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_a_mode_needs_its_file() -> None:
    """`prefer` and `only` without a file are a mistake; `off` looks at none."""
    for mode in (TrustedDocuments.PREFER, TrustedDocuments.ONLY):
        with pytest.raises(ConfigurationError, match="WALLET_TRUSTED_DOCUMENTS_FILE"):
            Documents.load(load_settings(storage="memory://", trusted_documents=mode))
    Documents.load(load_settings(storage="memory://", trusted_documents_file="/nowhere"))
