"""The operator's commands on money in and out: `reconcile`, and `payments …` to list, to look at, and to set up."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ...domain.errors import ConfigurationError, InvalidInput, PayeeNotFound, PaymentsNotConfigured
from ...domain.model import Record
from ...domain.money import format_decimal
from ...domain.payments import NOTE_MAX, StoredAlarm
from ...domain.topups import TOP_UP, TopUp
from ...domain.users import User
from ...domain.withdrawals import WITHDRAWAL, Withdrawal
from ...integrations.stripe.provider import NoAnswer
from ...integrations.stripe.reconcile import Reconciled
from ...runtime import Wallet
from ...storage import SCAN_MAX
from .common import AsJson, shown, tell, tell_none, with_wallet

app = typer.Typer(rich_markup_mode="rich")
group = typer.Typer(rich_markup_mode="rich", no_args_is_help=True, help="Money in and out: what stands where.")

_WIDTH: Final = 44


@app.command(epilog="Example:  wallet-gql reconcile || mail -s 'wallet: differences' ops@example.org")
def reconcile(
    *,
    settle: Annotated[bool, typer.Option(help="Look again at what differs, which settles what a webhook lost.")] = True,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe's balance transactions with the books; exit 1 if they differ."""

    async def work(wallet: Wallet) -> Reconciled | None:
        try:
            return await wallet.payments.reconciler.run(settle=settle)
        except PaymentsNotConfigured as error:
            raise ConfigurationError("no payment provider is set up; set WALLET_STRIPE_API_KEY") from error
        except NoAnswer as error:
            typer.echo(f"wallet-gql: Stripe does not answer: {error}; try again", err=True)
            return None

    found = with_wallet(work)
    if found is None:
        raise typer.Exit(2)
    tell(_text(found), _plain(found), as_json=as_json)
    if not found.clean:
        raise typer.Exit(1)


@group.command("list", epilog="Example:  wallet-gql payments list --kind withdrawals --json")
def list_(
    *,
    kind: Annotated[str, typer.Option(help="top-ups or withdrawals.")] = "top-ups",
    state: Annotated[str | None, typer.Option(help="Only those in this state, such as `quarantined`.")] = None,
    as_json: AsJson = False,
) -> None:
    """List top-ups or withdrawals, in no particular order; as JSON one object a line."""
    if kind not in ("top-ups", "withdrawals"):
        raise typer.BadParameter("top-ups or withdrawals", param_hint="--kind")

    async def work(wallet: Wallet) -> None:
        after: str | None = None
        told = 0
        while True:
            page = await wallet.store.scan("record", after, SCAN_MAX)
            for item in page.items:
                found = _flow(item, TOP_UP if kind == "top-ups" else WITHDRAWAL)
                if found is not None and state in (None, found.state.value):
                    _tell_flow(found, as_json=as_json)
                    told += 1
            after = page.after
            if after is None:
                tell_none(told, kind, as_json=as_json)
                return

    with_wallet(work)


