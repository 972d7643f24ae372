"""A small service that sells seats and sends mails, each once, whatever clients retry and whenever it crashes.

```sh
pip install . starlette uvicorn     # in the folder of the repository
TICKETS_STORAGE=sqlite:///tickets.db uvicorn --app-dir examples --factory tickets:create_app
curl -sS http://127.0.0.1:8000/seats/ -H 'X-Customer: ann' -H 'Idempotency-Key: "first"' --data '{"seats": 2}'
```

Send the last line twice: the second answer is the first one, with `Idempotency-Replayed: true`.

`/seats/` is the safe kind: the sale and the receipt of its key are one commit. `/mails/` is the other kind: a mail that
has left cannot be taken back, so after a crash its key is in doubt until `look_into_outbox` has found out.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Scope as Connection

from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.model import Record, RecordKey
from wallet_gql.failpoints import reach
from wallet_gql.idempotency import Effects, Guard, Settled, Unfinished
from wallet_gql.idempotency.asgi import OPERATION, Answer, IdempotencyMiddleware, turn_of

SEATS: Final = int(os.environ.get("TICKETS_SEATS", "100"))
HALL: Final = 0
"""The slot in which the hall lives: every sale commits there."""

SOLD: Final = RecordKey("hall", "sold", HALL)


async def sell(request: Request) -> Response:
    """Sell some seats. The decision gives the answer, for only it knows how many are left."""
    wanted = (await request.json()).get("seats")
    if not isinstance(wanted, int) or wanted < 1:
        return JSONResponse({"error": "say how many seats"}, 400)

    def decide(snapshot: Snapshot) -> Decision[Answer | None]:
        before = snapshot.record(SOLD)
        sold = int(str(before.body["seats"])) if before else 0
        if sold + wanted > SEATS:
            return Decision(Changes(), Answer(409, {"error": "sold out", "left": SEATS - sold}))
        version = before.version + 1 if before else 1
        after = Record(SOLD.kind, SOLD.id, SOLD.slot, "hall", version, {"seats": sold + wanted})
        return Decision(Changes(records=(after,)), Answer(201, {"first": sold + 1, "last": sold + wanted}))

    turn_of(request.scope).join(Scope(HALL, records=(SOLD,)), decide)
    return Response(status_code=204)


def mail_with(outbox: Path) -> Route:
    """The route that sends mails; `outbox` stands for the mail server."""

    async def mail(request: Request) -> Response:
        """Send a mail. The mail server is told a key of its own, by which the mail is found again."""
        text = (await request.json())["text"]
        line = json.dumps({"id": turn_of(request.scope).key_outside, "text": text})
        with outbox.open("a") as file:
            file.write(f"{line}\n")
        reach("tickets.mailed")
        return JSONResponse({"mailed": text}, 202)

    return Route("/", mail, methods=["POST"])


def customer(connection: Connection) -> str | None:
    """Who asks. A real service looks at a session or a signed token here."""
    return next((value.decode("latin-1") for name, value in connection["headers"] if name == b"x-customer"), None)


def create_app() -> Starlette:
    """The service, over the store of `TICKETS_STORAGE`."""
    outbox = Path(os.environ.get("TICKETS_OUTBOX", "outbox.jsonl"))
    store = open_store(os.environ.get("TICKETS_STORAGE", "sqlite:///tickets.db"))

    async def look_into_outbox(found: Unfinished) -> Settled | None:
        """What became of a mail whose sender crashed: it is in the outbox, or it never will be."""
        mails = await asyncio.to_thread(read_mails, outbox)
        sent = next((mail for mail in mails if mail["id"] == found.key_outside), None)
        if sent is None:
            return Settled(happened=False)
        return Settled(happened=True, value=Answer(202, {"mailed": sent["text"]}).plain())

    lease_seconds = float(os.environ.get("TICKETS_LEASE_SECONDS", "30"))
    guard = Guard(store, lease_seconds=lease_seconds, completers={OPERATION: look_into_outbox})
    seats = Starlette(routes=[Route("/", sell, methods=["POST"])])
    mails = Starlette(routes=[mail_with(outbox)])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with store:
            sweeping = asyncio.create_task(sweep(guard))
            yield
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    return Starlette(
        routes=[
            Mount("/seats", IdempotencyMiddleware(seats, guard, caller=customer, slot=HALL)),
            Mount("/mails", IdempotencyMiddleware(mails, guard, caller=customer, effects=Effects.OUTSIDE)),
        ],
        lifespan=lifespan,
    )


def read_mails(outbox: Path) -> list[dict[str, str]]:
    """Every mail that has left."""
    lines = outbox.read_text().splitlines() if outbox.exists() else []
    return [json.loads(line) for line in lines]


async def sweep(guard: Guard) -> None:
    """Settle what crashes have left, all the time."""
    while True:
        await guard.sweep()
        await asyncio.sleep(0.2)
