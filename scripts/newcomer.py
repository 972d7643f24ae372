"""Follow the instructions for newcomers and time them: clone, `make demo`, log in, pay, see the payment in the history.

    python3 scripts/newcomer.py                     # clones this repository into a temporary folder
    python3 scripts/newcomer.py --source wallet.git --make-test
    python3 scripts/newcomer.py --here              # no clone: the path in this folder
    python3 scripts/newcomer.py --page              # two people in a browser (Chromium) instead of requests

Needs git, make and Python 3.11 or newer, and no package: it runs before there is any. It prints what each step took,
starts the demo a second time, and fails if a step does, or if the path takes longer than `--limit`: up to the history,
or with `--page` until a payment from one tab is seen in the other.
`scripts/clean-root` runs it on a Debian of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LIMIT_SECONDS: Final = 180
"""What the path may take, from the clone to the history, when the packages are in pip's cache."""

PAGE_LIMIT_SECONDS: Final = 90
"""The same with `--page`, from the clone until the payment is seen in the other tab."""

AGAIN_SECONDS: Final = 15
"""What the second start of the demo may take."""

REFERENCE: Final = "a newcomer's first payment"

LOG_IN: Final = """mutation($input: LogInInput!) { logIn(input: $input) {
  __typename ... on LogInSuccess { token } ... on WalletError { message } } }"""
ACCOUNTS: Final = "{ viewer { accounts { id available { minorUnits currency } } } }"
PAY: Final = """mutation($input: TransferInput!) { transfer(input: $input) {
  __typename ... on TransferSuccess { replayed transfer { id } } ... on WalletError { message } } }"""
HISTORY: Final = """query($account: ID!) { account(id: $account) { history(first: 1) {
  edges { node { amount { decimal currency } transfer { id reference counterparty { name } } } } } } }"""


class PathError(Exception):
    """The path is blocked: says where."""


@dataclass
class Steps:
    """The steps taken, and how many seconds each took."""

    taken: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done in it; what fails in it is said under its name."""
        began = time.monotonic()
        try:
            yield
        except (OSError, KeyError, ValueError, subprocess.SubprocessError, PathError) as error:
            raise PathError(f"{name}: {error}") from error
        self.taken[name] = time.monotonic() - began
        say(f"{name:<16} {self.taken[name]:7.1f} s")

    def seconds(self) -> float:
        """All of them together."""
        return sum(self.taken.values())


def say(text: str) -> None:
    """One line, at once."""
    print(f"newcomer: {text}", flush=True)


@dataclass(frozen=True)
class Demo:
    """What a running demo printed."""

    url: str
    password: str
    process: subprocess.Popen[str]

    def ask(self, query: str, token: str | None = None, **variables: Any) -> Any:
        """Send one GraphQL request, as a frontend does; gives the value of its one field. Raises PathError."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)  # noqa: S310 - the demo's own address
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            answer = json.load(response)
        if "errors" in answer:
            raise PathError(str(answer["errors"]))
        (value,) = answer["data"].values()
        if "message" in value:
            raise PathError(f"{value['__typename']}: {value['message']}")
        return value


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """`make demo`, from its start until it has said who may log in; Ctrl-C ends it."""
    command = ["make", "demo", "ARGS=--no-browser"]  # its own port, or a free one where that is taken
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        url = password = None
        for line in process.stdout or ():
            if match := re.search(r"The wallet is at (http://\S+)", line):
                url = match[1]
            elif match := re.search(r"log-in alice +password (\S+)", line):
                password = match[1]
            elif line.startswith("curl "):
                break  # the last thing it prints before it serves
        if url is None or password is None:
            raise PathError(f"it ended with {process.wait()} before it served")
        yield Demo(url, password, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # what a terminal sends to all of them on Ctrl-C
        process.communicate(timeout=30)


def stopped(url: str) -> bool:
    """Whether nothing answers there any more."""
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=5).close()  # noqa: S310 - the demo's own address
    except OSError:
        return True
    return False


