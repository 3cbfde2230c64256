"""A headless Chromium, spoken to by the DevTools protocol over a pipe."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-US", "--remote-debugging-pipe",
)  # fmt: skip
_TIMEOUT_S = 20.0
_KEYS = {
    "Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "ArrowUp": (38, ""), "ArrowDown": (40, ""),
    "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Space": (32, " "),
}  # fmt: skip
SHIFT = 8
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from descriptor 3 and writes to 4."""


def chromium() -> str | None:
    """The program, None where this machine has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        program = chromium()
        assert program is not None
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        words = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with (folder / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, str(from_us), str(to_us), *words],
                pass_fds=(from_us, to_us), stdout=log, stderr=log, env={**os.environ, "TZ": "Europe/Berlin"},
            )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._number, self._unread = 0, b""
        self._pages: dict[str, Page] = {}

    def context(self) -> str:
        """Make a profile for pages that share what browsers keep, and return its name."""
        made: str = self.call("Target.createBrowserContext")["browserContextId"]
        return made

    def dispose(self, context: str) -> None:
        """Close all pages of a profile, and forget it."""
        self.call("Target.disposeBrowserContext", browserContextId=context)

    def page(self, url: str, context: str, width: int = 1280, height: int = 800) -> "Page":
        """Open a page in a profile, and return it when it is loaded."""
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.size(width, height)
        page.open(url)
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            told = self._next(deadline, method)
            if told.get("id") == self._number:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            page = self._pages.get(told.get("sessionId", ""))
            if page is not None and "method" in told:
                page.heard(told["method"], told["params"])

    def _next(self, deadline: float, what: str) -> Any:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium does not answer {what}"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium has ended"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._to)
        os.close(self._from)


class Page:
    """A page with all that it asked for and complained of.

    Attributes:
        requests: The addresses that it asked for.
        complaints: What the console has of errors and warnings, and what was thrown.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, self._session, **params)

    def heard(self, event: str, params: Any) -> None:
        """Note an event of the protocol."""
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif event == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(params["args"])[:500])
        elif event == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(params["entry"]["text"])

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page has taken it in."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def size(self, width: int, height: int, scale: int = 1) -> None:
        mobile = width < 500
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, scheme: str) -> None:
        """Have the system prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Return an expression's value once that is true, in JavaScript's sense."""
        deadline = time.monotonic() + _TIMEOUT_S
        script = (
            f"(() => {{ try {{ const v = {condition}; return v instanceof Node || v }} catch {{ return false }} }})()"
        )
        while not (value := self.run(script)):
            if time.monotonic() >= deadline:
                text = self.text()
                raise AssertionError(f"not so: {condition}; the page says {text[:400]!r} … {text[-600:]!r}")
            self.run("new Promise(done => setTimeout(done, 15))")
        return value

    def text(self, selector: str = "body") -> str:
        """Return the text that an element shows."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that fits, as a mouse does; again where it moves away."""
        found = json.dumps(selector)
        for _ in range(20):
            place = self.wait(
                f"(() => {{ const e = document.querySelector({found});"
                " e.scrollIntoView({block: 'center'});"
                " const b = e.getBoundingClientRect(), at = [b.x + b.width / 2, b.y + b.height / 2];"
                " if (!b.width || !e.contains(document.elementFromPoint(...at))) return false;"  # it is covered
                " window.__missed = true;"
                " e.addEventListener('click', () => { window.__missed = false }, {capture: true, once: true});"
                " return at })()"
            )
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
            if not self.run("window.__missed"):
                return
        raise AssertionError(f"{selector} moves away from each click")

    def press(self, *keys: str, modifiers: int = 0) -> None:
        """Press keys by their names, or characters."""
        for key in keys:
            code, text = _KEYS.get(key, (ord(key.upper()[0]), key))
            same = {"key": " " if key == "Space" else key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
            self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def type(self, text: str) -> None:
        """Put text where the focus is."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    @property
    def violations(self) -> list[str]:
        """What the Content-Security-Policy has stopped."""
        found: list[str] = self.run("window.__violations")
        return found


_WATCH = """
window.__violations = [];
addEventListener("securitypolicyviolation", (event) => {
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser, closed afterwards."""
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()
