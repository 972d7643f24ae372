"""The state of the stand-in for Stripe: intents, refunds, disputes, transfers, payouts and balances.

Requests come in through `answer`. What customers, banks and card holders do are methods (`pay`, `refund`, `dispute`,
`settle_payout` …), each of which adds an event to `events`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

PLATFORM: Final = ""
"""The account that the key belongs to; others are connected accounts."""

_REQUIRED: Final = {
    "payment_intents": ("amount", "currency"),
    "transfers": ("amount", "currency", "destination"),
    "payouts": ("amount", "currency"),
    "reversals": (),
}
_PREFIXES: Final = {"payment_intents": "pi", "transfers": "tr", "payouts": "po", "reversals": "trr", "refunds": "re"}

Body = dict[str, Any]


class Refusal(Exception):
    """An error answer. If `stored`, it is repeated for the same idempotency key."""

    def __init__(self, status: int, code: str, kind: str = "invalid_request_error", *, stored: bool = False) -> None:
        super().__init__(code)
        self.status = status
        self.stored = stored
        self.body: Body = {"error": {"type": kind, "code": code, "message": f"stand-in: {code}"}}


class StripeState:
    """One platform with its connected accounts. Not thread-safe."""

    def __init__(self) -> None:
        self.now = 1_790_000_000
        self.objects: dict[str, Body] = {}
        self.accounts: set[str] = set()
        self.balances: Counter[tuple[str, str]] = Counter()
        self.movements: list[Body] = []
        """The platform's balance transactions, oldest first."""
        self.events: list[Body] = []
        """All events, oldest first."""
        self.refuse_payouts = False
        self.knows_every_account = False
        """Every connected account is known without `connect`."""
        self._count = 0

    def of_kind(self, kind: str) -> list[Body]:
        """All objects of a kind, oldest first."""
        return [one for one in self.objects.values() if one["object"] == kind]

    # What customers, banks and the operator do

    def connect(self, account: str) -> str:
        """A customer gets a connected account."""
        self.accounts.add(account)
        return account

    def fund(self, amount: int, currency: str) -> None:
        """The operator pays into the platform's balance."""
        self._move("topup", amount, currency, None)

    def pay(self, intent_id: str, received: int | None = None) -> None:
        """The customer pays."""
        intent = self.objects[intent_id]
        if intent["status"] not in ("requires_payment_method", "processing"):
            return
        amount = intent["amount"] if received is None else received
        values = {"amount": amount, "currency": intent["currency"], "metadata": dict(intent["metadata"])}
        charge = self._make("charge", "ch", **values, payment_intent=intent_id)
        intent.update(status="succeeded", amount_received=amount, latest_charge=charge["id"])
        self._move("charge", amount, intent["currency"], charge["id"], fee=amount // 100)
        self._tell("payment_intent.succeeded", intent)

    def fail_payment(self, intent_id: str) -> None:
        """The customer's card is declined."""
        self._tell("payment_intent.payment_failed", self.objects[intent_id])

    def process(self, intent_id: str) -> None:
        """The customer pays by a method that takes days."""
        intent = self.objects[intent_id]
        if intent["status"] == "requires_payment_method":
            intent["status"] = "processing"
            self._tell("payment_intent.processing", intent)

    def refund(self, intent_id: str, amount: int) -> str | None:
        """The operator refunds at Stripe's dashboard. Returns the refund's id; None if nothing is left to refund."""
        intent = self.objects[intent_id]
        left = intent["amount_received"] - sum(one["amount"] for one in self._standing_refunds(intent_id))
        if not 0 < amount <= left:
            return None
        values = {"amount": amount, "currency": intent["currency"], "payment_intent": intent_id, "status": "succeeded"}
        made = self._make("refund", "re", **values, failure_balance_transaction=None)
        made["balance_transaction"] = self._move("refund", -amount, intent["currency"], made["id"])
        self._tell("charge.refunded", self.objects[intent["latest_charge"]])
        self._tell("refund.created", made)
        return str(made["id"])

    def fail_refund(self, refund_id: str) -> None:
        """The card holder's bank returns a refund."""
        refund = self.objects[refund_id]
        if refund["status"] != "succeeded":
            return
        refund["status"] = "failed"
        moved = self._move("refund_failure", refund["amount"], refund["currency"], refund_id)
        refund["failure_balance_transaction"] = moved
        self._tell("refund.failed", refund)

    def dispute(self, intent_id: str, amount: int) -> str:
        """The card holder disputes the payment: the money is withdrawn at once."""
        intent = self.objects[intent_id]
        values = {"amount": amount, "currency": intent["currency"], "payment_intent": intent_id}
        made = self._make("dispute", "du", **values, status="needs_response", balance_transactions=[])
        self._take(made, -amount, fee=1500)
        self._tell("charge.dispute.created", made)
        self._tell("charge.dispute.funds_withdrawn", made)
        return str(made["id"])

    def reinstate(self, dispute_id: str, amount: int) -> None:
        """A part of a dispute's money is given back; a negative amount is taken again."""
        self._take(self.objects[dispute_id], amount, fee=0)
        self._tell("charge.dispute.funds_reinstated", self.objects[dispute_id])

    def close_dispute(self, dispute_id: str, *, won: bool) -> None:
        """The bank decides."""
        dispute = self.objects[dispute_id]
        if dispute["status"] != "needs_response":
            return
        dispute["status"] = "won" if won else "lost"
        if won:
            self._take(dispute, dispute["amount"], fee=0)
            self._tell("charge.dispute.funds_reinstated", dispute)
        self._tell("charge.dispute.closed", dispute)

    def settle_payout(self, payout_id: str, status: str) -> None:
        """The bank accepts a payout (`in_transit`, `paid`) or not (`failed`, `canceled`), even after it was paid."""
        payout = self.objects[payout_id]
        follows = {
            "pending": ("in_transit", "paid", "failed", "canceled"),
            "in_transit": ("paid", "failed"),
            "paid": ("failed",),
        }
        if status not in follows.get(payout["status"], ()):
            return
        payout["status"] = status
        if status in ("failed", "canceled"):
            self.balances[payout["account"], payout["currency"]] += payout["amount"]
        self._tell(f"payout.{status}", payout, payout["account"])

    # Requests from the wallet

    def answer(self, method: str, path: str, params: Mapping[str, Any], account: str) -> Body:
        """Carry out a request. Raises Refusal."""
        parts = path.strip("/").split("/")[1:]
        if account and not self._is_connected(account):
            raise Refusal(403, "account_invalid")
        match method, parts:
            case "GET", [kind]:
                return self._list(kind, params, account)
            case "GET", [_, name]:
                return deepcopy(self._found(name, account))
            case "POST", [kind] if kind in _PREFIXES:
                return deepcopy(self._create(kind, params, account))
            case "POST", [_, name, "cancel"]:
                return deepcopy(self._cancel(self._found(name, account)))
            case "POST", [_, name, "reversals"]:
                return deepcopy(self._reverse(self._found(name, account), params))
            case _:
                raise Refusal(404, "url_invalid")

    def _create(self, kind: str, params: Mapping[str, Any], account: str) -> Body:
        missing = [name for name in _REQUIRED[kind] if name not in params]
        if missing:
            raise Refusal(400, "parameter_missing")
        amount, currency = int(params["amount"]), str(params["currency"])
        whole = 100 if kind == "payouts" and currency in ("huf", "twd") else 1
        whole = 10 if currency in ("bhd", "jod", "kwd", "omr", "tnd") else whole
        if amount <= 0 or amount % whole or currency != currency.lower():
            raise Refusal(400, "parameter_invalid_integer")
        common = {"amount": amount, "currency": currency, "metadata": dict(params.get("metadata", {}))}
        if kind == "payment_intents":
            return self._create_intent(common)
        if kind == "transfers":
            return self._create_transfer(common, params)
        return self._create_payout(common, account)

    def _create_intent(self, common: Body) -> Body:
        if common["amount"] < {"gbp": 30, "huf": 17_500, "jpy": 50, "czk": 1_500}.get(common["currency"], 50):
            raise Refusal(400, "amount_too_small")
        if common["amount"] > (10**12 - 1 if common["currency"] == "idr" else 10**10 - 1):
            raise Refusal(400, "amount_too_large")
        made = self._make("payment_intent", "pi", **common, amount_received=0, status="requires_payment_method")
        made["client_secret"] = f"{made['id']}_secret_{self._count}"
        self._tell("payment_intent.created", made)
        return made

    def _create_transfer(self, common: Body, params: Mapping[str, Any]) -> Body:
        destination, group = str(params["destination"]), params.get("transfer_group")
        if not self._is_connected(destination):
            raise Refusal(400, "resource_missing")
        if self.balances[PLATFORM, common["currency"]] < common["amount"]:
            raise Refusal(400, "balance_insufficient", stored=True)
        made = self._make("transfer", "tr", **common, destination=destination, transfer_group=group, amount_reversed=0)
        self.balances[destination, common["currency"]] += common["amount"]
        self._move("transfer", -common["amount"], common["currency"], made["id"])
        self._tell("transfer.created", made)
        return made

    def _create_payout(self, common: Body, account: str) -> Body:
        if self.refuse_payouts:
            raise Refusal(400, "payouts_not_allowed", stored=True)
        if self.balances[account, common["currency"]] < common["amount"]:
            raise Refusal(400, "balance_insufficient", stored=True)
        made = self._make("payout", "po", **common, status="pending", account=account)
        self.balances[account, common["currency"]] -= common["amount"]
        self._tell("payout.created", made, account)
        return made

    def _cancel(self, intent: Body) -> Body:
        if intent["status"] != "requires_payment_method":
            raise Refusal(400, "payment_intent_unexpected_state", stored=True)
        intent["status"] = "canceled"
        self._tell("payment_intent.canceled", intent)
        return intent

    def _reverse(self, transfer: Body, params: Mapping[str, Any]) -> Body:
        amount = int(params.get("amount", transfer["amount"]))
        place = (transfer["destination"], transfer["currency"])
        if amount > transfer["amount"] - transfer["amount_reversed"]:
            raise Refusal(400, "transfer_already_reversed", stored=True)
        if self.balances[place] < amount:
            raise Refusal(400, "balance_insufficient", stored=True)
        values = {"amount": amount, "currency": transfer["currency"], "transfer": transfer["id"]}
        made = self._make("transfer_reversal", "trr", **values, metadata=dict(params.get("metadata", {})))
        transfer["amount_reversed"] += amount
        self.balances[place] -= amount
        self._move("transfer_refund", amount, transfer["currency"], made["id"])
        self._tell("transfer.reversed", transfer)
        return made

    def _list(self, kind: str, params: Mapping[str, Any], account: str) -> Body:
        if kind == "balance_transactions":
            found = [{**one, "source": deepcopy(self.objects.get(one["source"]))} for one in self.movements]
        else:
            name = {"transfers": "transfer", "payouts": "payout", "refunds": "refund", "disputes": "dispute"}[kind]
            found = [one for one in self.objects.values() if one["object"] == name]
        if kind == "payouts":
            found = [one for one in found if one["account"] == account]
        for name in ("transfer_group", "destination", "payment_intent"):
            if name in params:
                found = [one for one in found if one.get(name) == params[name]]
        since = int(params.get("created", {}).get("gte", 0))
        found = [deepcopy(one) for one in reversed(found) if one["created"] >= since]
        if "starting_after" in params:
            ids = [one["id"] for one in found]
            found = found[ids.index(params["starting_after"]) + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": f"/v1/{kind}"}

    # Bookkeeping

    def _is_connected(self, account: str) -> bool:
        return self.knows_every_account or account in self.accounts

    def _found(self, name: str, account: str) -> Body:
        found = self.objects.get(name)
        if found is None or (found["object"] == "payout" and found["account"] != account):
            raise Refusal(404, "resource_missing")
        return found

    def _standing_refunds(self, intent_id: str) -> list[Body]:
        return [
            one
            for one in self.objects.values()
            if one["object"] == "refund" and one["payment_intent"] == intent_id and one["status"] == "succeeded"
        ]

    def _make(self, kind: str, prefix: str, **values: Any) -> Body:
        self._count += 1
        made: Body = {"id": f"{prefix}_{self._count:06}", "object": kind, "created": self.now, "livemode": False}
        made.update(values)
        self.objects[made["id"]] = made
        return made

    def _move(self, kind: str, amount: int, currency: str, source: str | None, fee: int = 0) -> str:
        self._count += 1
        currency = currency.lower()
        moved = {"id": f"txn_{self._count:06}", "object": "balance_transaction", "type": kind, "amount": amount}
        moved |= {"fee": fee, "net": amount - fee, "currency": currency, "source": source, "created": self.now}
        self.movements.append(moved)
        self.balances[PLATFORM, currency] += amount - fee
        return str(moved["id"])

    def _take(self, dispute: Body, amount: int, fee: int) -> None:
        moved = self._move("adjustment", amount, dispute["currency"], dispute["id"], fee)
        dispute["balance_transactions"].append(deepcopy(next(m for m in self.movements if m["id"] == moved)))

    def _tell(self, kind: str, about: Body, account: str | None = None) -> None:
        self._count += 1
        event: Body = {
            "id": f"evt_{self._count:06}",
            "object": "event",
            "type": kind,
            "created": self.now,
            "livemode": False,
            "api_version": "2026-10-28.endive",
            "data": {"object": deepcopy(about)},
        }
        if account:
            event["account"] = account
        self.events.append(event)
