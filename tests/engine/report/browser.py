"""A real Chromium without a window, by selenium; tests are skipped where one of the two is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

LIGHT, DARK = "light", "dark"


class Browser:
    """A browser that shows one page after the other."""

    def __init__(self, driver: Any):
        self.driver = driver

    def show(self, page: Path, *, width: int = 1400, height: int = 900, theme: str = LIGHT) -> None:
        """Open a page from its file, in a window of a size, as a user with a theme sees it."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wanted = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        self.visit(page.resolve().as_uri())

    def visit(self, address: str) -> None:
        """Open an address in the window as it is."""
        self.driver.get(address)
        self.settle()

    def wait(self, script: str) -> None:
        """Wait until a script returns something true; fail where it does not."""
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 -- an extra

        WebDriverWait(self.driver, 30.0).until(lambda driver: driver.execute_script(script), message=script)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for has been painted."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns, when its effects have been painted."""
        found = self.driver.execute_script(script, *arguments)
        self.settle()
        return found

    def complaints(self) -> list[str]:
        """Return what has been said on the console since the last call: errors and warnings."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def pixels(self, canvas: str) -> int:
        """Return how many points of a canvas are painted."""
        script = """
            const canvas = document.querySelector(arguments[0]);
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
            return count;"""
        return int(self.driver.execute_script(script, canvas))

    def keys(self, selector: str, *keys: str) -> None:
        """Press keys on an element that takes the focus."""
        for key in keys:
            self.ask(
                "const at = document.querySelector(arguments[0]); at.focus();"
                "at.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[1], bubbles: true }))",
                selector,
                key,
            )


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing (extra: dev)")
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415 -- an extra

    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    program = shutil.which("chromedriver")
    if binary is None or program is None:
        pytest.skip("Chromium or its chromedriver is missing (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
