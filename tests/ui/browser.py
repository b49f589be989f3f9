"""A headless Chromium, driven by Selenium: what a person sees and clicks."""

from __future__ import annotations

import base64
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

_T = TypeVar("_T")

PROGRAMS: Final = ("chromium", "chromedriver")
"""What must be installed."""

WAIT_SECONDS: Final = 120.0
"""Longest wait for a page to show something."""

RELOAD_SECONDS: Final = 20.0
"""How long a page may lack something before a person loads it again."""

SCREENSHOTS: Final = Path(os.environ.get("STUDYFLOW_SCREENSHOTS", "build/screenshots"))
"""Where pictures of the pages are kept."""


def is_installed() -> bool:
    """Whether there is a browser to drive."""
    return all(shutil.which(program) for program in PROGRAMS)


class Browser:
    """One window. Use it in a `with` block; elements are named by XPath."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.add_argument("--window-size=1300,1600")
        # Named, or Selenium would look for a driver on the internet.
        service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
        self._driver = webdriver.Chrome(options, service)
        self._n_pictures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.quit()

    def open(self, url: str) -> None:
        """Go to a page."""
        self._driver.get(url)

    def read(self, url: str, text: str, seconds: float = WAIT_SECONDS) -> None:
        """Go to a page and wait until it shows a text; load it again now and then.

        A page stays empty when a connection breaks while it loads, and the page of a run that has
        ended does not ask for what comes later.
        """

        opened_at = -math.inf

        def is_there() -> bool:
            nonlocal opened_at
            if time.monotonic() > opened_at + RELOAD_SECONDS:
                self.open(url)
                opened_at = time.monotonic()
            return text in self.text

        self.wait(is_there, repr(text), seconds)

    def click(self, xpath: str) -> None:
        """Click an element as soon as it is there and nothing covers it."""

        def click() -> bool:
            self._driver.find_element(By.XPATH, xpath).click()
            return True

        self.wait(click, f"{xpath} to click")

    def write(self, xpath: str, text: str) -> None:
        """Replace what a field holds, as a person does: select all, and type."""
        field = self.wait(
            lambda: self._driver.find_element(By.XPATH, xpath), f"{xpath} to write into"
        )
        field.send_keys(Keys.CONTROL, "a", Keys.NULL, text)

    def press(self, xpath: str, *pressed: str) -> None:
        """Press keys where an element has the focus."""
        self._driver.find_element(By.XPATH, xpath).send_keys(*pressed)

    def look(self, width: int, theme: Literal["light", "dark"]) -> None:
        """Look through a window of that width, as a person with light or dark pages does."""
        scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """Return what the page's scripts complained of since the last call."""
        entries: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries]

    def whole_picture(self, name: str) -> Path:
        """Keep a picture of the whole page; return where."""
        taken = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = (SCREENSHOTS / f"{name}.png").absolute()
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def script(self, script: str) -> Any:
        """Return what a script returns on the page."""
        return self._driver.execute_script(script)

    @property
    def address(self) -> str:
        """The page's address."""
        return str(self._driver.current_url)

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
        path = (SCREENSHOTS / f"{name}-{self._n_pictures}.png").absolute()
        self._driver.save_screenshot(str(path))
        return path


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
        except WebDriverException:  # such as an element that a redraw has just replaced
            pass
        time.sleep(0.3)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")
