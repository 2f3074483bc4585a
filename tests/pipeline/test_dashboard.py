"""The dashboard: MLflow's own pages in a real browser."""

import os
import re
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

from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.tracking import charts_view
from reprise.tracking.published_weights import read_published
from tests.analysis.page import CHROMIUM, DRIVER, FLAGS, wait_for
from tests.pipeline.conftest import run_in
from tests.pipeline.test_sweep import QUICK, sweep, write_sweep
from tests.tracking.server import is_healthy

GRID = {"sampler": {"kind": "grid"}, "pruner": {"kind": "median", "startup": 1, "warmup": 1}}

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def dashboard(pipeline_project: Path) -> Iterator[str]:
    """Start `reprise dashboard`, and yield its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (pipeline_project / "dashboard.log").open("w") as log:
        command = ["reprise", "dashboard", "--no-open", "--port", str(port)]
        process = subprocess.Popen(command, cwd=pipeline_project, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while not is_healthy(address):
        ended = process.poll() is not None or time.monotonic() > deadline
        assert not ended, (pipeline_project / "dashboard.log").read_text()
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


def open_page(driver: webdriver.Chrome, address: str, *words: str) -> str:
    """Open a page, wait until it contains all of these words, and return its text."""
    driver.get("about:blank")  # the addresses differ only after the #, which alone would not load the page again
    driver.get(address)

    def text(driver: webdriver.Chrome) -> str:
        return driver.find_element(By.TAG_NAME, "body").text

    try:
        wait_for(driver, lambda driver: all(word in text(driver) for word in words), 90)
    except TimeoutException:
        pytest.fail(f"{address} does not show {words}: {text(driver)[:2000]}")
    return text(driver)


def test_the_dashboard_shows_the_runs_their_metrics_and_a_figure(
    pipeline_project: Path, dashboard: str, browser: webdriver.Chrome
) -> None:
    for experiment, metric, figure in (
        ("digits_cnn", "accuracy", "confusion_matrix.png"),
        ("temperature_lstm", "mae", "forecast.png"),
    ):
        metrics = store.read_json(pipeline_project / "data" / "results" / experiment / "metrics.json")
        (run,) = read_published(ProjectPaths(pipeline_project), experiment)
        run_id, name = run.run_id, run.name
        experiment_id = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}").get_run(run_id).info.experiment_id
        runs = f"{dashboard}/#/experiments/{experiment_id}/runs"
        open_page(browser, runs, "Run Name", name, "The best run so far: reprise reproduce")
        page = open_page(browser, f"{runs}/{run_id}", f"val/{metric}", f"test/{metric}", f"reprise reproduce {name}")
        assert str(metrics["test"][metric]) in page
        open_page(browser, f"{runs}/{run_id}/artifacts/figures/{figure}", f"figures/{figure}")
        image = wait_for(browser, lambda driver: shown_images(driver))[0]
        assert image.size["width"] > 300


@pytest.mark.parametrize("experiment", ["digits_cnn", "temperature_lstm"])
def test_the_table_of_runs_shows_metrics_first_then_settings_and_costs(
    pipeline_project: Path, dashboard: str, browser: webdriver.Chrome, tmp_path: Path, experiment: str
) -> None:
    run_id = read_published(ProjectPaths(pipeline_project), experiment)[0].run_id
    client = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}")
    run = client.get_run(run_id)
    name = client.get_experiment(run.info.experiment_id).name
    (address,) = re.findall(
        rf"^dashboard  {name}, the best first: (\S+)$", (pipeline_project / "dashboard.log").read_text(), re.MULTILINE
    )
    assert address.startswith(f"{dashboard}/#/experiments/{run.info.experiment_id}/runs?")
    browser.set_window_size(1280, 900)
    selecting, on_test = f"best/{run.data.tags['monitor']}", run.data.tags["monitor"].replace("val/", "test/")
    open_page(browser, address, f"Sort: {selecting}", run.info.run_name)
    for close in browser.find_elements(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']"):
        close.click()  # a panel that opens by itself at the first visit
    wait_for(browser, lambda driver: {selecting, on_test} <= visible_columns(driver, 1280))
    values = {str(run.data.metrics[selecting]), str(run.data.metrics[on_test])}
    wait_for(browser, lambda driver: values <= visible_cells(driver))
    browser.save_screenshot(tmp_path / f"{experiment}.png")
    browser.execute_script("document.querySelector('.ag-body-horizontal-scroll-viewport').scrollLeft = 100000")
    cost = {"experiment", "model", "parameters", "train_seconds"}
    wait_for(browser, lambda driver: cost <= visible_columns(driver, 1280))
    wait_for(browser, lambda driver: run.data.tags["parameters"] in visible_cells(driver))
    browser.save_screenshot(tmp_path / f"{experiment}_right.png")


def visible_cells(driver: webdriver.Chrome) -> set[str]:
    """Return the words in the cells of the table."""
    return set(driver.find_element(By.CSS_SELECTOR, ".ag-center-cols-container").text.split())


def visible_columns(driver: webdriver.Chrome, width: int) -> set[str]:
    """Return the titles of the columns that are completely visible."""
    cells = driver.find_elements(By.CSS_SELECTOR, ".ag-header-cell")
    return {cell.text for cell in cells if cell.rect["x"] >= 0 and cell.rect["x"] + cell.rect["width"] <= width}


def test_a_parent_run_shows_its_mean_its_command_and_its_child_runs(
    pipeline_project: Path, dashboard: str, browser: webdriver.Chrome
) -> None:
    done = run_in(
        pipeline_project,
        "reprise",
        "train",
        "experiment=digits_cnn",
        "trainer.max_epochs=1",
        "seed=1",  # the guide's example takes the newest run of seed 0, and these log no model
        "seeds=2",
        "tracking.log_model=false",
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("group") == "seeds")
    children = [run.info.run_name for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    browser.set_window_size(1280, 1000)
    mean = f"{parent.data.metrics['best/val/accuracy']:.4f} ± {parent.data.metrics['best_std/val/accuracy']:.4f}"
    command = "reprise train experiment=digits_cnn trainer.max_epochs=1 seed=1 seeds=2"
    page = f"{dashboard}/#/experiments/{experiment.experiment_id}/runs/{parent.info.run_id}"
    open_page(browser, page, "Child runs", mean, command, *children)
    open_page(browser, f"{dashboard}/{experiment.tags['reprise.page']}", "Sort: best/val/accuracy", parent.info.run_name)
    charts = f"{dashboard}/{charts_view.address(experiment.experiment_id)}"
    browser.set_window_size(1280, 2700)  # MLflow draws the charts that are in the window
    open_page(browser, charts, "Group by: parent", "Results", "Learning curves", "Settings", "Parallel Coordinates", *children)


@pytest.mark.long
def test_a_sweep_shows_its_space_best_value_trials_and_figures(
    pipeline_project: Path, dashboard: str, browser: webdriver.Chrome
) -> None:
    write_sweep(
        pipeline_project, "shown", space={"optimizer.lr": {"kind": "choice", "values": [0.003, 0.001, 1e-9]}}, n_trials=3, **GRID
    )
    sweep(pipeline_project, "sweep=shown", "workers=1", "trainer.max_epochs=2", *QUICK)
    client = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits").experiment_id
    parent, *children = client.search_runs([experiment], "tags.sweep = 'shown'", order_by=["attributes.start_time"])
    pruned = [child for child in children if "pruned" in child.data.tags]
    assert [child.info.run_name.split("-")[1] for child in children] == ["trial0", "trial1", "trial2"]
    assert pruned
    browser.set_window_size(1280, 1400)
    page = f"{dashboard}/#/experiments/{experiment}/runs/{parent.info.run_id}"
    counts = f"3 trials: {3 - len(pruned)} trained to their end, {len(pruned)} pruned, 0 failed"
    names = [child.info.run_name for child in children]
    best = f"{parent.data.metrics['best/val/accuracy']:.4g}"
    open_page(browser, page, "Child runs", counts, f"val/accuracy {best}", "reprise train experiment=shown_tuned", *names)
    browser.find_element(By.XPATH, "//*[text()='Show more']").click()
    wait_for(browser, lambda driver: "0.003, 0.001, 1e-09" in driver.find_element(By.TAG_NAME, "body").text)
    for figure in ("history.png", "slice.png", "parallel.png"):
        open_page(browser, f"{page}/artifacts/sweep/{figure}", f"sweep/{figure}")
        image = wait_for(browser, lambda driver: shown_images(driver))[0]
        assert image.size["width"] > 300
    pruned_run = pruned[-1]
    page = f"{dashboard}/#/experiments/{experiment}/runs/{pruned_run.info.run_id}"
    open_page(browser, page, f"Pruned {pruned_run.data.tags['pruned']}", pruned_run.data.tags["settings"])


def shown_images(driver: webdriver.Chrome) -> list[webdriver.remote.webelement.WebElement]:
    """Return the loaded images wider than 300 pixels: figures, not icons."""
    images = driver.find_elements(By.TAG_NAME, "img")
    return [image for image in images if driver.execute_script("return arguments[0].naturalWidth", image) > 300]
