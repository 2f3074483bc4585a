"""An HTML page in a real browser, with the network requests that it makes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
T = TypeVar("T")
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"


def wait_for(driver: webdriver.Chrome, condition: Callable[[webdriver.Chrome], T], seconds: float = 60) -> T:
    """Return the first true value of a condition. If the page replaces an element while it is read, read again."""
    waiting = WebDriverWait(driver, seconds, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(condition)


class Page:
    """An HTML file, opened when `show` is called."""

    def __init__(self, file: Path, profile: Path) -> None:
        self.file = file
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS.split(), "window-size=1280,1000", f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.driver.quit()

    def show(self, width: int = 1280, scheme: str = "light") -> None:
        """Open the file, with mobile emulation if the width is below 720 pixels."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 720}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(self.file.resolve().as_uri())
        self.wait_until(lambda: self.find_all("#curves .legendtoggle"))

    def execute(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def find_all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait_until(self, condition: Callable[[], Any]) -> None:
        wait_for(self.driver, lambda _: condition())

    def requests(self) -> list[str]:
        """Return the URLs requested since the last call, without `data:` and `blob:`."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def console_messages(self) -> list[str]:
        """Return the messages in the browser's console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
