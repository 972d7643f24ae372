"""Compares what Stripe says it moved with the books, object by object, and settles what it safely can.

Stripe's balance transactions are compared with the entries of the system account `sys:stripe`, whose sign is opposite.
Both are summed by the object that they are about: a PaymentIntent, a refund, a dispute, or a withdrawal. Objects that
differ are fetched from Stripe again, which settles whatever a lost webhook left open. Remaining differences are listed,
with the reason if it is known.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ...domain.errors import PaymentsNotConfigured, WalletError, WithdrawalNotFound
from ...domain.ids import OPERATOR, TransferId, WithdrawalId, is_id, system_account
from ...domain.payments import PROVIDER, STRIPE
from ...domain.withdrawals import OPEN, WithdrawalState
from ...storage import SCAN_MAX, JournalItem, Store
from .provider import Declined, NoAnswer
from .topups import TopUps
from .withdrawals import Withdrawals

if TYPE_CHECKING:
    from .api import StripeApi

log: Final = logging.getLogger(__name__)

Key = tuple[str, str]
"""The object that money was moved for, and the currency."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Stripe and the books disagree about an object. `in_flight`: a withdrawal that is not finished explains it."""

    about: str
    currency: str
    stripe_minor: int
    books_minor: int
    in_flight: bool
    reason: str


@dataclass(slots=True)
class Reconciled:
    """What was compared. `others` are Stripe's movements that are not the wallet's, by kind and currency.

    Payments of other products on the same Stripe account are among them.
    """

    differences: list[Difference] = field(default_factory=list)
    stripe_minor: Counter[str] = field(default_factory=Counter)
    books_minor: Counter[str] = field(default_factory=Counter)
    fees_minor: Counter[str] = field(default_factory=Counter)
    others: Counter[Key] = field(default_factory=Counter)
    settled: int = 0

    @property
    def clean(self) -> bool:
        """Whether every difference is explained."""
        return all(one.in_flight for one in self.differences)


class Reconciler:
    """Compares and settles. It can run at any time, because it settles only by letting the flows look again."""

    def __init__(self, store: Store, api: StripeApi | None, top_ups: TopUps, withdrawals: Withdrawals) -> None:
        self._store = store
        self._api = api
        self._top_ups = top_ups
        self._withdrawals = withdrawals

    async def run(self, *, settle: bool = True) -> Reconciled:
        """Compare everything that Stripe has moved with everything in the books.

        Raises:
            PaymentsNotConfigured: there is no provider.
            NoAnswer: Stripe does not answer now.
        """
        if self._api is None:
            raise PaymentsNotConfigured
        found, intents = await self._compare(self._api)
        if not settle or not found.differences:
            return found
        await self._settle(found, intents)
        again, _ = await self._compare(self._api)
        still = {(one.about, one.currency) for one in again.differences}
        again.settled = sum((one.about, one.currency) not in still for one in found.differences)
        return again

    async def _settle(self, found: Reconciled, intents: Mapping[str, str]) -> None:
        for one in found.differences:
            try:
                if is_id("wdr", one.about):
                    await self._withdrawals.advance(WithdrawalId(one.about))
                    await self._withdrawals.look_for_sent(WithdrawalId(one.about))
                elif one.about in intents:
                    await self._top_ups.observe(intents[one.about], with_clawbacks=True)
            except (WalletError, Declined, NoAnswer) as error:  # it stays a difference, and the others are looked at
                log.warning("%s could not be looked at: %s", one.about, error)

    async def _compare(self, api: StripeApi) -> tuple[Reconciled, dict[str, str]]:
        report = Reconciled()
        stripe: Counter[Key] = Counter()
        paid: Counter[tuple[str, str, str, str]] = Counter()
        intents: dict[str, str] = {}
        ours: set[str] = set()
        async for moved in api.movements():
            report.fees_minor[moved.currency] += moved.fee_minor
            if moved.intent_id:
                paid[moved.intent_id, moved.about, moved.kind, moved.currency] += moved.amount_minor
                ours |= {moved.intent_id} if moved.top_up_id else set()
            else:
                self._count(moved.about, moved.kind, moved.currency, moved.amount_minor, report, stripe)
        books = await self._books(report)
        ours |= {about for about, _ in books}
        for (intent_id, about, kind, currency), amount_minor in paid.items():
            if intent_id in ours:
                intents[about] = intent_id
            self._count(about if intent_id in ours else "", kind, currency, amount_minor, report, stripe)
        for key in sorted({*stripe, *books}):
            if stripe[key] != books[key]:
                report.differences.append(await self._explain(key, stripe[key], books[key]))
        return report, intents

    def _count(  # noqa: PLR0917 - two callers, right above
        self, about: str, kind: str, currency: str, amount_minor: int, report: Reconciled, stripe: Counter[Key]
    ) -> None:
        if not about:
            report.others[kind, currency] += amount_minor
            return
        stripe[about, currency] += amount_minor
        report.stripe_minor[currency] += amount_minor

    async def _books(self, report: Reconciled) -> Counter[Key]:
        """The sums of the entries on `sys:stripe` by object; a transfer's key is `object/effect`."""
        books: Counter[Key] = Counter()
        seen: set[TransferId] = set()
        after: str | None = None
        while True:
            page = await self._store.scan("journal", after, SCAN_MAX)
            for item in page.items:
                assert isinstance(item, JournalItem)
                transfer = item.transfer
                if transfer.actor != PROVIDER or item.is_copy or transfer.id in seen:
                    continue
                seen.add(transfer.id)
                account = system_account(STRIPE, transfer.currency)
                amount_minor = -sum(e.amount_minor for e in item.system_entries if e.account_id == account)
                about = transfer.idempotency_key.partition("/")[0]
                books[about, transfer.currency] += amount_minor
                report.books_minor[transfer.currency] += amount_minor
            after = page.after
            if after is None:
                return books

    async def _explain(self, key: Key, stripe_minor: int, books_minor: int) -> Difference:
        about, currency = key
        if not is_id("wdr", about):
            reason = "not in the books: see the alarms" if books_minor == 0 else "Stripe does not know it like this"
            return Difference(about, currency, stripe_minor, books_minor, in_flight=False, reason=reason)
        try:
            withdrawal = await self._withdrawals.get(OPERATOR, about)
        except WithdrawalNotFound:
            reason = "there is no such withdrawal"
            return Difference(about, currency, stripe_minor, books_minor, in_flight=False, reason=reason)
        state, amount_minor = withdrawal.state, withdrawal.amount_minor
        expected_minor = -amount_minor if state is WithdrawalState.RETURNING else 0
        in_flight = state in OPEN and stripe_minor in (0, -amount_minor) and books_minor == expected_minor
        return Difference(about, currency, stripe_minor, books_minor, in_flight, f"the withdrawal is {state}")
