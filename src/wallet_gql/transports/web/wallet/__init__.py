"""The wallet that a person uses, at `/`: the built files of `examples/web`, served without access to the internet.

`npm run build` there writes `built/`. The policy allows only files and requests of this server, and nothing inline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..graphiql.assets import asset_of

__all__ = ["Cards", "Person", "policy_of", "routes", "stripe_policy"]

NOWHERE: Final = "'none'"
STRIPE_SCRIPT: Final = "https://js.stripe.com/v3/"
CARD_PATH: Final = "/card"
_FILES: Final = ("wallet.js", "wallet.css")


def policy_of(card_page: str | None) -> str:
    """The content security policy of the page; a form may be posted to the card page alone."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"base-uri 'none'; form-action {card_page or NOWHERE}; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )


def stripe_policy() -> str:
    """The policy of the page with Stripe's form: what Stripe says that its script needs."""
    return (
        "default-src 'none'; script-src 'self' https://js.stripe.com https://*.js.stripe.com; style-src 'self'; "
        "connect-src 'self' https://api.stripe.com; img-src 'self' data: https://*.stripe.com; "
        "frame-src https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_STRIPE_MAY: Final = 'camera=(), geolocation=(), microphone=(), payment=(self "https://js.stripe.com")'
"""What Stripe's form may use of the browser: without `payment` it offers no Apple Pay and no Google Pay."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the page offers to log in by one click: of a demo only, since everybody sees the password."""

    login: str
    password: str


@dataclass(frozen=True, slots=True)
class Cards:
    """How a top-up is paid: on a stand-in's `page`, else in Stripe's form with this publishable `key`."""

    page: str | None = None
    key: str = ""

    @property
    def has_form(self) -> bool:
        """Whether there is a page with Stripe's form."""
        return bool(self.key) and self.page is None


_NO_CARDS: Final = Cards()


def routes(people: Sequence[Person] = (), cards: Cards = _NO_CARDS, *, start: str = "/start") -> list[Route]:
    """The page at `/`, and its files below `/wallet`; at `/card`, where wanted, the page with Stripe's form.

    `start` is the path of the start page.
    """
    folder = files(__package__)
    assets = {name: asset_of(name, folder.joinpath("built", f"{name}.gz").read_bytes()) for name in _FILES}
    by_name = {asset.name: asset for asset in assets.values()}
    html = Template(folder.joinpath("page.html").read_text(encoding="utf-8"))
    offered = json.dumps([asdict(person) for person in people]) if people else ""

    def answer(request: Request, policy: str, **told: str) -> Response:
        """The page; never cached, since it may hold passwords of the demo."""
        root = request.scope.get("root_path", "")
        urls = {name.replace(".", "_"): f"{root}/wallet/{asset.name}" for name, asset in assets.items()}
        own = f"{root}{CARD_PATH}" if cards.has_form else ""
        told = {"people": "", "stripe_key": "", "card_page": cards.page or own, "start": root + start, **told}
        script = f'<script src="{STRIPE_SCRIPT}"></script>' if told["stripe_key"] else ""
        filled = html.substitute({name: escape(text) for name, text in (urls | told).items()}, stripe_script=script)
        return HTMLResponse(filled, headers={"Content-Security-Policy": policy})

    async def page(request: Request) -> Response:
        """The wallet."""
        return answer(request, policy_of(cards.page), people=offered)

    async def card(request: Request) -> Response:
        """Stripe's form. No other page lets Stripe's script in."""
        form = answer(request, stripe_policy(), stripe_key=cards.key)
        form.headers["Permissions-Policy"] = _STRIPE_MAY
        return form

    async def asset(request: Request) -> Response:
        """The script or the style, under a name that changes with its content."""
        found = by_name.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request.headers)

    forms = [Route(CARD_PATH, card)] if cards.has_form else []
    return [Route("/", page), *forms, Route("/wallet/{name}", asset)]
