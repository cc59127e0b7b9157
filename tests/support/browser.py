"""A real browser: headless Chromium, driven through the two pipes of its DevTools protocol.

Debian and Ubuntu have it as the package `chromium`. Tests skip without it, unless the variable
VQAD_REQUIRE_CHROMIUM is 1. The methods and events are those of the protocol's domains Page,
Runtime, Network, Input, Emulation and Browser.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WITHIN_S = 60
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CODES = {"Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}


class Browser:
    """One tab, and what it has asked for, logged and shown so far."""

    def __init__(self, commands: int, answers: int, downloads: Path) -> None:
        self.commands, self.answers, self.downloads = commands, answers, downloads
        self.buffer, self.number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        self.requests: list[str] = []  # URLs
        self.errors: list[str] = []  # of scripts and of the page's policy, and opened alerts
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        place = {"behavior": "allow", "downloadPath": str(downloads)}
        self.call("Browser.setDownloadBehavior", **place)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": self.number, "method": method, "params": parameters, **session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda each: each.get("id") == self.number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _wait(self, wanted: Any) -> dict[str, Any]:
        end_s = time.monotonic() + WITHIN_S
        while True:
            while b"\0" not in self.buffer:
                ready, _, _ = select.select([self.answers], [], [], end_s - time.monotonic())
                data = os.read(self.answers, 2**20) if ready else b""
                assert data, "the browser does not answer"
                self.buffer += data
            text, _, self.buffer = self.buffer.partition(b"\0")
            message = json.loads(text)
            self._note(message.get("method", ""), message.get("params", {}))
            if wanted(message):
                return message

    def _note(self, method: str, found: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.errors.append(found["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog was opened: {found['message']}")

    def open(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self.call("Page.navigate", url=url)
        self._wait(lambda each: each.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = CODES.get(key, ord(key[0].upper()))
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def choose(self, field: str, value: str | bool) -> None:
        """Give a filter a value, as a person does."""
        name = "checked" if isinstance(value, bool) else "value"
        self.evaluate(
            f"document.querySelector('[name={field}]').{name} = {json.dumps(value)};"
            "document.getElementById('filters').dispatchEvent(new Event('input'))"
        )

    def show(self, *, width_px: int = 1280, height_px: int = 900, theme: str = "light") -> None:
        """Set the size of the window, and light or dark."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": theme}],
        )

    def screenshot(self, path: Path) -> None:
        """What is seen in the window, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def downloaded(self, name: str) -> str:
        """The text of a file that the page has saved."""
        end_s = time.monotonic() + WITHIN_S
        while not (self.downloads / name).exists():
            assert time.monotonic() < end_s, list(self.downloads.iterdir())
            time.sleep(0.05)
        return (self.downloads / name).read_text()


def text(page: Browser, selector: str) -> str:
    """The text that an element shows."""
    return page.evaluate(f"document.querySelector({selector!r}).innerText")


def pressed(page: Browser, selector: str) -> str:
    """The state of a switch, as assistive programs read it."""
    return page.evaluate(f"document.querySelector({selector!r}).getAttribute('aria-pressed')")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        assert os.environ.get("VQAD_REQUIRE_CHROMIUM") != "1", f"none of {NAMES} is installed"
        pytest.skip("needs headless Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="vqad-browser-", ignore_cleanup_errors=True) as folder:
        downloads = Path(folder, "downloads")
        downloads.mkdir()
        process, commands, answers = _started(program, folder)
        try:
            yield Browser(commands, answers, downloads)
        finally:
            process.kill()
            process.wait()
            os.close(commands)
            os.close(answers)


def _started(program: str, folder: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """The browser, which reads commands from descriptor 3 and writes answers to descriptor 4."""
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    redirected = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "bash", program, *FLAGS, f"--user-data-dir={folder}/profile"],
        pass_fds=(read_commands, write_answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    return process, commands, answers
