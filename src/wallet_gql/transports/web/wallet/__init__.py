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

__all__ = ["POLICY", "Person", "routes"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_FILES: Final = ("wallet.js", "wallet.css")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the page offers to log in by one click: of a demo only, since everybody sees the password."""

    login: str
    password: str


def routes(people: Sequence[Person] = (), *, start: str = "/start") -> list[Route]:
    """The page at `/`, and its files below `/wallet`; `start` is the path of the start page."""
    folder = files(__package__)
    assets = {name: asset_of(name, folder.joinpath("built", f"{name}.gz").read_bytes()) for name in _FILES}
    by_name = {asset.name: asset for asset in assets.values()}
    html = Template(folder.joinpath("page.html").read_text(encoding="utf-8"))
    offered = json.dumps([asdict(person) for person in people]) if people else ""

    async def page(request: Request) -> Response:
        """The page itself; never cached, since it may hold passwords of the demo."""
        root = request.scope.get("root_path", "")
        urls = {name.replace(".", "_"): escape(f"{root}/wallet/{asset.name}") for name, asset in assets.items()}
        filled = html.substitute(urls, people=escape(offered), start=escape(root + start))
        return HTMLResponse(filled, headers={"Content-Security-Policy": POLICY})

    async def asset(request: Request) -> Response:
        """The script or the style, under a name that changes with its content."""
        found = by_name.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request.headers)

    return [Route("/", page), Route("/wallet/{name}", asset)]
