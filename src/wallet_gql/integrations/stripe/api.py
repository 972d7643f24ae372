"""Stripe's API as the flows use it: a few calls that return plain values, or raise NoAnswer or Declined.

Every writing call has an idempotency key made from the flow's id, so it has one effect however often it is made. Stripe
forgets keys after a day or more, so a flow that repeats a call asks first whether it has happened. The API version is
pinned, the flows do the retries, and the account's key is never part of a message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Final

import stripe
from stripe import HTTPXClient, StripeClient, StripeError

from ... import traces
from ...domain.topups import ClawbackSeen, IntentSeen, TopUp
from ...domain.withdrawals import PayoutSeen, Withdrawal
from .provider import Declined, Intent, Movement, NoAnswer

API_VERSION: Final = "2026-10-28.endive"
"""The version of the API whose answers are parsed; `stripe` 16.1 was made for it."""

API_BASE: Final = "https://api.stripe.com"
TOP_UP_ID: Final = "wallet_top_up"
WITHDRAWAL_ID: Final = "wallet_withdrawal"
"""The metadata that link Stripe's objects to ours."""

_PAGE: Final = 100
_NO_ANSWER: Final = (
    stripe.APIConnectionError,
    stripe.RateLimitError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.IdempotencyError,
)
"""Errors that say nothing about the outcome, even a wrong API key, or a key reused with other parameters (our bug)."""

_REFUSING: Final = frozenset({400, 402, 404})


class _Http(HTTPXClient):
    """Stripe's client for httpx, without its use of a parameter that httpx has deprecated."""

    def _get_request_args_kwargs(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | bytes | None
    ) -> tuple[tuple[str, str], dict[str, Any]]:
        return (method, url), {"headers": headers, "content": post_data or b"", "timeout": self._timeout}


