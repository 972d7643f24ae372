"""Batches of 100 payments for `graphql_http.py`: over GraphQL, and by the ledger itself on the same rows.

The ledger runs in a process of its own, as the server does: reads one JSON object from standard input and writes one to
standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.graphql_client import KEY
from wallet_gql import Ledger
from wallet_gql.backends import open_store
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.verbs.batches import BATCH_MAX, BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.ledger import Posted, To

QUERY: Final = """mutation($input: TransferBatchInput!) { transferBatch(input: $input) { __typename
  ... on TransferBatchSuccess { complete results { __typename ... on TransferSuccess { transfer { id } } } }
  ... on WalletError { code message } } }"""
MARKER: Final = '"complete":true'


def variables(account_id: str, payee_account_id: str) -> dict[str, Any]:
    """A batch's payments, each with a key of its own."""
    payment = {
        "fromAccountId": account_id,
        "to": {"accountId": payee_account_id},
        "amount": {"minorUnits": "1", "currency": "EUR"},
        "reference": "tea and biscuits",
    }
    items = [payment | {"idempotencyKey": f"{KEY}-{number}"} for number in range(BATCH_MAX)]
    return {"input": {"mode": "INDEPENDENT", "items": items}}


async def pay(given: dict[str, Any]) -> dict[str, Any]:
    """So many batches at a time, until the time is over. Raises SystemExit."""
    run, people = f"{time.time_ns():x}", given["people"]
    batches = 0
    async with open_store(given["url"]) as store:
        ledger = Ledger(store)
        began, used = time.perf_counter(), time.process_time()

        async def caller(place: int) -> None:
            nonlocal batches
            (user_id, account_id), (_, payee) = people[place % len(people)], people[(place + 1) % len(people)]
            while time.perf_counter() - began < given["seconds"]:
                batches += 1
                to = To(account_id=AccountId(payee))
                items = [
                    BatchItem(f"{run}-{batches}-{number}", AccountId(account_id), to, 1, "EUR", "tea and biscuits")
                    for number in range(BATCH_MAX)
                ]
                answers = await transfer_batch(ledger, UserId(user_id), items, BatchMode.INDEPENDENT)
                if not all(isinstance(answer, Posted) for answer in answers):
                    raise SystemExit(f"a payment failed: {answers[0]!r}")

        await asyncio.gather(*map(caller, range(given["connections"])))
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return {"per_second": batches / seconds, "cpu_us": cpu / batches * 1e6}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(pay(json.load(sys.stdin))), sys.stdout)
