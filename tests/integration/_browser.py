"""A small driver for headless Chromium, over its DevTools protocol.

Every error of a page fails the test at the end: a message on the console, an exception, a refusal by the page's policy,
a request to another host. Chromium resolves no names but localhost, so a page that needs the network does not work.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection, connect

from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.keeper import keep

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # root and most containers cannot have one; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-breakpad",
    "--metrics-recording-only",
    "--no-pings",
    # A process kept ready for another site alone is a quarter of what a test takes.
    "--disable-features=SpareRendererForSitePerProcess,OptimizationHints,Translate,MediaRouter",
    "--hide-scrollbars",
    "--lang=en-US",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
START_SECONDS: Final = 30.0
WAIT_SECONDS: Final = 30.0
"""More than twice what the page takes by itself: it asks again for up to twelve seconds before it gives up."""
POLL_SECONDS: Final = 0.03
KEYS: Final = {"Enter": 13, "Tab": 9}
CONTROL: Final = 2


def chromium() -> str:
    """The browser on PATH; without one the test is skipped."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on PATH; run make test-deps")  # not in CI


WATCH_CLICK: Final = """
    window.clicked = false;
    window.removeEventListener("click", window.onAimedClick, true);
    window.onAimedClick = (event) => {
      window.removeEventListener("click", window.onAimedClick, true);
      window.clicked = element.contains(event.target);
      if (!window.clicked) { event.stopImmediatePropagation(); event.preventDefault(); }
    };
    window.addEventListener("click", window.onAimedClick, true);
"""
"""Let the next click through only if it meets `element`, and keep in `clicked` whether it did."""


LOADED: Final = "!window.isOld && document.readyState === 'complete'"
"""The page that was told that it is old has gone, and another one is there."""


NO_PROMISE: Final = """
((value) => { if (value instanceof Promise) throw new TypeError("a condition is a promise"); return value; })
"""
"""Give a value back, unless it is a promise: in some browsers `scrollTo` gives one, where others give nothing."""


