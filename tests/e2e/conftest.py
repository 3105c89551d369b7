"""A real browser, with a security key that is software."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.programs import needs


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """Debian's Chromium without a window and with a profile of its own."""
    options = ChromeOptions()
    options.binary_location = needs("chromium", package="chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",  # Tests run as root in containers.
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1200,1000",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ):
        options.add_argument(flag)
    service = ChromeService(needs("chromedriver", package="chromium-driver"))
    driver = Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()
