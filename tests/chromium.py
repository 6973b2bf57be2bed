"""A real headless Chromium (.tools/chromium), by its own protocol: the little of it that looking at a page takes."""

import base64
import itertools
import json
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

HOME = Path(__file__).parents[1] / ".tools/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",  # it opens no page but ours, and may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing is looked up, and nobody called but us
    "--hide-scrollbars",
    "--font-render-hinting=none",
    "--lang=en-US",
    "--remote-debugging-port=0",
]
WITHIN_S = 10.0
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """One tab. `said` is what its console complained of, which should be nothing."""

    def __init__(self, browser: "Chromium", session: str) -> None:
        self._browser, self._session = browser, session
        self.said: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url="about:blank")  # the same page with another fragment would not be read again
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """What an expression gives, a promise's value included."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer.get("result", {}).get("value")

    def until(self, expression: str) -> None:
        """Waits until it is true of the page."""
        deadline = time.monotonic() + WITHIN_S
        while not self.js(f"!!({expression})"):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"never true: {expression}; said: {self.said}\n{self.js('document.body?.innerText')}"
                )
            time.sleep(0.01)

    def text(self) -> str:
        """What a reader sees."""
        return str(self.js("document.body.innerText"))

    def shows(self, *texts: str) -> None:
        """Waits until the page reads so."""
        for text in texts:
            self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str) -> None:
        self.until(f"document.querySelector({json.dumps(selector)})")
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, value: str) -> None:
        """One option of a select, as a person does."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"[...({found}?.options ?? [])].some(each => each.value === {json.dumps(value)})")
        self.js(f"{found}.value = {json.dumps(value)}; {found}.dispatchEvent(new Event('change', {{bubbles: true}}))")

    def press(self, key: str, *, shift: bool = False) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = KEYS.get(key, ord(key[0].upper()))
        said = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **said)
        self.call("Input.dispatchKeyEvent", type="keyUp", **said)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def look(self, *, width: int = 1280, height: int = 800, scheme: str = "light", calm: bool = False) -> None:
        """The screen's size, and what its user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        motion = "reduce" if calm else "no-preference"
        features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", motion)]
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features])

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def heed(self, event: dict[str, Any]) -> None:
        params = event["params"]
        match event["method"]:
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.said.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded":
                self.said.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.said.append(str([each.get("value") for each in params["args"]]))


class Chromium:
    """One browser for as long as the block lasts; its profile goes with it."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            ours = {"LD_LIBRARY_PATH": f"{HOME}/lib", "FONTCONFIG_FILE": f"{HOME}/fonts.conf", "HOME": profile}
            process = subprocess.Popen(
                [os.environ.get("CHROMIUM", HOME / "chromium"), *FLAGS, f"--user-data-dir={profile}"],
                env=os.environ | ({} if "CHROMIUM" in os.environ else ours),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            self.pid = process.pid
            self._socket: ClientConnection = stack.enter_context(connect(_address(process), max_size=None, proxy=None))
            self._numbers = itertools.count(1)
            self._pages: dict[str, Page] = {}
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._pages[session] = page = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.look()
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """What the browser answers; what it tells meanwhile goes to the pages."""
        number = next(self._numbers)
        to = {"sessionId": session} if session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **to}))
        while True:
            said = json.loads(self._socket.recv(WITHIN_S))
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                result: dict[str, Any] = said["result"]
                return result
            if page := self._pages.get(said.get("sessionId", "")):
                page.heed(said)


def _address(process: subprocess.Popen[str]) -> str:
    """Where a browser that was just started listens: it says so, on its own."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if "DevTools listening on " in line:
            return line.split()[-1]
        said.append(line)
    raise AssertionError(f"no Chromium, see CONTRIBUTING.md: {''.join(said)}")
