"""The start page: plain HTML that needs neither scripts nor the network."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shlex
from collections.abc import Mapping
from html import escape
from typing import Final

from ... import __version__

SIGN_UP: Final = (
    "mutation ($input: SignUpInput!) { signUp(input: $input) "
    "{ __typename ... on SignUpSuccess { user { id } } ... on WalletError { code message } } }"
)
LOG_IN: Final = (
    "mutation ($input: LogInInput!) { logIn(input: $input) "
    "{ __typename ... on LogInSuccess { token expiresAt } ... on WalletError { code message } } }"
)
OPEN_ACCOUNT: Final = (
    "mutation ($input: OpenAccountInput!) { openAccount(input: $input) "
    "{ __typename ... on OpenAccountSuccess { account { id } } ... on WalletError { code message } } }"
)
VIEWER: Final = "{ viewer { username accounts { id available { decimal currency } } } }"
TRANSFER: Final = (
    "mutation ($input: TransferInput!) { transfer(input: $input) { __typename "
    "... on TransferSuccess { replayed transfer { id } fromAccount { available { decimal currency } } } "
    "... on WalletError { code message retryable } } }"
)


def curl(url: str, query: str, variables: Mapping[str, object] | None = None, token: str | None = None) -> str:
    """A command for a POSIX shell that sends one GraphQL request to `url`."""
    body = {"query": query, **({"variables": variables} if variables else {})}
    parts = ["curl", "-sS", url, "-H", "Content-Type: application/json"]
    if token is not None:
        parts += ["-H", f"Authorization: Bearer {token}"]
    return shlex.join([*parts, "--data", json.dumps(body)])


def start_page(base_url: str, *, has_pages: bool = False) -> str:
    """The page, with commands that fit this server's address, and a password that nobody else was shown.

    `has_pages`: the wallet for people is at `/`, and GraphiQL at `/graphiql`.
    """
    url, password = f"{base_url}graphql", secrets.token_urlsafe(12)
    ann = {"username": "ann", "email": "ann@example.org", "password": password}
    log_in = {"login": "ann", "password": password, "session": "BEARER"}
    steps = [
        ("Sign up", curl(url, SIGN_UP, {"input": ann})),
        ("Log in; the answer has a token", curl(url, LOG_IN, {"input": log_in})),
        ("Open an account", curl(url, OPEN_ACCOUNT, {"input": {"currency": "EUR"}}, "TOKEN")),
        ("Look", curl(url, VIEWER, token="TOKEN")),  # noqa: S106 - a placeholder
    ]
    listed = "\n".join(f"<li>{escape(title)}<pre>{escape(command)}</pre></li>" for title, command in steps)
    pages = _PAGES.format(base=escape(base_url)) if has_pages else ""
    return _PAGE.format(pages=pages, version=escape(__version__), url=escape(url), steps=listed, style=_STYLE)


_PAGES: Final = """
<p>In a browser: <a href="{base}">the wallet for people</a>, and <a href="{base}graphiql">GraphiQL</a>, which has
examples to begin with. <code>wallet-gql demo</code> shows both with users and money.
"""

_STYLE: Final = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f3f3f3; color: #111; padding: .6rem; overflow-x: auto; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy of the page: only its own style."""
"""The page's style. The page's policy allows it by its hash."""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wallet-gql</title>
<style>{style}</style>
</head>
<body>
<h1>wallet-gql {version}</h1>
<p>A payment wallet. Its GraphQL API is at <code>{url}</code>; point any GraphQL client there.
{pages}<p>From a shell:
<ol>
{steps}
</ol>
<p>Browsers log in with <code>session: COOKIE</code>. Money comes from an operator:
<code>wallet-gql deposit ann 100.00 EUR</code>.
<p>How to go on, in the files of wallet-gql: <code>docs/first-transfer.md</code> pays somebody,
<code>docs/frontends.md</code> has recipes for a page or an app, <code>examples/web</code> is such a page,
<code>docs/operations.md</code> is for who runs it. REST is described at <code>/openapi.json</code>.
</body>
</html>
"""
