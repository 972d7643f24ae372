"""Notes on transfers in both APIs: each side sees its own, with a payment, later, in lists, statements and charts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.requests import Request

from tests.integration._graphql import ask, execute, wallet_in
from tests.integration._rest import Rest, code_of, somebody
from tests.integration._server import Client, Server, new_key, settle
from wallet_gql.domain.annotations import CATEGORY_MAX, Annotation
from wallet_gql.domain.changes import ReadSet, Snapshot
from wallet_gql.domain.errors import Unavailable
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.runtime import Wallet
from wallet_gql.transports.catalogue.operations import CATEGORY_COST
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.rest.history import SummaryQuery, read_summary
from wallet_gql.transports.rest.routing import Call
from wallet_gql.transports.rest.views import posted_view
from wallet_gql.verbs.ledger import To

pytestmark = pytest.mark.serving(proved=True)

NOTED: Final[dict[str, Any]] = {"category": "groceries", "metadata": {"invoice": "42", "till": "3"}}
NOTHING: Final[dict[str, Any]] = {"category": None, "metadata": {}}
SPAN: Final = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
NOTES: Final = "category metadata { name value } version"
ANNOTATE: Final = f"""mutation($input: AnnotateTransferInput!) {{ annotateTransfer(input: $input) {{ __typename
  ... on AnnotateTransferSuccess {{ transfer {{ {NOTES} }} }} ... on WalletError {{ code }} }} }}"""


def graphql(server: Server, rest: Rest, query: str, **variables: Any) -> Any:
    """The same person in GraphQL."""
    with Client(server.url, rest.person.token) as client:
        return client.run(query, variables)


def noted(server: Server, rest: Rest, transfer_id: str) -> dict[str, Any]:
    """A transfer's notes, which both APIs tell alike."""
    told = rest.get(f"/v1/transfer/{transfer_id}")
    found = graphql(server, rest, f"query($id: ID!) {{ transfer(id: $id) {{ {NOTES} }} }}", id=transfer_id)
    assert found["category"] == told["category"]
    assert {pair["name"]: pair["value"] for pair in found["metadata"]} == told["metadata"]
    assert [pair["name"] for pair in found["metadata"]] == sorted(told["metadata"])
    return {"category": told["category"], "metadata": told["metadata"]}


def test_with_a_payment(server: Server, ann: Rest, bob: Rest) -> None:
    """Both APIs take notes with a payment, alone and in a batch; the payee sees none of them, anywhere."""
    key = new_key()
    paid = [ann.pay(bob.person.username, 5, key, **NOTED) for _ in range(2)]
    assert [one.status_code for one in paid] == [201, 200]
    assert paid[0].json()["transfer"] == paid[1].json()["transfer"]
    assert code_of(ann.pay(bob.person.username, 5, key)) == (422, "IDEMPOTENCY_KEY_REUSED")
    items = [{**ann.payment(bob.person.username, 6, **NOTED), "idempotencyKey": new_key()}]
    batch = ann.ask("POST", "/v1/transfer/batch", json={"mode": "ATOMIC", "items": items}).json()
    pairs = [{"name": name, "value": value} for name, value in NOTED["metadata"].items()]
    given = {**ann.person.pay(bob.person.username, 7), "category": NOTED["category"], "metadata": pairs}
    sent = f"mutation($input: TransferInput!) {{ transfer(input: $input) {{ ... on TransferSuccess {{ transfer {{ id {NOTES} }} }} }} }}"  # noqa: E501 - a document
    made = graphql(server, ann, sent, input=given)["transfer"]
    assert (made["category"], made["metadata"]) == ("groceries", pairs)
    ids = [paid[0].json()["transfer"]["id"], batch["results"][0]["transfer"]["id"], made["id"]]
    for transfer_id in ids:
        assert noted(server, ann, transfer_id) == NOTED
        assert noted(server, bob, transfer_id) == NOTHING
    place = f"/v1/account/{bob.person.account_id}"
    for seen in (bob.get("/v1/entry")["entries"], bob.get(f"{place}/statement", **SPAN)["entries"]):
        assert [{name: one["transfer"][name] for name in NOTHING} for one in seen] == [NOTHING] * 3
    assert "groceries" not in bob.ask("GET", f"{place}/statement.csv", params=SPAN).text
    assert bob.get(f"{place}/summary", **SPAN, by="CATEGORY")["groups"][0]["category"] is None


