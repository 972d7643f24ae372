"""After `add_an_error.patch`: the error is raised, remembered, answered by both APIs and documented."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from wallet_gql.domain.errors import Rejected, error_classes
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql.errors import as_data
from wallet_gql.transports.graphql.schema import sdl
from wallet_gql.transports.http.errors import problem
from wallet_gql.transports.rest.routes import openapi_text
from wallet_gql.verbs.ledger import To

CODE = "AMOUNT_TOO_SMALL"


async def refusal() -> Rejected:
    """What a payment of one cent is refused with, the first time and again."""
    async with open_wallet(load_settings(storage="memory://"), sweeps=False) as wallet:
        anna = await wallet.identity.sign_up("anna", "anna@example.org", "one long pass phrase")
        account = await wallet.ledger.open_account(anna.id, "EUR")
        await wallet.ledger.deposit(OPERATOR, "deposit", account.id, 100, "EUR")
        found = []
        for _ in range(2):
            try:
                await wallet.ledger.transfer(
                    anna.id, "pay", source=account.id, to=To(account.id, None), amount_minor=1, currency="EUR"
                )
            except Rejected as error:
                found.append(error)
        first, again = found
        assert (
            (first.code, first.fields) == (again.code, again.fields) == (CODE, {"minimum_minor": 2, "currency": "EUR"})
        )
        return first


def main() -> None:
    """Check everything that is made from the class."""
    error = asyncio.run(refusal())
    assert CODE in {kind.code for kind in error_classes()}
    assert as_data(error).code.value == CODE
    answer = problem(error)
    assert (answer.status_code, json.loads(bytes(answer.body))["minimumMinor"]) == (422, "2")
    assert f"\n  {CODE}\n" in sdl()
    described = json.loads(openapi_text())
    assert "AmountTooSmallProblem" in json.dumps(described["paths"]["/v1/transfer"]["post"]["responses"]["422"])
    assert f"| `{CODE}` | 422 |" in Path("docs/errors.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
