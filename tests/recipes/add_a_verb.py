"""After `add_a_verb.patch`: the verb works, by both APIs, with what it may refuse with, and can be rate-limited."""

from __future__ import annotations

import asyncio
import json

import httpx

from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.catalogue.operations import NAMES
from wallet_gql.transports.graphql.schema import sdl
from wallet_gql.transports.rest.routes import openapi_text
from wallet_gql.transports.server.app import create_app

NAME = "freezeAccount"
PASSWORD = "one long pass phrase"
FREEZE = """mutation($id: ID!) { freezeAccount(input: {accountId: $id}) {
  __typename ... on FreezeAccountSuccess { account { state } } ... on WalletError { code } } }"""


async def use() -> None:
    """Freeze an account by REST and another one by GraphQL."""
    settings = load_settings(storage="memory://", rate_limits="off", mode="development")
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            anna = await wallet.identity.sign_up("anna", "anna@example.org", PASSWORD)
            euros, dollars = [await wallet.ledger.open_account(anna.id, currency) for currency in ("EUR", "USD")]
            logged_in = await client.post(
                "/v1/session", json={"login": "anna", "password": PASSWORD, "session": "BEARER"}
            )
            client.headers["Authorization"] = f"Bearer {logged_in.json()['token']}"

            frozen = await client.post(f"/v1/account/{euros.id}/freeze")
            assert (frozen.status_code, frozen.json()["state"]) == (200, "FROZEN"), frozen.text
            other = f"{euros.id[:-1]}{'1' if euros.id.endswith('0') else '0'}"
            absent = await client.post(f"/v1/account/{other}/freeze")
            assert absent.json()["code"] == "ACCOUNT_NOT_FOUND", absent.text
            asked = {"query": FREEZE, "variables": {"id": dollars.id}}
            told = (await client.post("/graphql", json=asked)).json()["data"][NAME]
            assert told == {"__typename": "FreezeAccountSuccess", "account": {"state": "FROZEN"}}, told


def main() -> None:
    """Check the verb and everything that is made from its entry in the catalogue."""
    asyncio.run(use())
    assert NAME in NAMES
    assert "union FreezeAccountResult = FreezeAccountSuccess | InDoubt | InvalidInput | Refusal | Unavailable" in sdl()
    described = json.loads(openapi_text())["paths"]["/v1/account/{account_id}/freeze"]["post"]
    assert described["operationId"] == NAME
    assert {"400", "401", "404", "409", "503", "504"} <= set(described["responses"])


if __name__ == "__main__":
    main()