def test_with_a_payment_to_a_merchant(server: Server, ann: Rest, bob: Rest) -> None:
    """The payer's notes are on every part of a split payment; neither the merchant nor who shares in it has any."""
    assert bob.ask("POST", "/v1/merchant", json={"name": "The Shop"}).status_code == 201
    for carl in somebody(server, 0):
        bill = {"fromAccountId": ann.person.account_id, "amount": {"minorUnits": 100, "currency": "EUR"}, **NOTED}
        bill |= {
            "merchant": bob.person.username,
            "splits": [{"to": {"username": carl.person.username}, "basisPoints": 900}],
        }
        key = new_key()
        first, again = (ann.ask("POST", "/v1/payment", key=key, json=bill) for _ in range(2))
        assert (first.status_code, again.status_code, first.json()["payment"]) == (201, 200, again.json()["payment"])
        (split,) = first.json()["splits"]
        for payee, one in ((bob, first.json()["payment"]), (carl, split)):
            assert {name: one[name] for name in NOTED} == noted(server, ann, one["id"]) == NOTED
            assert noted(server, payee, one["id"]) == NOTHING


def test_later(server: Server, ann: Rest, bob: Rest) -> None:
    """Each side notes for itself, what is left out stays, and the version grows; a third person learns nothing."""
    place = f"/v1/transfer/{ann.pay(bob.person.username, 5).json()['transfer']['id']}"
    transfer_id = place.rpartition("/")[2]
    first = ann.ask("PATCH", place, json={"category": "rent"})
    assert (first.status_code, first.json()["category"], first.json()["direction"]) == (200, "rent", "OUT")
    assert ann.ask("PATCH", place, json={"metadata": {"flat": "2"}}).json() == ann.get(place)
    assert noted(server, ann, transfer_id) == {"category": "rent", "metadata": {"flat": "2"}}
    versions = []
    changes: list[dict[str, Any]] = [{"category": "income"}] * 2 + [{"metadata": [{"name": "a", "value": ""}]}]
    for given in changes:
        told = graphql(server, bob, ANNOTATE, input={"transferId": transfer_id, **given})
        assert told["__typename"] == "AnnotateTransferSuccess"
        versions.append(int(told["transfer"]["version"]))
    assert versions[0] == versions[1] < versions[2]
    assert noted(server, bob, transfer_id) == {"category": "income", "metadata": {"a": ""}}
    assert noted(server, ann, transfer_id) == {"category": "rent", "metadata": {"flat": "2"}}
    assert ann.ask("PATCH", place, json={"category": "", "metadata": {}}).status_code == 200
    assert noted(server, ann, transfer_id) == NOTHING
    for carl in somebody(server, 0):
        assert code_of(carl.ask("PATCH", place, json={"category": "x"})) == (404, "TRANSFER_NOT_FOUND")
        told = graphql(server, carl, ANNOTATE, input={"transferId": transfer_id, "category": "x"})
        assert told == {"__typename": "Refusal", "code": "TRANSFER_NOT_FOUND"}
    for wrong in ({"category": "x" * (CATEGORY_MAX + 1)}, {"metadata": {"": "1"}}, {"metadata": {"a": 1}}, {"x": 1}):
        assert code_of(ann.ask("PATCH", place, json=wrong)) == (400, "INVALID_INPUT")
    assert noted(server, ann, transfer_id) == NOTHING


def test_a_batch_with_malformed_notes(ann: Rest, bob: Rest) -> None:
    """In REST a malformed payment refuses the whole batch, in both modes: nothing moves, and the place is named."""
    wrong: tuple[dict[str, Any], ...] = ({"category": "x" * (CATEGORY_MAX + 1)}, {"metadata": {"": "1"}})
    for mode in ("ATOMIC", "INDEPENDENT"):
        for notes in wrong:
            items = [
                {**ann.payment(bob.person.username, 5, **each), "idempotencyKey": new_key()} for each in ({}, notes)
            ]
            answer = ann.ask("POST", "/v1/transfer/batch", json={"mode": mode, "items": items})
            assert code_of(answer) == (400, "INVALID_INPUT")
            assert [one["path"] for one in answer.json()["problems"]] == [["items", "1", *notes]]
    assert ann.balance() == ("100000", "0")