class DevToolsError(Exception):
    """Chromium refused a command."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium with an empty profile, gone at the end."""
    program = chromium()
    with ExitStack() as stack:
        # It may still be writing when it is told to end.
        profile = Path(stack.enter_context(TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)))
        log = stack.enter_context((profile / "chromium.log").open("wb"))
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}"],
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(profile), "LANGUAGE": "en_US"},
            start_new_session=True,
        )
        keep(process.pid)
        stack.callback(_end, process)
        address = _address(process, profile)
        connection = stack.enter_context(connect(address, max_size=None, compression=None, ping_interval=None))
        browser = Browser(connection)
        yield browser
        browser.call("Browser.close")


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """Where its DevTools listen."""
    told = profile / "DevToolsActivePort"
    deadline = time.monotonic() + patience(START_SECONDS)
    while time.monotonic() < deadline and process.poll() is None:
        lines = told.read_text().splitlines() if told.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"Chromium did not start:\n{(profile / 'chromium.log').read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=patience(5))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Browser:
    """One Chromium; its connection carries the commands and events of all pages."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._pages: dict[str, Page] = {}

    @contextmanager
    def page(self, *, width: int = 1440, height: int = 900, beside: Page | None = None) -> Iterator[Page]:
        """A page in a window of its own, without anybody's cookies; at the end it must have done nothing wrong.

        With `beside` it shares the cookies and the storage of that page, as another tab of the same browser does.
        """
        context = beside.context if beside else self.call("Target.createBrowserContext")["browserContextId"]
        # Each has a window: Chromium slows down a tab that is behind another one.
        made = self.call("Target.createTarget", url="about:blank", browserContextId=context, newWindow=True)
        target = made["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        try:
            yield page
            page.check()
        finally:
            del self._pages[session]
            if beside is None:
                self.call("Target.disposeBrowserContext", browserContextId=context)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send a command, note the events that come before its answer, give the answer. Raises DevToolsError."""
        number = self.send(method, session, **parameters)
        deadline = time.monotonic() + patience(START_SECONDS)
        while True:
            message = json.loads(self._connection.recv(timeout=max(0.0, deadline - time.monotonic())))
            if message.get("id") == number:
                if "error" in message:
                    raise DevToolsError(f"{method}: {message['error']}")
                return message["result"]
            page = self._pages.get(message.get("sessionId", ""))
            if page is not None and "method" in message:
                page.note(message["method"], message["params"])

    def send(self, method: str, session: str | None = None, **parameters: Any) -> int:
        """Send a command, wait for nothing."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps({**command, **({"sessionId": session} if session else {})}))
        return self._number


class Page:
    """One page, and what it did wrong so far."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.context = context
        self.hosts: set[str] = set()
        """Where it may go: what it was told to open, and what a test adds."""
        self.excused: list[str] = []
        """Parts of messages that are no fault in this test, such as of a network that is cut on purpose."""
        self._browser = browser
        self._session = session
        self._served: dict[str, str] = {}
        self.faults: list[str] = []
        self.dialogs: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a DevTools command to this page."""
        return self._browser.call(method, self._session, **parameters)

    def note(self, method: str, event: dict[str, Any]) -> None:
        """Look at one event."""
        if method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            parts = (part.get("value", part.get("description")) for part in event["args"])
            self.faults.append("console: " + " ".join(map(str, parts)))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.faults.append(f"{event['entry']['text']} ({event['entry'].get('url', 'no address')})")
        elif method == "Network.requestWillBeSent":
            self._note_request(event["request"]["url"])
        elif method == "Network.webSocketCreated":
            self._note_request(event["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(event["message"])
            self._browser.send("Page.handleJavaScriptDialog", self._session, accept=True)
        elif method == "Fetch.requestPaused":
            body = base64.b64encode(self._served[event["request"]["url"]].encode()).decode()
            about = {"requestId": event["requestId"], "responseCode": 200, "body": body}
            headers = [{"name": "Content-Type", "value": "text/javascript"}]
            self._browser.send("Fetch.fulfillRequest", self._session, **about, responseHeaders=headers)

    def _note_request(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme not in ("data", "blob") and address.netloc not in self.hosts:
            self.faults.append(f"a request to another host: {url}")

    def check(self) -> None:
        """Fail if the page did anything wrong."""
        self.evaluate("0")  # what happened before is known after
        faults = [fault for fault in self.faults if not any(part in fault for part in self.excused)]
        assert not faults, "\n".join(["the page did what it must not:", *faults])

    def serve(self, url: str, script: str) -> None:
        """Answer requests for a script of another site, which is not reached."""
        self.hosts.add(urlsplit(url).netloc)
        self._served[url] = script
        self.call("Fetch.enable", patterns=[{"urlPattern": known} for known in self._served])

    def goto(self, url: str) -> None:
        """Open an address, and wait until the page and what it names has been loaded."""
        self.hosts.add(urlsplit(url).netloc)
        self.evaluate("window.isOld = true")
        result = self.call("Page.navigate", url=url)
        assert "errorText" not in result, f"{url}: {result['errorText']}"
        self.wait_for(LOADED if "loaderId" in result else "true")  # or only the part behind # is another

    def reload(self) -> None:
        """Load the page anew, and wait until it and what it names has been loaded: nothing is asked of the old one."""
        self.evaluate("window.isOld = true")
        self.call("Page.reload")
        self.wait_for(LOADED)

    def resize(self, width: int, height: int, scheme: str | None = None) -> None:
        """Give the window another size, and the reader a preference: `light` or `dark`; wait until the page has it."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"} if scheme else {}
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": wanted[name]} for name in wanted])
        self.wait_for(f"innerWidth === {width}")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, which must fit into JSON; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = WAIT_SECONDS) -> Any:
        """Wait until an expression is truthy, across pages if one leads to the next, and give its value.

        It must not be a promise, which is truthy before anything has happened. `seconds` would be generous on an idle
        machine.
        """
        began = time.monotonic()
        while time.monotonic() - began < patience(seconds):
            with suppress(DevToolsError):  # the page went away under the question
                if value := self.evaluate(f"{NO_PROMISE}(({expression}))"):
                    return value
            time.sleep(POLL_SECONDS)
        self.check()
        raise AssertionError(f"not within {seconds} s: {expression}")

    def click(self, selector: str, text: str | None = None, unless: str = "false") -> None:
        """Click the first element that matches a CSS selector (and shows exactly this text), where it can be seen.

        A click that meets something else, because the page was drawn anew meanwhile, does nothing and is made again.
        Where the page may take the element away by itself, `unless` says by which expression that is known.
        """
        wanted = "" if text is None else f".filter(e => e.innerText.trim() === {json.dumps(text)})"
        aimed = f"""(() => {{
            if ({unless}) return "gone";
            const element = [...document.querySelectorAll({json.dumps(selector)})]{wanted}[0];
            if (!element) return null;
            element.scrollIntoView({{block: "nearest", inline: "nearest", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            if (!element.contains(document.elementFromPoint(x, y))) return null;
            {WATCH_CLICK}
            return {{x, y, from: location.hash, to: element.closest("a")?.hash || location.hash}};
        }})()"""
        began = time.monotonic()
        while time.monotonic() - began < patience(WAIT_SECONDS):
            where = self.wait_for(aimed)
            if where == "gone":
                return
            point = {"x": where["x"], "y": where["y"]}
            self.call("Input.dispatchMouseEvent", type="mouseMoved", **point)
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)
            try:
                clicked = self.evaluate("window.clicked")
            except DevToolsError:  # the page that it led to is on its way
                return
            if clicked and where["from"] != where["to"]:  # or else a hash that is set next may come before
                self.wait_for(f"location.hash !== {json.dumps(where['from'])}")
            if clicked is not False:  # undefined on another page
                return
        raise AssertionError(f"no click reached {selector} {text or ''}")

    def write(self, text: str) -> None:
        """Type text into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False) -> None:
        """Press one of `KEYS`."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": CONTROL if control else 0}
        text = {"text": "\r"} if key == "Enter" and not control else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path: Path) -> None:
        """Keep a picture of what can be seen, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
