"""The card page: a form of the wallet's page leads to it, and it leads back. Plain HTML without a script.

The client secret comes in the form's body, so that it is in no address, history or log.
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from string import Template
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ...domain.currencies import format_decimal
from .state import Body, StripeState

PAYS: Final = "4242424242424242"
DECLINED: Final = "4000000000000002"
"""Stripe's test cards: one that pays, one that the bank declines."""

_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    # Without `form-action`: in some browsers it forbids, too, that the answer to a form leads back to the wallet.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Shown(NamedTuple):
    """An answer to a browser."""

    status: HTTPStatus
    text: str
    headers: dict[str, str]


def answer(state: StripeState, form: Body) -> Shown:
    """Show the card page; pay if the form has a card `number`.

    The form has the PaymentIntent's `client_secret`, and where to go then: `success_url` and `cancel_url`.
    """
    given = {name: str(form.get(name, "")) for name in ("client_secret", "success_url", "cancel_url")}
    if not all(urlsplit(given[name]).scheme in ("http", "https") for name in ("success_url", "cancel_url")):
        return _shown(HTTPStatus.BAD_REQUEST, "<h1>Where to go back to?</h1><p>The form lacks its addresses.")
    intents = state.of_kind("payment_intent")
    intent = next((one for one in intents if one["client_secret"] == given["client_secret"]), None)
    if intent is None:
        return _shown(HTTPStatus.NOT_FOUND, "<h1>There is no such payment.</h1>")
    if intent["status"] == "canceled":
        return _shown(HTTPStatus.GONE, f"<h1>It was cancelled.</h1>{_back(given['cancel_url'])}")
    if intent["status"] == "succeeded" and "number" not in form:
        return _shown(HTTPStatus.OK, f'<h1>It is paid.</h1><p><a href="{escape(given["success_url"])}">Back</a>')
    problem = _pay(state, intent, "".join(str(form["number"]).split())) if "number" in form else ""
    if intent["status"] == "succeeded":
        return Shown(HTTPStatus.SEE_OTHER, "", {**_HEADERS, "Location": given["success_url"]})
    return _shown(HTTPStatus.PAYMENT_REQUIRED if problem else HTTPStatus.OK, _form(intent, given, problem))


def _pay(state: StripeState, intent: Body, number: str) -> str:
    """Pay by a card; what is wrong with it, if anything."""
    if number == PAYS:
        state.pay(intent["id"])
        return ""
    if number == DECLINED:
        state.fail_payment(intent["id"])
        return "The bank declined this card. Nothing was paid."
    return "The stand-in takes no real card. Use one of the two below."


def _form(intent: Body, given: dict[str, str], problem: str) -> str:
    currency = str(intent["currency"]).upper()
    kept = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in given.items())
    return _FORM.substitute(
        kept=kept,
        amount=f"{format_decimal(intent['amount'], currency)} {currency}",
        problem=f'<p role="alert">{escape(problem)}' if problem else "",
        invalid='aria-invalid="true"' if problem else "",
        back=_back(given["cancel_url"]),
        pays=_spaced(PAYS),
        declined=_spaced(DECLINED),
    )


def _spaced(number: str) -> str:
    return " ".join(number[place : place + 4] for place in range(0, len(number), 4))


def _back(url: str) -> str:
    return f'<p><a href="{escape(url)}">Back without paying</a>'


def _shown(status: HTTPStatus, body: str) -> Shown:
    return Shown(status, _PAGE.substitute(body=body), _HEADERS)


_FORM: Final = Template("""
<h1>Pay $amount</h1>
<form method="post">
$kept
<label for="number">Card number</label>
<input id="number" name="number" value="$pays" required autocomplete="off" inputmode="numeric" autofocus $invalid>
$problem
<button>Pay $amount</button>
</form>
$back
<hr>
<p><b>$pays</b> pays, <b>$declined</b> is declined.
""")

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Card payment (stand-in for Stripe)</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 24rem; margin: 8vh auto; padding: 0 1rem; }
form { display: grid; gap: .8rem; }
h1 { font-size: 1.5rem; }
input, button { font: inherit; min-height: 2.75rem; padding: .5rem .75rem; }
input, button { border-radius: 8px; border: 1px solid #767676; }
button { background: #3d3aa8; color: #fff; border-color: transparent; font-weight: 600; cursor: pointer; }
[role=alert] { color: light-dark(#a3231d, #ff9d94); margin: 0; }
a { color: light-dark(#3d3aa8, #aeb0ff); }
</style>
</head>
<body>
<main>
<p>This page takes the place of Stripe's. No real card is charged.
$body
</main>
</body>
</html>
""")