def test_statements_and_charts(server: Server, ann: Rest, bob: Rest) -> None:
    """A statement's rows have them, which no spreadsheet runs; a summary adds up each category and the rest."""
    for minor, category in ((5, "food"), (6, "food"), (7, "=1+1"), (8, "")):
        assert ann.pay(bob.person.username, minor, category=category, metadata={"=a": "\u00e4"}).status_code == 201
    place = f"/v1/account/{ann.person.account_id}"
    rows = list(csv.DictReader(io.StringIO(ann.ask("GET", f"{place}/statement.csv", params=SPAN).text, newline="")))
    assert [row["category"] for row in rows] == ["", "food", "food", "'=1+1", ""]
    assert [json.loads(row["metadata"]) for row in rows] == [{}, *[{"=a": "\u00e4"}] * 4]
    told = ann.get(f"{place}/summary", **SPAN, by="CATEGORY")["groups"]
    sums = {one["category"]: (one["count"], one["received"]["minorUnits"], one["spent"]["minorUnits"]) for one in told}
    assert sums == {None: (2, "100000", "8"), "food": (2, "0", "11"), "=1+1": (1, "0", "7")}
    found = graphql(
        server, ann,
        "query($id: ID!, $since: DateTime!, $until: DateTime!) { account(id: $id) { summary(since: $since, "
        "until: $until, by: CATEGORY) { groups { category count spent { minorUnits } } } } }",
        id=ann.person.account_id, **SPAN,
    )["summary"]["groups"]  # fmt: skip
    assert {one["category"]: (one["count"], one["spent"]["minorUnits"]) for one in found} == {
        category: (count, spent) for category, (count, _, spent) in sums.items()
    }


async def test_a_summary_by_category_costs_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads a record for each entry, so both APIs deduct more for it than for one by kind, which reads none."""
    query = "query($id: ID!, $since: DateTime!, $until: DateTime!, $by: SummaryBy!) { account(id: $id) { summary(since: $since, until: $until, by: $by) { complete } } }"  # noqa: E501 - a document
    async with wallet_in(tmp_path) as wallet:
        person = await settle(wallet, 1_000)
        caller = Caller(wallet.identity, person.token)
        request = Request({"type": "http", "path_params": {"account_id": person.account_id}})
        costs, spent = [], list[int]()

        async def spend(_: Caller, cost: int) -> None:
            spent.append(cost)

        monkeypatch.setattr(Caller, "spend", spend)
        for by in ("KIND", "CATEGORY"):
            spent.clear()
            result = await execute(wallet, person.token, query, {"id": person.account_id, **SPAN, "by": by})
            assert result.errors is None
            assert result.extensions is not None
            told = result.extensions["cost"]["requested"]
            assert told == sum(spent)
            spent.clear()
            await read_summary(Call(request, wallet, caller), SummaryQuery.model_validate({**SPAN, "by": by}))
            costs.append((told, sum(spent)))
        assert [after - before for before, after in zip(*costs, strict=True)] == [CATEGORY_COST] * 2


async def test_notes_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment whose notes cannot be read again was made all the same; its answer does not say that it has none."""
    async with wallet_in(tmp_path) as wallet:
        payer, payee = await settle(wallet, 1_000), await settle(wallet)
        user_id = UserId(payer.id)
        paid = await wallet.ledger.transfer(
            user_id, new_key(), source=AccountId(payer.account_id), to=To(username=payee.username),
            amount_minor=1, currency="EUR", annotation=Annotation("rent", (("flat", "2"),)),
        )  # fmt: skip

        async def gone(_: ReadSet) -> Snapshot:
            raise Unavailable

        told = []
        for fetch in (wallet.store.fetch, gone):
            monkeypatch.setattr(wallet.store, "fetch", fetch)
            shown = (await posted_view(wallet, user_id, paid, paid=True)).transfer
            told.append((shown.category, shown.metadata))
        assert told == [("rent", {"flat": "2"}), (None, None)]


async def reads_of(wallet: Wallet, token: str, selected: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    """How many reads a page of history takes, and the page."""
    reads: list[ReadSet] = []
    fetch = wallet.store.fetch

    async def counted(asked: ReadSet) -> Snapshot:
        reads.append(asked)
        return await fetch(asked)

    query = "{ viewer { accounts { history(first: 50) { nodes { sequence transfer { id kind %s } } } } } }"
    with monkeypatch.context() as patch:
        patch.setattr(wallet.store, "fetch", counted)
        found = await ask(wallet, token, query % selected)
    return len(reads), found["accounts"][0]["history"]["nodes"]


async def test_a_page_reads_all_notes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks for notes takes one read more, whatever its length; one that does not takes none."""
    async with wallet_in(tmp_path) as wallet:
        payer, payee = await settle(wallet, 1_000), await settle(wallet)
        for number in range(20):
            await wallet.ledger.transfer(
                UserId(payer.id), new_key(), source=AccountId(payer.account_id), to=To(username=payee.username),
                amount_minor=1, currency="EUR", annotation=Annotation(str(number), (("n", str(number)),)),
            )  # fmt: skip
        await reads_of(wallet, payer.token, "", monkeypatch)  # of the session, too
        plain, _ = await reads_of(wallet, payer.token, "", monkeypatch)
        for selected in ("category", "category metadata { name value }"):
            count, nodes = await reads_of(wallet, payer.token, selected, monkeypatch)
            assert count == plain + 1
            told = [node["transfer"]["category"] for node in nodes]
            assert told == [*(str(number) for number in reversed(range(20))), None]
