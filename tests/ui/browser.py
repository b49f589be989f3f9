"""A headless Chromium, driven over the W3C WebDriver protocol: what a person sees and clicks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

_T = TypeVar("_T")

PROGRAMS: Final = ("chromium", "chromedriver")
"""What must be installed."""

WAIT_SECONDS: Final = 60.0
"""Longest wait for a page to show something."""

SCREENSHOTS: Final = Path(os.environ.get("STUDYFLOW_SCREENSHOTS", "build/screenshots"))
"""Where pictures of the pages are kept."""

_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The protocol's own name for the id of an element."""

_SELECT_ALL: Final = "\ue009a\ue000"
"""Ctrl+A in the protocol's form."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_installed() -> bool:
    """Whether there is a browser to drive."""
    return all(shutil.which(program) for program in PROGRAMS)


class BrowserError(Exception):
    """The browser refused a command, such as a click on what is not there."""


class Browser:
    """One window. Use it in a `with` block; elements are named by XPath."""

    def __init__(self) -> None:
        port = free_port()
        self._base = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._session = ""
        self._n_pictures = 0

    def __enter__(self) -> Self:
        try:
            until(lambda: self._is_ready(), "chromedriver to start")
            flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            options = {"args": [*flags, "--window-size=1300,1600"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options}
            opened = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise
        self._session = f"/session/{opened['sessionId']}"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(timeout=20)

    def open(self, url: str) -> None:
        """Go to a page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def click(self, xpath: str) -> None:
        """Click an element as soon as it is there and nothing covers it."""

        def click() -> bool:
            element = self._find(xpath)
            if element is not None:
                self._call("POST", f"{self._session}/element/{element}/click")
            return element is not None

        self.wait(click, f"{xpath} to click")

    def write(self, xpath: str, text: str) -> None:
        """Replace what a field holds, as a person does: select all, and type."""
        self.wait(lambda: self._find(xpath) is not None, f"{xpath} to write into")
        keys = {"text": _SELECT_ALL + text}
        self._call("POST", f"{self._session}/element/{self._find(xpath)}/value", keys)

    def script(self, script: str) -> Any:
        """Return what a script returns on the page."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    @property
    def address(self) -> str:
        """The page's address."""
        return str(self.script("return location.href"))

    @property
    def text(self) -> str:
        """The page as a person reads it."""
        return str(self.script("return document.body.innerText"))

    def links(self, begin: str) -> list[str]:
        """Return the addresses on the page that begin like this."""
        found = self.script("return [...document.querySelectorAll('a')].map(a => a.href)")
        return [link for link in found if link.startswith(begin)]

    def wait_for(self, text: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the page shows a text."""
        self.wait(lambda: text in self.text, repr(text), seconds)

    def wait(self, is_there: Callable[[], _T], what: str, seconds: float = WAIT_SECONDS) -> _T:
        """Wait for something on the page; keep a picture of it if it does not come."""
        try:
            return until(is_there, what, seconds)
        except TimeoutError as error:
            path = self.picture("failed")
            raise TimeoutError(f"{error}; see {path}. The page:\n{self.text[:3000]}") from None

    def picture(self, name: str) -> Path:
        """Keep a picture of the page; return where."""
        self._n_pictures += 1
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}-{self._n_pictures}.png"
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))
        return path.absolute()

    def _find(self, xpath: str) -> str | None:
        query = {"using": "xpath", "value": xpath}
        found = self._call("POST", f"{self._session}/elements", query)
        return found[0][_ELEMENT] if found else None

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except OSError:
            return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=data,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"]) from None


def until(is_there: Callable[[], _T], what: str, seconds: float = WAIT_SECONDS) -> _T:
    """Return the first true answer.

    Raises:
        TimeoutError: There was none in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := is_there():
                return found
        except BrowserError:  # such as an element that a redraw has just replaced
            pass
        time.sleep(0.3)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")
