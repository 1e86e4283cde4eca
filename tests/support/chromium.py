"""Debian's Chromium, driven by Playwright, as the fixture ``browser``."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def chromium(*options: str) -> Iterator["Browser"]:
    """Start a Chromium. Without Chromium the test is skipped, and in CI it fails."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists() and "CI" not in os.environ:
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *options])
        yield browser
        browser.close()


@contextmanager
def profile(folder: Path, *options: str) -> Iterator["BrowserContext"]:
    """Start a Chromium with a profile, as people have it; other contexts are private windows.

    Pages in frames of other sites may store something, as by Chrome's default.
    """
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists() and "CI" not in os.environ:
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    preferences = folder / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text('{"profile": {"cookie_controls_mode": 0}}')
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, args=[*OPTIONS, *options], ignore_https_errors=True
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A running Chromium, one per module."""
    with chromium() as browser:
        yield browser
