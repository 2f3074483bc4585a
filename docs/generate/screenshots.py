"""Screenshots of the dashboard and of the comparison page for the documentation: `python docs/generate/screenshots.py`.

Experiments are trained in a new project, and the pages are photographed in headless Chromium. So the pictures show what the
present version shows. It takes some minutes.
"""

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
FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-background-networking", "window-size=1400,1000")
EXPERIMENTS = ("temperature_lstm", "temperature_gru", "temperature_cnn1d")
PORT = "5790"


def reprise(project: Path, *words: str) -> str:
    """Run a command in the project and return what it prints."""
    command = [sys.executable, "-m", "reprise", *words]
    return subprocess.run(command, cwd=project, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def dashboard(project: Path) -> Iterator[dict[str, str]]:
    """Serve the dashboard, and yield the address of each of its views."""
    log = project / "dashboard.log"
    command = [sys.executable, "-m", "reprise", "dashboard", "--no-open", "--port", PORT]
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=project, stdout=stream, stderr=stream)
    try:
        while not answers(f"http://127.0.0.1:{PORT}/health"):
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
        yield dict(re.findall(r"^dashboard  seattle_weather, ([\w ]+): (\S+)$", log.read_text(), re.MULTILINE))
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


def element(selector: str) -> str:
    """Return the JavaScript expression of an element."""
    return f"document.querySelector('{selector}')"


def photograph(driver: webdriver.Chrome, address: str, ready: str, file: str) -> None:
    """Save a page once a JavaScript expression is true on it."""
    driver.get("about:blank")
    driver.get(address)
    WebDriverWait(driver, 180).until(lambda driver: driver.execute_script(f"return !!({ready})"))
    for close in driver.find_elements(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']"):
        close.click()  # a panel that opens by itself at the first visit
    time.sleep(3)  # charts are drawn
    driver.save_screenshot(str(IMAGES / file))


def train(folder: Path) -> Path:
    """Make a project with evaluated runs and a comparison of them, and return it."""
    reprise(folder, "init", "weather")
    project = folder / "weather"
    for experiment in EXPERIMENTS:
        reprise(project, "train", f"experiment={experiment}", "seeds=3", "trainer.max_epochs=15")
    for back in range(3 * len(EXPERIMENTS)):
        reprise(project, "evaluate", f"last~{back}")
    reprise(project, "compare", *EXPERIMENTS, "--html", "compare.html")
    return project


def photograph_all(project: Path) -> None:
    """Save the pages of a project as pictures."""
    with browser() as driver, dashboard(project) as views:
        photograph(
            driver,
            (project / "compare.html").resolve().as_uri(),
            element("#curves .legendtoggle"),
            "compare.png",
        )
        photograph(driver, views["the best first"], element(".ag-center-cols-container .ag-row"), "dashboard.png")
        photograph(driver, views["charts"], element(".js-plotly-plot .main-svg"), "charts.png")


def main(projects: list[str]) -> None:
    """Photograph a project made before, or train a new one."""
    if projects:
        photograph_all(Path(projects[0]).resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        photograph_all(train(Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
