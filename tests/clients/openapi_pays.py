"""Pays over REST with the client that openapi-python-client made of /openapi.json, and reports what the answers say."""

from __future__ import annotations

import json
import os
import sys
import uuid
from importlib import import_module
from typing import Any


def api(module: str) -> Any:
    """A module of the client, which is made only when this runs."""
    return import_module(f"wallet_api.{module}")


def main() -> None:
    """Pay, pay again, pay too much, and read."""
    models = api("models")
    client = api("client").AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["TOKEN"])

    def pay(minor_units: str, key: str) -> Any:
        money = models.GivenMoney(minor_units=minor_units, currency=models.GivenMoneyCurrency.EUR)
        to = models.RecipientUsername(username=os.environ["PAYEE"])
        body = models.Payment(from_account_id=os.environ["ACCOUNT"], to=to, amount=money)
        return api("api.transfer.transfer").sync(client=client, body=body, idempotency_key=key)

    key = str(uuid.uuid4())
    first, again, poor = pay("250", key), pay("250", key), pay("99999999", str(uuid.uuid4()))
    holds = api("api.hold.list_holds").sync(client=client, first=5)
    report = {
        "same": first.transfer.id == again.transfer.id,
        "replayed": again.replayed,
        "direction": first.transfer.direction.value,
        "available": poor.available_minor,
        "code": poor.code,
        "holds": len(holds.holds),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
