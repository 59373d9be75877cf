"""Pages looked at in a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Seen:
    """What a page did while it was looked at."""

    complaints: list[str] = field(default_factory=list)  # console errors and warnings, uncaught exceptions
    requests: list[str] = field(default_factory=list)  # all that it asked for over a network


@contextmanager
def chromium() -> Iterator:
    """A running Chromium; skips the test, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium here: none of {', '.join(NAMES)} is on the path, and CHROMIUM does not name one")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox does not start as root, as in containers; the pages are ours.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Iterator:
    """A page with what it did: yields `(page, Seen)`; `address` is an URL, file:// included.

    Args:
        browser: from :func:`chromium`.
        address: what to open.
        width: of the window, in CSS pixels.
        height: of the window, in CSS pixels.
        scheme: "light" or "dark", as the reader's system prefers.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, seen = context.new_page(), Seen()
    page.on("console", lambda message: message.type in ("error", "warning") and seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("http", "ws")) and seen.requests.append(request.url))
    try:
        page.goto(address)
        yield page, seen
    finally:
        context.close()
