"""Two people, each in a tab of the demo's page: a payment from one arrives live in the other.

    .venv/bin/python -m tests.integration._newcomer http://127.0.0.1:8000

`scripts/newcomer.py --page` runs it in a fresh clone. Its last line is JSON: the seconds that each step took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration._browser import running_browser
from tests.integration._wallet_page import LIVE, balance, has, pay, was_told, watch


def main(url: str) -> None:
    """Walk it. Raises AssertionError where it is blocked."""
    taken: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        taken[name] = time.monotonic() - began

    with running_browser() as browser, browser.page() as alice, browser.page(beside=alice) as bob:
        tabs = {"alice": alice, "bob": bob}
        with step("page opens"):
            for page, host in ((alice, "127.0.0.1"), (bob, "localhost")):  # each has cookies of its own
                page.goto(url.replace("127.0.0.1", host))
                page.wait_for("document.querySelector('.demo button') !== null", 30)
        with step("log in"):
            for name, page in tabs.items():
                page.click(".demo button", f"Try it as {name}")
                page.wait_for(LIVE, 30)
        had = balance(bob)
        watch(bob)
        with step("pay, seen live"):
            pay(alice, "bob", "5.00")
            was_told(bob, "€5.00 received from alice")
            has(bob, had + 500)
    print(json.dumps(taken))  # noqa: T201 - for who runs it


if __name__ == "__main__":
    main(sys.argv[1])
