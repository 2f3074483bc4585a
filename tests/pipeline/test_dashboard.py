"""The dashboard as a person sees it: MLflow's own pages in a real browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.stages.trained import read_published
from tests.pipeline.conftest import run_in
from tests.pipeline.test_sweep import QUICK, sweep, write
from tests.tracking.server import is_healthy

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"

GRID = {"sampler": {"kind": "grid"}, "pruner": {"kind": "median", "startup": 1, "warmup": 1}}

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def dashboard(made: Path) -> Iterator[str]:
    """`reprise dashboard`, answering."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (made / "dashboard.log").open("w") as log:
        command = ["reprise", "dashboard", "--no-open", "--port", str(port)]
        process = subprocess.Popen(command, cwd=made, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while not is_healthy(address):
        ended = process.poll() is not None or time.monotonic() > deadline
        assert not ended, (made / "dashboard.log").read_text()
        time.sleep(0.2)
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), "window-size=1400,1000", f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def see(driver: webdriver.Chrome, address: str, *words: str) -> str:
    """The page's text, once it holds all of these words."""
    driver.get("about:blank")  # the pages differ behind the # alone: make it a new visit
    driver.get(address)

    def text(driver: webdriver.Chrome) -> str:
        return driver.find_element(By.TAG_NAME, "body").text

    try:
        WebDriverWait(driver, 90).until(lambda driver: all(word in text(driver) for word in words))
    except TimeoutException:
        pytest.fail(f"{address} does not show {words}: {text(driver)[:2000]}")
    return text(driver)


def test_the_dashboard_shows_the_runs_their_metrics_and_a_figure(made: Path, dashboard: str, browser: webdriver.Chrome) -> None:
    for experiment, metric, figure in (
        ("digits_cnn", "accuracy", "confusion_matrix.png"),
        ("temperature_lstm", "mae", "forecast.png"),
    ):
        found = store.read_json(made / "data" / "results" / experiment / "metrics.json")
        (run,) = read_published(ProjectPaths(made), experiment)
        run_id, name = run.run_id, run.name
        experiment_id = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}").get_run(run_id).info.experiment_id
        runs = f"{dashboard}/#/experiments/{experiment_id}/runs"
        see(browser, runs, "Run Name", name, "The best run so far: reprise reproduce")
        page = see(browser, f"{runs}/{run_id}", f"val/{metric}", f"test/{metric}", f"reprise reproduce {name}")
        assert str(found["test"][metric]) in page
        see(browser, f"{runs}/{run_id}/artifacts/figures/{figure}", f"figures/{figure}")
        image = WebDriverWait(browser, 45).until(lambda driver: shown_images(driver))[0]
        assert image.size["width"] > 300


