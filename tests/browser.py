"""A headless Chromium for the tests of pages, with what it complained of and what it asked the network for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars",
)  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "chrome:", "about:", "devtools:", "chrome-error:")
PATIENCE = 60  # seconds: the machine may be busy with other tests


def _program(variable: str, *names: str) -> str:
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip(f"needs a browser: no {names[0]} on the path, and {variable} names none")
    return found


class Browser:
    """One window. `driver` is selenium's; every `find` waits until the page has what is looked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, place: Path | str) -> None:
        """Go to a file of the disk, or an address."""
        self.driver.get(place.resolve().as_uri() if isinstance(place, Path) else place)

    def wait(self, condition: str, *arguments: Any) -> Any:
        """Wait until the JavaScript expression is true, and give its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.1).until(lambda _: self.run(f"return {condition}", *arguments))

    def find(self, selector: str) -> Any:
        """The first element that the CSS selector names, once there is one."""
        return self.wait("document.querySelector(arguments[0])", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def resize(self, width: int, height: int = 900) -> None:
        """The size of the page's window, exactly, also below what a window manager allows."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """What the reader's system prefers: dark or light."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """Warnings and errors on the console since the last call."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """Addresses since the last call that are not on this page or disk."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith(LOCAL)]

    def screenshot(self, path: Path) -> Path:
        """The window as a PNG."""
        self.driver.save_screenshot(str(path))
        return path


@contextmanager
def browsing(width: int = 1200, height: int = 900) -> Iterator[Browser]:
    """A browser with a fresh profile; skips where there is none. Nothing is downloaded to drive it."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs a browser's driver: pip install selenium")
    chromium = _program("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    service = webdriver.ChromeService(executable_path=_program("CHROMEDRIVER", "chromedriver"))
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(driver)
        finally:
            driver.quit()
