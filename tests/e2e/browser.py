"""A real browser, signed in to Airflow, and what goes wrong on the pages that it shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "no Chromium: `apt-get install chromium`, or `.venv/bin/playwright install chromium`"
REQUIRED = "PAGES_TEST_BROWSER"  # "required" where CI has found a browser
PREFIX = "/mnist-ops/"
TIMEOUT_MS = 30_000
NARROW = 400  # pixels

_SERIOUS = """
only => axe.run(document, {resultTypes: ['violations'], ...(only && {runOnly: only})})
  .then(found => found.violations
  .filter(each => ['serious', 'critical'].includes(each.impact))
  .map(each => `${each.id}: ${each.nodes.map(node => node.target.join(' ')).slice(0, 3).join(' | ')}`))
"""
_CHOOSE_THEME = """
theme => { localStorage.setItem('theme', theme); window.dispatchEvent(new Event('storage')); }
"""
_BROKEN_IMAGES = """
[...document.images].filter(image => image.hasAttribute('src') && image.complete && !image.naturalWidth)
  .map(image => image.alt || image.src.slice(0, 80))
"""
_TOO_WIDE = """
document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
  [`${document.documentElement.scrollWidth} pixels`, ...[...document.querySelectorAll('main *, header *')]
    .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
      && !each.closest('.scroll'))
    .slice(0, 3).map(each => each.outerHTML.slice(0, 120))]
"""


def executable() -> str | None:
    """The program of a browser: the system's, or the one that Playwright has installed; None if neither."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def needed_executable() -> str:
    """The program of a browser. Without one the test is skipped, or fails where one is required."""
    found = executable()
    if found is not None:
        return found
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(INSTALL)
    pytest.skip(INSTALL)


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # As root, Chromium starts only without its sandbox; it opens pages of our own server only.
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One tab of somebody who is signed in to Airflow, and the complaints about the pages of MNIST Ops.

    Attributes:
        page: the tab.
        base: the address of Airflow.
        prefix: the path of the pages there.
        complaints: failed requests, answers of 400 or more, and errors of scripts.
    """

    page: Page
    base: str
    prefix: str = PREFIX
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("requestfailed", self._on_failed)
        self.page.on("response", self._on_response)

    def sign_in(self, name: str, password: str) -> None:
        """Fill in Airflow's own form."""
        self.page.goto(f"{self.base}/auth/login")
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/auth/login" not in url, wait_until="commit")

    def open(self, path: str) -> None:
        """Open a page of MNIST Ops, such as "/runs", in the whole tab."""
        self.page.goto(f"{self.base}{self.prefix}{path.lstrip('/')}")

    def choose_theme(self, theme: str) -> None:
        """Choose "light" or "dark" as Airflow's UI does; the open page follows at once."""
        self.page.evaluate(_CHOOSE_THEME, theme)

    def faults(self) -> list[str]:
        """What is wrong with the page: broken images, and barriers that axe-core calls serious.

        In the dark theme, which is left chosen, only colours can differ.
        """
        self.page.evaluate(AXE_SCRIPT)
        self.choose_theme("light")
        found = [f"broken image: {each}" for each in self.page.evaluate(_BROKEN_IMAGES)]
        found += [f"axe: {each}" for each in self.page.evaluate(_SERIOUS, None)]
        self.choose_theme("dark")
        return found + [f"axe, dark: {each}" for each in self.page.evaluate(_SERIOUS, ["color-contrast"])]

    def too_wide(self) -> list[str]:
        """What reaches beyond the right edge, in a window as narrow as a phone."""
        size = self.page.viewport_size or {"width": 1280, "height": 800}
        self.page.set_viewport_size({"width": NARROW, "height": 800})
        found = [f"too wide: {each}" for each in self.page.evaluate(_TOO_WIDE)]
        self.page.set_viewport_size(size)
        return found

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and self.prefix in message.location.get("url", ""):
            self.complaints.append(f"console: {message.text}")

    def _on_failed(self, request: Request) -> None:
        # A request is aborted when the page is left.
        if self.prefix in request.url and request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.method} {request.url}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if self.prefix in response.url and response.status >= 400:
            self.complaints.append(f"{response.request.method} {response.url}: {response.status}")