@pytest.mark.parametrize("experiment", ["digits_cnn", "temperature_lstm"])
def test_the_table_of_runs_shows_metrics_settings_and_costs_at_once(
    made: Path, dashboard: str, browser: webdriver.Chrome, tmp_path: Path, experiment: str
) -> None:
    run_id = read_published(ProjectPaths(made), experiment)[0].run_id
    client = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}")
    run = client.get_run(run_id)
    name = client.get_experiment(run.info.experiment_id).name
    (address,) = re.findall(rf"^dashboard  {name}, the best first: (\S+)$", (made / "dashboard.log").read_text(), re.MULTILINE)
    assert address.startswith(f"{dashboard}/#/experiments/{run.info.experiment_id}/runs?")
    browser.set_window_size(1280, 900)
    selecting, on_test = f"best/{run.data.tags['monitor']}", run.data.tags["monitor"].replace("val/", "test/")
    see(browser, address, f"Sort: {selecting}", run.info.run_name)
    for close in browser.find_elements(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']"):
        close.click()  # a panel that opens by itself at the first visit
    WebDriverWait(browser, 45).until(lambda driver: {selecting, on_test} <= columns_in_sight(driver, 1280))
    shown = browser.find_element(By.CSS_SELECTOR, ".ag-center-cols-container").text.split()
    assert {str(run.data.metrics[selecting]), str(run.data.metrics[on_test])} <= set(shown)
    browser.save_screenshot(tmp_path / f"{experiment}.png")
    browser.execute_script("document.querySelector('.ag-body-horizontal-scroll-viewport').scrollLeft = 100000")
    cost = {"experiment", "model", "parameters", "train_seconds"}
    WebDriverWait(browser, 45).until(lambda driver: cost <= columns_in_sight(driver, 1280))
    assert run.data.tags["parameters"] in browser.find_element(By.CSS_SELECTOR, ".ag-center-cols-container").text.split()
    browser.save_screenshot(tmp_path / f"{experiment}_right.png")


def columns_in_sight(driver: webdriver.Chrome, width: int) -> set[str]:
    """The titles of the table's columns that lie wholly within the window."""
    cells = driver.find_elements(By.CSS_SELECTOR, ".ag-header-cell")
    return {cell.text for cell in cells if cell.rect["x"] >= 0 and cell.rect["x"] + cell.rect["width"] <= width}


def test_a_parent_shows_its_mean_its_command_and_its_children(made: Path, dashboard: str, browser: webdriver.Chrome) -> None:
    done = run_in(
        made, "reprise", "train", "experiment=digits_cnn", "trainer.max_epochs=1", "seeds=2", "tracking.log_model=false"
    )
    assert done.returncode == 0, done.stderr
    store_of_runs = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}")
    experiment = store_of_runs.get_experiment_by_name("digits")
    found = store_of_runs.search_runs([experiment.experiment_id])
    (parent,) = (run for run in found if run.data.tags.get("group") == "seeds")
    children = [run.info.run_name for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    browser.set_window_size(1280, 1000)
    mean = f"{parent.data.metrics['best/val/accuracy']:.4f} ± {parent.data.metrics['best_std/val/accuracy']:.4f}"
    command = "reprise train experiment=digits_cnn trainer.max_epochs=1 seeds=2"
    page = f"{dashboard}/#/experiments/{experiment.experiment_id}/runs/{parent.info.run_id}"
    see(browser, page, "Child runs", mean, command, *children)
    see(browser, f"{dashboard}/{experiment.tags['reprise.page']}", "Sort: best/val/accuracy", parent.info.run_name)


def test_a_sweep_shows_its_space_its_best_its_trials_and_its_figures(
    made: Path, dashboard: str, browser: webdriver.Chrome
) -> None:
    write(made, "shown", space={"optimizer.lr": {"kind": "choice", "values": [0.003, 0.001, 1e-9]}}, n_trials=3, **GRID)
    sweep(made, "sweep=shown", "workers=1", "trainer.max_epochs=2", *QUICK)
    store_of_runs = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}")
    experiment = store_of_runs.get_experiment_by_name("digits").experiment_id
    parent, *children = store_of_runs.search_runs([experiment], "tags.sweep = 'shown'", order_by=["attributes.start_time"])
    given_up = [child for child in children if "pruned" in child.data.tags]
    assert [child.info.run_name.split("-")[1] for child in children] == ["trial0", "trial1", "trial2"]
    assert given_up
    browser.set_window_size(1280, 1400)
    page = f"{dashboard}/#/experiments/{experiment}/runs/{parent.info.run_id}"
    counts = f"3 trials: {3 - len(given_up)} trained to their end, {len(given_up)} given up, 0 failed"
    names = [child.info.run_name for child in children]
    best = f"{parent.data.metrics['best/val/accuracy']:.4g}"
    see(browser, page, "Child runs", counts, f"val/accuracy {best}", "reprise train experiment=shown_tuned", *names)
    browser.find_element(By.XPATH, "//*[text()='Show more']").click()
    WebDriverWait(browser, 45).until(lambda driver: "0.003, 0.001, 1e-09" in driver.find_element(By.TAG_NAME, "body").text)
    for figure in ("history.png", "slice.png", "parallel.png"):
        see(browser, f"{page}/artifacts/sweep/{figure}", f"sweep/{figure}")
        image = WebDriverWait(browser, 45).until(lambda driver: shown_images(driver))[0]
        assert image.size["width"] > 300
    lost = given_up[-1]
    page = f"{dashboard}/#/experiments/{experiment}/runs/{lost.info.run_id}"
    see(browser, page, f"Given up {lost.data.tags['pruned']}", lost.data.tags["settings"])


def shown_images(driver: webdriver.Chrome) -> list[webdriver.remote.webelement.WebElement]:
    """The pictures of the page that are loaded and large: the figure, not the icons."""
    images = driver.find_elements(By.TAG_NAME, "img")
    return [image for image in images if driver.execute_script("return arguments[0].naturalWidth", image) > 300]