def pay(_: Path, steps: Steps, wallet: Demo) -> str:
    """Log in, pay bob 5 EUR, and find the payment on top of the history; gives what stands there."""
    with steps.step("log in"):
        credentials = {"login": "alice", "password": wallet.password, "session": "BEARER"}
        token = wallet.ask(LOG_IN, input=credentials)["token"]
        accounts = wallet.ask(ACCOUNTS, token)["accounts"]
        account = next(found["id"] for found in accounts if found["available"]["currency"] == "EUR")
    with steps.step("pay"):
        payment = {
            "idempotencyKey": "newcomer-1",
            "fromAccountId": account,
            "to": {"username": "bob"},
            "amount": {"minorUnits": "500", "currency": "EUR"},
            "reference": REFERENCE,
        }
        paid = [wallet.ask(PAY, token, input=payment) for _ in range(2)]
        if paid[0]["transfer"] != paid[1]["transfer"] or [answer["replayed"] for answer in paid] != [False, True]:
            raise PathError(f"the same key did not replay: {paid}")
    with steps.step("history"):
        (edge,) = wallet.ask(HISTORY, token, account=account)["history"]["edges"]
        transfer, amount = edge["node"]["transfer"], edge["node"]["amount"]
        if (transfer["id"], transfer["reference"]) != (paid[0]["transfer"]["id"], REFERENCE):
            raise PathError(f"it is not on top of the history: {edge}")
    return f"{amount['decimal']} {amount['currency']} to {transfer['counterparty']['name']}, in the history"


def see(folder: Path, steps: Steps, wallet: Demo) -> str:
    """The same in a browser: alice pays bob, who sees it live; gives what was seen. Raises PathError."""
    command = [".venv/bin/python", "-m", "tests.integration._newcomer", wallet.url]
    with steps.step("browser"):
        walked = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if walked.returncode:
            raise PathError(walked.stderr)
    for name, seconds in json.loads(walked.stdout.splitlines()[-1]).items():
        say(f"  {name:<14} {seconds:7.1f} s")
    return "5.00 EUR to bob, in his tab at once"


def walk(folder: Path, steps: Steps, by: Callable[[Path, Steps, Demo], str]) -> None:
    """The path from `make demo` on, and the second start. Raises PathError."""
    with ExitStack() as running:
        with steps.step("make demo"):
            first = running.enter_context(demo(folder))
        seen = by(folder, steps, first)
    if not stopped(first.url):
        raise PathError("it still serves after Ctrl-C")
    say(f"seen: {seen}; {steps.seconds():.1f} s in all")
    again = Steps()
    with ExitStack() as running, again.step("make demo, again"):
        running.enter_context(demo(folder))
    if again.seconds() > AGAIN_SECONDS:
        raise PathError(f"the second start took {again.seconds():.1f} s, more than {AGAIN_SECONDS}")


def make_test(folder: Path) -> None:
    """`make test`; its last line says how many passed and how many were skipped. Raises PathError."""
    with Steps().step("make test"):
        done = subprocess.run(["make", "test"], cwd=folder, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S607
        lines = done.stdout.splitlines() or ["it printed nothing"]
        if done.returncode:
            raise PathError("\n".join(lines))
    for line in lines:
        if line.startswith("SKIPPED"):
            say(line)
    say(lines[-1].strip("= "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Walk it; 1 if it is blocked or too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(ROOT), help="what to clone: a path, an address or a bundle")
    parser.add_argument("--here", action="store_true", help="clone nothing: walk in this folder")
    parser.add_argument("--page", action="store_true", help="pay in a browser, on the page")
    parser.add_argument(
        "--limit", type=float, help=f"seconds of the path; {LIMIT_SECONDS}, of --page {PAGE_LIMIT_SECONDS}"
    )
    parser.add_argument("--make-test", action="store_true", help="run `make test` afterwards")
    options = parser.parse_args(arguments)
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as temporary:
        folder = ROOT if options.here else Path(temporary) / "wallet-gql"
        try:
            if not options.here:
                with steps.step("clone"):
                    command = ["git", "clone", "--quiet", options.source, str(folder)]
                    subprocess.run(command, check=True)
            walk(folder, steps, see if options.page else pay)
            if options.make_test:
                make_test(folder)
        except PathError as error:
            say(f"blocked at {error}")
            return 1
    limit = options.limit or (PAGE_LIMIT_SECONDS if options.page else LIMIT_SECONDS)
    if steps.seconds() > limit:
        say(f"the path took {steps.seconds():.1f} s, more than {limit:.0f}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
