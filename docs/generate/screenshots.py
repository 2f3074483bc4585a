"""Screenshots of the dashboard and of the comparison page, for the documentation: `python docs/generate/screenshots.py`.

Experiments are trained in a new project, and the pages are photographed in headless Chromium. So the pictures show what the
present version shows. It takes some minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).resolve().parents[1] / "images"
FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-background-networking", "window-size=1400,860")
EXPERIMENTS = ("temperature_lstm", "temperature_gru", "temperature_cnn1d")
PORT = "5790"


def reprise(project: Path, *words: str) -> str:
    """Run a command in the project and return what it prints."""
    command = [sys.executable, "-m", "reprise", *words]
    return subprocess.run(command, cwd=project, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def dashboard(project: Path) -> Iterator[dict[str, str]]:
    """Serve the dashboard, and yield the address of each data set's table of runs."""
    log = project / "dashboard.log"
    command = [sys.executable, "-m", "reprise", "dashboard", "--no-open", "--port", PORT]
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=project, stdout=stream, stderr=stream)
    try:
        while not answers(f"http://127.0.0.1:{PORT}/health"):
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
        yield dict(re.findall(r"^dashboard  (\w+), the best first: (\S+)$", log.read_text(), re.MULTILINE))
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    """Return whether a server answers at the address."""
    try:
        with urllib.request.urlopen(address, timeout=10):  # noqa: S310 -- of this machine
            return True
    except OSError:
        return False


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Yield a headless Chromium."""
    options = Options()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def photograph(driver: webdriver.Chrome, address: str, ready: str, file: str) -> None:
    """Save a page once an element that matches a CSS selector is on it."""
    driver.get("about:blank")
    driver.get(address)
    WebDriverWait(driver, 180).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ready))
    for close in driver.find_elements(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']"):
        close.click()  # a panel that opens by itself at the first visit
    time.sleep(3)  # charts are drawn
    driver.save_screenshot(str(IMAGES / file))


def main() -> None:
    """Train, and photograph the pages."""
    with tempfile.TemporaryDirectory() as folder:
        reprise(Path(folder), "init", "weather")
        project = Path(folder) / "weather"
        for experiment in EXPERIMENTS:
            reprise(project, "train", f"experiment={experiment}", "seeds=3", "trainer.max_epochs=15")
        for back in range(0, 3 * len(EXPERIMENTS), 3):
            reprise(project, "evaluate", f"last~{back}")
        reprise(project, "compare", *EXPERIMENTS, "--html", "compare.html")
        newest = max(project.glob("mlruns/runs/*/figures/forecast.png"), key=os.path.getmtime)
        with browser() as driver:
            photograph(driver, (project / "compare.html").resolve().as_uri(), "#curves .legendtoggle", "compare.png")
            with dashboard(project) as tables:
                table = tables["seattle_weather"]
                photograph(driver, table, ".ag-center-cols-container .ag-row", "dashboard.png")
                page = re.sub(r"runs\?.*", f"runs/{newest.parents[1].name}/artifacts/figures/forecast.png", table)
                photograph(driver, page, "img[src*='artifact'], img[src^='blob']", "run.png")


if __name__ == "__main__":
    main()
