"""GraphiQL, served from the package: a page to try the API in a browser, without access to the internet.

`routes(tabs)` returns the routes to mount. The page, its scripts and its styles are files of this server, so that the
strict policy in `POLICY` works: nothing inline, nothing from elsewhere. The page opens with the given tabs, stores the
visitor's changes in the browser, and sends requests to `/graphql` with the visitor's cookie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from http import HTTPStatus
from string import Template
from types import MappingProxyType
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .assets import load_assets, template
from .tabs import Tab, demo_tabs, start_tabs

__all__ = ["PATH", "POLICY", "Tab", "demo_tabs", "routes", "start_tabs"]

PATH: Final = "/graphiql"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; "  # the editor sizes and places its parts by inline styles
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_LINKS: Final = MappingProxyType({"Wallet": "/", "Start page": "/start"})


def routes(
    tabs: Sequence[Tab],
    path: str = PATH,
    *,
    graphql: str = "/graphql",
    links: Mapping[str, str] = _LINKS,
) -> list[Route]:
    """The page at `path`, and below it `tabs.json` and the assets.

    `graphql` is the path for requests; `links` are those of the top bar, label to path. If the app is mounted under a
    prefix, the prefix is added to all paths.
    """
    assets = load_assets()
    by_name = {asset.name: asset for asset in assets.values()}
    html = Template(template())
    examples = _examples(tabs)

    async def page(request: Request) -> Response:
        """The page itself; small, and never cached."""
        root = request.scope.get("root_path", "")
        urls = {name: escape(f"{root}{path}/{asset.name}") for name, asset in assets.items()}
        anchors = [f'<a href="{escape(root + target)}">{escape(label)}</a>' for label, target in links.items()]
        filled = html.substitute(
            {name.replace(".", "_").replace("-", "_"): url for name, url in urls.items()},
            graphql=escape(root + graphql),
            tabs=escape(f"{root}{path}/tabs.json"),
            links="\n".join(anchors),
        )
        return HTMLResponse(filled, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    async def tabs_json(_request: Request) -> Response:
        """The example tabs; never cached, since they may hold a password of the demo."""
        return Response(examples, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def asset(request: Request) -> Response:
        """A script or a stylesheet, under a name that changes with its content."""
        found = by_name.get(request.path_params["name"])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request.headers)

    return [Route(path, page), Route(f"{path}/tabs.json", tabs_json), Route(f"{path}/{{name}}", asset)]


def _examples(tabs: Sequence[Tab]) -> bytes:
    """The tabs as JSON. `id` changes with them, so that the browser drops stored tabs of another set."""
    listed = [
        {"title": tab.title, "query": tab.query, "variables": dict(tab.variables), "headers": dict(tab.headers)}
        for tab in tabs
    ]
    digest = sha256(json.dumps(listed).encode()).hexdigest()
    return json.dumps({"id": digest[:16], "tabs": listed}).encode()