@group.command(epilog="Example:  wallet-gql payments alarms\n\nExample:  wallet-gql payments alarms --all --json")
def alarms(
    *,
    all_alarms: Annotated[bool, typer.Option("--all", help="Those that are settled, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what only an operator can settle, the oldest first; as JSON one object a line."""

    async def work(wallet: Wallet) -> None:
        found = await wallet.payments.alarms(with_settled=all_alarms)
        tell_none(len(found), "alarms" if all_alarms else "open alarms", as_json=as_json)
        for one in found:
            alarm = one.alarm
            text = f"{one.id}  {one.at:%Y-%m-%d %H:%M}  {shown(alarm.about):30}  {alarm.flow_id or '-'}"
            tell(f"{text}  {shown(alarm.reason)}{_settled(one)}", _plain_alarm(one), as_json=as_json)

    with_wallet(work)


@group.command(epilog="Example:  wallet-gql payments settle alm_… --note 'refunded at Stripe, ticket 4711. Ann'")
def settle(
    alarm: Annotated[str, typer.Argument(metavar="ALARM", help="Its id, as `payments alarms` lists it.")],
    *,
    note: Annotated[str, typer.Option(help=f"What was done, and by whom; up to {NOTE_MAX} characters.")],
    as_json: AsJson = False,
) -> None:
    """Store that you have seen to an alarm. It moves no money, and the alarm stays in the list with --all."""

    async def work(wallet: Wallet) -> None:
        done = await wallet.payments.desk.settle(alarm, note)
        if done is None:
            raise InvalidInput(
                "alarm", f"there is no alarm {shown(alarm)}; `wallet-gql payments alarms --all` lists all"
            )
        one, is_new = done
        before = "" if is_new else "  (before: this note was not stored)"
        tell(f"{one.id}{_settled(one)}{before}", {**_plain_alarm(one), "settledBefore": not is_new}, as_json=as_json)

    with_wallet(work)


@group.command(epilog="Example:  wallet-gql payments payout-account alice acct_1A2b3C4d5E6f")
def payout_account(
    user: Annotated[str, typer.Argument(metavar="USER", help="A username or an e-mail address.")],
    account: Annotated[
        str | None, typer.Argument(metavar="ACCOUNT", help="A connected account; shows the present one if not given.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Say to which connected account a user's withdrawals go from now on."""

    async def work(wallet: Wallet) -> None:
        found: User | None = await wallet.identity.find(user)
        if found is None:
            raise PayeeNotFound(user)
        flows = wallet.payments.withdrawals
        if account is not None:
            await flows.set_payout_account(found.id, account)
        now = await flows.payout_account(found.id)
        plain = {"username": found.username, "account": now}
        tell(f"{found.username}  {now or 'no account to be paid out to'}", plain, as_json=as_json)

    with_wallet(work)


def _settled(one: StoredAlarm) -> str:
    """How it was settled, as the end of its line; nothing if it is open."""
    by = one.settlement
    return "" if by is None else f"  settled {by.at:%Y-%m-%d %H:%M} by {by.by}: {shown(by.note)}"


def _plain_alarm(one: StoredAlarm) -> dict[str, object]:
    alarm, by = one.alarm, one.settlement
    return {
        "id": one.id,
        "createdAt": one.at.isoformat(),
        "about": alarm.about,
        "flow": alarm.flow_id,
        "reason": alarm.reason,
        "settlement": None if by is None else {"createdAt": by.at.isoformat(), "by": by.by, "note": by.note},
    }


def _flow(item: object, kind: str) -> TopUp | Withdrawal | None:
    if not isinstance(item, Record) or item.kind != kind:
        return None
    return TopUp.from_record(item) if kind == TOP_UP else Withdrawal.from_record(item)


def _tell_flow(flow: TopUp | Withdrawal, *, as_json: bool) -> None:
    amount = format_decimal(flow.amount_minor, flow.currency)
    outside = flow.intent_id if isinstance(flow, TopUp) else flow.payout_id or flow.sent_id
    owed = format_decimal(flow.receivable_minor, flow.currency) if isinstance(flow, TopUp) else None
    note = f"  owed {owed}" if isinstance(flow, TopUp) and flow.receivable_minor else ""
    text = f"{flow.id}  {flow.state.value:16}  {amount:>12} {flow.currency}  {outside or '-':30}{note}  {flow.reason}"
    plain = {
        "id": flow.id,
        "owner": flow.owner,
        "state": flow.state.value,
        "amount": amount,
        "currency": flow.currency,
        "stripe": outside,
        "owed": owed,
        "reason": flow.reason,
        "createdAt": flow.created_at.isoformat(),
    }
    tell(text.rstrip(), plain, as_json=as_json)


def _text(found: Reconciled) -> str:
    lines = [f"settled  {found.settled}"]
    for currency in sorted({*found.stripe_minor, *found.books_minor}):
        stripe, books = (format_decimal(minor[currency], currency) for minor in (found.stripe_minor, found.books_minor))
        fees = format_decimal(found.fees_minor[currency], currency)
        lines.append(f"{currency}  Stripe {stripe}  books {books}  Stripe's fees {fees}")
    lines += [
        f"{one.about:{_WIDTH}}  Stripe {format_decimal(one.stripe_minor, one.currency)}  "
        f"books {format_decimal(one.books_minor, one.currency)} {one.currency}  "
        f"{'in flight' if one.in_flight else 'DIFFERS'}: {one.reason}"
        for one in found.differences
    ]
    return "\n".join([*lines, "clean" if found.clean else "not clean"])


def _plain(found: Reconciled) -> dict[str, object]:
    return {
        "clean": found.clean,
        "settled": found.settled,
        "stripeMinor": dict(found.stripe_minor),
        "booksMinor": dict(found.books_minor),
        "feesMinor": dict(found.fees_minor),
        "others": [
            {"kind": kind, "currency": currency, "minor": minor} for (kind, currency), minor in found.others.items()
        ],
        "differences": [
            {
                "about": one.about,
                "currency": one.currency,
                "stripeMinor": one.stripe_minor,
                "booksMinor": one.books_minor,
                "inFlight": one.in_flight,
                "reason": one.reason,
            }
            for one in found.differences
        ],
    }