class StripeApi:
    """Calls to Stripe's API. All raise NoAnswer and Declined."""

    def __init__(self, key: str, *, base_url: str = API_BASE, timeout_seconds: float = 10.0) -> None:
        """`key` is the account's secret key; `base_url` may be a stand-in's."""
        self._http = _Http(timeout=timeout_seconds)
        self._client = StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": base_url},
            max_network_retries=0,
            http_client=self._http,
        )
        self.is_live = is_live(key)
        self.timeout_seconds = timeout_seconds

    def __repr__(self) -> str:
        """Shows no key, so that no log does."""
        return f"StripeApi(is_live={self.is_live})"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]  # the library's

    # Money in

    async def create_intent(self, top_up: TopUp) -> Intent:
        """Create the PaymentIntent of a top-up, or return the one created before."""
        params: Any = {
            "amount": top_up.amount_minor,
            "currency": top_up.currency.lower(),
            "automatic_payment_methods": {"enabled": True},
            "metadata": {TOP_UP_ID: top_up.id},
        }
        options: Any = {"idempotency_key": f"{top_up.id}/intent"}
        return _intent(await self._write(self._client.v1.payment_intents.create_async(params, options)))

    async def intent(self, intent_id: str) -> Intent:
        """A PaymentIntent as it is now."""
        return _intent(await self._read(self._client.v1.payment_intents.retrieve_async(intent_id)))

    async def cancel_intent(self, top_up: TopUp) -> Intent:
        """Cancel a top-up's intent. Raises Declined if it is paid, being paid, or already cancelled."""
        assert top_up.intent_id is not None
        options: Any = {"idempotency_key": f"{top_up.id}/cancel"}
        params: Any = {"cancellation_reason": "abandoned"}
        return _intent(
            await self._write(self._client.v1.payment_intents.cancel_async(top_up.intent_id, params, options))
        )

    async def clawbacks(self, intent_id: str) -> list[ClawbackSeen]:
        """Every refund and dispute of a PaymentIntent, oldest first, and whether it was taken from Stripe's balance.

        Raises only NoAnswer: a declined query proves nothing.
        """
        where: Any = {"payment_intent": intent_id}
        refunds, disputes = self._client.v1.refunds.list_async, self._client.v1.disputes.list_async
        try:
            found = [(int(one["created"]), _refund(one)) async for one in self._all(refunds, where)]
            found += [(int(one["created"]), _dispute(one)) async for one in self._all(disputes, where)]
        except Declined as refused:
            raise NoAnswer(refused.reason) from refused
        return [seen for _, seen in sorted(found, key=lambda row: (row[0], row[1].id))]

    # Money out

    async def send(self, withdrawal: Withdrawal) -> str:
        """Transfer a withdrawal's money to the customer's connected account; returns the transfer's id."""
        params: Any = {
            "amount": withdrawal.amount_minor,
            "currency": withdrawal.currency.lower(),
            "destination": withdrawal.destination,
            "transfer_group": withdrawal.id,
            "metadata": {WITHDRAWAL_ID: withdrawal.id},
        }
        options: Any = {"idempotency_key": f"{withdrawal.id}/transfer"}
        return str((await self._write(self._client.v1.transfers.create_async(params, options)))["id"])

    async def find_sent(self, withdrawal: Withdrawal) -> str | None:
        """The transfer's id, if it has been made."""
        where: Any = {"transfer_group": withdrawal.id, "destination": withdrawal.destination}
        async for one in self._all(self._client.v1.transfers.list_async, where):
            return str(one["id"])
        return None

    async def pay_out(self, withdrawal: Withdrawal) -> PayoutSeen:
        """Pay the money out from the connected account to its bank."""
        params: Any = {
            "amount": withdrawal.amount_minor,
            "currency": withdrawal.currency.lower(),
            "metadata": {WITHDRAWAL_ID: withdrawal.id},
        }
        options: Any = {
            "idempotency_key": f"{withdrawal.id}/payout",
            "stripe_account": withdrawal.destination,
        }
        made = await self._write(self._client.v1.payouts.create_async(params, options))
        return _payout(made, withdrawal.destination)

    async def find_payout(self, withdrawal: Withdrawal) -> PayoutSeen | None:
        """The payout, if it has been made.

        Payouts cannot be searched by metadata, so all since the withdrawal are read; and those of the day before,
        because the withdrawal's time is by our clock, not Stripe's.
        """
        where: Any = {"created": {"gte": int(withdrawal.created_at.timestamp()) - 24 * 3600}}
        options: Any = {"stripe_account": withdrawal.destination}
        async for one in self._all(self._client.v1.payouts.list_async, where, options):
            if _metadata(one).get(WITHDRAWAL_ID) == withdrawal.id:
                return _payout(one, withdrawal.destination)
        return None

    async def payout(self, payout_id: str, destination: str) -> PayoutSeen:
        """A payout of a connected account as it is now."""
        options: Any = {"stripe_account": destination}
        return _payout(await self._read(self._client.v1.payouts.retrieve_async(payout_id, None, options)), destination)

    async def take_back(self, withdrawal: Withdrawal) -> None:
        """Reverse the transfer to the connected account, all of it, which Stripe does once at most.

        Each lease has a key of its own: under the former one Stripe would repeat a refusal for a day, although the
        account may have money again. Source: https://docs.stripe.com/api/idempotent_requests.
        """
        assert withdrawal.sent_id is not None
        params: Any = {"amount": withdrawal.amount_minor, "metadata": {WITHDRAWAL_ID: withdrawal.id}}
        options: Any = {"idempotency_key": f"{withdrawal.id}/undo/{withdrawal.lease:x}"}
        await self._write(self._client.v1.transfers.reversals.create_async(withdrawal.sent_id, params, options))

    async def is_taken_back(self, withdrawal: Withdrawal) -> bool:
        """Whether the transfer has been reversed, all of it."""
        assert withdrawal.sent_id is not None
        sent = await self._read(self._client.v1.transfers.retrieve_async(withdrawal.sent_id))
        return int(sent["amount_reversed"]) >= withdrawal.amount_minor

    # Everything

    async def movements(self, since: int | None = None) -> AsyncIterator[Movement]:
        """Stripe's balance transactions since `since` (Unix seconds), newest first."""
        where: Any = {"expand": ["data.source"]}
        if since is not None:
            where["created"] = {"gte": since}
        async for one in self._all(self._client.v1.balance_transactions.list_async, where):
            yield _movement(one)

    async def _write(self, call: Awaitable[Any]) -> dict[str, Any]:
        """Make a writing call; returns its answer."""
        with traces.call("stripe write"):
            return await _answer(call)

    async def _read(self, call: Awaitable[Any]) -> dict[str, Any]:
        """Make a reading call; returns its answer."""
        with traces.call("stripe read"):
            return await _answer(call)

    async def _all(self, list_async: Any, where: Mapping[str, Any], options: Any = None) -> AsyncIterator[Any]:
        after: dict[str, str] = {}
        while True:
            page = await self._read(list_async({**where, **after, "limit": _PAGE}, options))
            for one in page["data"]:
                yield one
            if not page["has_more"] or not page["data"]:
                return
            after = {"starting_after": str(page["data"][-1]["id"])}


