"""The page with Stripe's form, on which a made-up script stands for Stripe's: Stripe itself cannot be reached here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from tests.integration._browser import Browser
from tests.integration._server import Server, serving
from tests.integration._wallet_page import SCREENSHOTS, WIDTHS, shows
from wallet_gql.testing.patience import patience
from wallet_gql.transports.web import wallet

KEY: Final = "pk_test_0123456789abcdef"
SECRET: Final = "pi_1_secret_2"
TOP_UP: Final = "tu_1"
ABOUT: Final = {
    "__typename": "TopUp",
    "id": TOP_UP,
    "version": "1",
    "state": "AWAITING_PAYMENT",
    "createdAt": "2026-01-01T00:00:00Z",
    "failure": None,
    "amount": {"minorUnits": "2500", "decimal": "25.00", "currency": "EUR"},
    "clientSecret": SECRET,
}

KNOWN: Final = f"""
const ask = window.fetch;
window.fetch = async (url, request) => {{
  if (!String(request?.body).includes("query ToPay")) return ask(url, request);
  return Response.json({json.dumps({"data": {"topUp": ABOUT}})});
}};
"""
"""The wallet has a top-up that is to be paid."""

STRIPE: Final = """
window.Stripe = (key) => ({
  elements: ({clientSecret}) => ({create: (kind) => ({mount: (place) => {
    place.textContent = [key, clientSecret, kind].join(" ");
  }})}),
  confirmPayment: async ({confirmParams, redirect}) => {
    const number = Number(sessionStorage.getItem("tried") ?? 0) + 1;
    sessionStorage.setItem("tried", number);
    sessionStorage.setItem("asked", `${redirect} ${confirmParams.return_url}`);
    return number === 1 ? {error: {message: "The bank declined this card."}} : {};
  },
});
"""
"""Declines once, then takes the card."""

pytestmark = pytest.mark.trial


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A wallet with test keys for Stripe, which it never asks here."""
    folder = tmp_path_factory.mktemp("cards")
    with serving(folder, stripe_api_key="sk_test_0123456789abcdef", stripe_publishable_key=KEY) as running:
        yield running


def test_stripes_script_is_let_in_on_its_own_page_alone(server: Server) -> None:
    """No other page names it, and no other policy has an address of Stripe's."""
    with httpx.Client(base_url=server.url, timeout=patience(30)) as http:
        for path in ("/", "/start", "/graphiql", "/card"):
            page = http.get(path)
            policy = page.headers["content-security-policy"]
            assert page.status_code == httpx.codes.OK
            assert [("stripe.com" in policy), (wallet.STRIPE_SCRIPT in page.text)] == [path == "/card"] * 2
            assert (KEY in page.text) is (path == "/card")
            may_pay = 'payment=(self "https://js.stripe.com")' in page.headers["permissions-policy"]
            assert may_pay is (path == "/card")
        assert 'name="card-page" content="/card"' in http.get("/").text
        assert http.get("/card").headers["content-security-policy"] == wallet.stripe_policy()


def test_a_card_is_paid_in_stripes_form(server: Server, browser: Browser) -> None:
    """It gets the key and the secret; a declined card is told; who has paid is led back."""
    with browser.page(width=WIDTHS["phone"], height=740) as page:
        page.serve(wallet.STRIPE_SCRIPT, STRIPE)
        page.call("Page.addScriptToEvaluateOnNewDocument", source=KNOWN)
        page.goto(f"{server.url}/card?topUp={TOP_UP}")
        shows(page, f"{KEY} {SECRET} payment")
        page.screenshot(SCREENSHOTS / "wallet-card-form.png")
        page.click("button", "Pay €25.00")
        shows(page, "The bank declined this card.")
        page.click("button", "Pay €25.00")
        page.wait_for(f"location.href === '{server.url}/#/funds/{TOP_UP}'", 30)
        assert page.evaluate("sessionStorage.getItem('asked')") == f"if_required {server.url}/card?topUp={TOP_UP}"
        page.goto(f"{server.url}/card?topUp={TOP_UP}&payment_intent_client_secret={SECRET}&redirect_status=succeeded")
        page.wait_for(f"location.href === '{server.url}/#/funds/{TOP_UP}'", 30)