def is_live(key: str) -> bool:
    """Whether a secret or restricted key moves real money."""
    return "_live_" in key[:8]


async def _answer(call: Awaitable[Any]) -> dict[str, Any]:
    """Stripe's answer as plain data. Raises NoAnswer, Declined; neither contains what was sent."""
    try:
        made = await call
    except _NO_ANSWER as error:
        raise NoAnswer(f"{type(error).__name__} {error.http_status or ''}".strip()) from None
    except StripeError as error:
        if error.http_status in _REFUSING:
            raise Declined(str(error.code or type(error).__name__)[:100]) from None
        raise NoAnswer(f"{type(error).__name__} {error.http_status or ''}".strip()) from None
    plain: dict[str, Any] = made.to_dict()
    return plain


def _metadata(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    return plain.get("metadata") or {}


def _intent(plain: Mapping[str, Any]) -> Intent:
    seen = IntentSeen(
        id=str(plain["id"]),
        status=str(plain["status"]),
        amount_minor=int(plain["amount"]),
        received_minor=int(plain.get("amount_received") or 0),
        currency=str(plain["currency"]).upper(),
        top_up_id=str(_metadata(plain).get(TOP_UP_ID, "")),
    )
    secret = plain.get("client_secret")
    return Intent(seen, None if secret is None else str(secret))


def _payout(plain: Mapping[str, Any], destination: str) -> PayoutSeen:
    return PayoutSeen(
        id=str(plain["id"]),
        status=str(plain["status"]),
        amount_minor=int(plain["amount"]),
        currency=str(plain["currency"]).upper(),
        destination=destination,
        withdrawal_id=str(_metadata(plain).get(WITHDRAWAL_ID, "")),
    )


def _refund(plain: Mapping[str, Any]) -> ClawbackSeen:
    """Parse a refund. It has taken money once it has a balance transaction, and given it back once that failed."""
    taken: bool | None = None
    if plain.get("balance_transaction"):
        taken = not plain.get("failure_balance_transaction")
    amount_minor = int(plain["amount"])
    return ClawbackSeen(
        str(plain["id"]), amount_minor, str(plain["currency"]).upper(), taken, gone_minor=amount_minor if taken else 0
    )


def _dispute(plain: Mapping[str, Any]) -> ClawbackSeen:
    """Parse a dispute. It has taken money while its balance transactions sum to less than zero; an inquiry has none."""
    moved = plain.get("balance_transactions") or ()
    gone_minor = -sum(int(one["amount"]) for one in moved)
    taken = gone_minor > 0 if moved else None
    amount_minor, currency = int(plain["amount"]), str(plain["currency"])
    if taken and any(one["currency"] != currency for one in moved):  # settled in another: the sum tells only whether
        gone_minor = amount_minor
    return ClawbackSeen(str(plain["id"]), amount_minor, currency.upper(), taken, gone_minor=max(gone_minor, 0))


def _movement(plain: Mapping[str, Any]) -> Movement:
    source = plain.get("source")
    known: Mapping[str, Any] = source if isinstance(source, dict) else {}
    kind = str(known.get("object", ""))
    intent_id = known.get("payment_intent")
    if kind == "charge":
        about = str(intent_id or "")
    elif kind in ("refund", "dispute"):
        about = str(known["id"]) if intent_id else ""
    else:
        about = str(_metadata(known).get(WITHDRAWAL_ID, ""))
    return Movement(
        id=str(plain["id"]),
        kind=str(plain["type"]),
        about=about,
        amount_minor=int(plain["amount"]),
        fee_minor=int(plain["fee"]),
        currency=str(plain["currency"]).upper(),
        intent_id=str(intent_id) if intent_id else None,
        top_up_id=str(_metadata(known).get(TOP_UP_ID, "")),
    )
