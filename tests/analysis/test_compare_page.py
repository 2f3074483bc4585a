"""The comparison page in a real browser, opened from a file, without network access."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from selenium.webdriver.support.ui import Select

from tests.analysis.page import CHROMIUM, DRIVER, Page
from tests.analysis.trainings import write_run
from tests.pipeline.conftest import ROOT, make_project, run_in

SETTINGS = {"small": ("0.001", 0.90), "large": ("0.01", 0.95), "middle": ("0.003", 0.92)}
MALICIOUS_NAME = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """Three configs with three seeds each, a run with a malicious name, a failed run, and a run on another data set."""
    root = make_project(tmp_path_factory.mktemp("page") / "clone")
    (root / "mlruns").mkdir()
    shutil.copy(empty_store, root / "mlruns")
    generator = np.random.default_rng(0)
    for name, (lr, mean) in SETTINGS.items():
        for seed in range(3):
            history = mean - np.exp(-np.arange(6)) / 3 + generator.normal(0, 0.002, 6)
            run = write_run(root / "mlruns", seed, list(history), experiment=name, config={"optimizer.lr": lr})
            figures = root / "mlruns" / "runs" / run / "figures"
            figures.mkdir(parents=True)
            (figures / "confusion_matrix.png").write_bytes(PNG)
    write_run(root / "mlruns", 0, [0.5, 0.6], experiment=MALICIOUS_NAME, config={"model.dropout": MALICIOUS_NAME})
    write_run(root / "mlruns", 0, [0.5], experiment=MALICIOUS_NAME, status="FAILED")
    write_run(root / "mlruns", 0, [0.9], experiment="another", config={"data.name": "mnist"})
    return root


@pytest.fixture(scope="module")
def file(project: Path) -> Path:
    done = run_in(project, "reprise", "compare", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert "page.html is written, and kept as a run on the dashboard" in done.stdout
    return project / "page.html"


@pytest.fixture(scope="module")
def page(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(file, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def names(page: Page) -> list[str]:
    """Return the names of the visible rows, in order."""
    return [row.text for row in page.find_all("#groups tbody tr:not([hidden]) .name")]


def test_a_click_on_a_column_sorts_and_a_second_click_reverses_the_order(page: Page) -> None:
    page.show()
    assert names(page) == ["large", "middle", "small", MALICIOUS_NAME]
    header = {button.text: number for number, button in enumerate(page.find_all("#groups thead button"))}
    assert header["val/accuracy"]
    page.find_all("#groups thead button")[header["val/accuracy"]].click()
    assert names(page) == [MALICIOUS_NAME, "small", "middle", "large"]
    assert page.find_all("#groups th[aria-sort]")[0].get_attribute("aria-sort") == "ascending"
    page.find_all("#groups thead button")[header["val/accuracy"]].click()
    assert names(page) == ["large", "middle", "small", MALICIOUS_NAME]
    page.find_all("#groups thead button")[header["95 % interval"]].click()
    assert names(page)[-1] == MALICIOUS_NAME  # a single seed has no interval: last in either order


def test_the_text_box_filters_the_rows(page: Page) -> None:
    page.show()
    (box,) = page.find_all("#filter")
    box.send_keys("lr=0.003")
    assert names(page) == ["middle"]
    assert page.find_all("#count")[0].text == "1 of 4 configs"
    box.clear()
    box.send_keys("one seed")
    assert names(page) == [MALICIOUS_NAME]


def test_a_click_on_a_legend_entry_hides_its_line_and_its_band(page: Page) -> None:
    page.show()
    shown = "return document.getElementById('curves').data.map(trace => [trace.legendgroup, trace.visible ?? true])"
    assert page.execute(shown) == [["1", True], ["1", True], ["2", True], ["2", True], ["3", True], ["3", True], ["4", True]]
    page.find_all("#curves .legendtoggle")[0].click()
    page.wait_until(lambda: page.execute(shown)[:3] == [["1", "legendonly"], ["1", "legendonly"], ["2", True]])


def test_an_unchecked_row_is_removed_from_the_charts(page: Page) -> None:
    page.show()
    page.find_all("#groups tbody input")[1].click()
    assert "2" not in page.execute("return document.getElementById('curves').data.map(trace => trace.legendgroup)")
    assert [cell.text for cell in page.find_all("#config thead th")] == ["key", "1 large", "3 small", f"4 {MALICIOUS_NAME}"]


def test_two_figures_are_shown_side_by_side_and_can_be_selected(page: Page) -> None:
    page.show()
    images = page.find_all("#pictures img")
    assert [image.get_attribute("alt").split("-")[0] for image in images] == [
        "confusion_matrix.png of large",
        "confusion_matrix.png of middle",
    ]
    assert all(page.driver.execute_script("return arguments[0].naturalWidth", image) for image in images)
    Select(page.find_all("#right")[0]).select_by_index(2)
    assert "of small" in images[1].get_attribute("alt")


def test_each_data_set_has_its_own_table(page: Page) -> None:
    page.show()
    digits, mnist = page.find_all("#sets button")
    assert (digits.text, mnist.text, digits.get_attribute("aria-pressed")) == ("digits", "mnist", "true")
    mnist.click()
    assert names(page) == ["another"]


def test_a_malicious_run_name_is_not_executed(page: Page) -> None:
    page.show()
    assert page.execute("return window.broken") is None
    assert not page.find_all("#groups img, #curves img, #config img, #left-out img")
    assert MALICIOUS_NAME in names(page)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_makes_no_request_fits_the_width_and_logs_no_error(page: Page, width: int, scheme: str) -> None:
    page.requests(), page.console_messages()
    page.show(width, scheme)
    page.driver.execute_script("document.getElementById('against-parameters').scrollIntoView()")
    page.wait_until(lambda: page.find_all("#against-parameters .main-svg"))
    assert page.execute("return document.documentElement.scrollWidth") <= width
    ink, paper = (page.execute(f"return getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
    brightness = [sum(int(part) for part in colour.strip("rgb()").split(",")) for colour in (ink, paper)]
    assert (brightness[0] < brightness[1]) == (scheme == "light")
    page.find_all("#theme")[0].click()
    assert page.execute("return getComputedStyle(document.body).color") != ink
    page.find_all("#theme")[0].click()
    assert page.requests() == [page.file.resolve().as_uri()]
    assert page.console_messages() == []


def test_the_page_is_logged_as_a_run_that_is_excluded_from_comparisons(project: Path, file: Path) -> None:
    done = run_in(project, "reprise", "compare", "--html", "page.html")  # again: the same run
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    (kept,) = client.search_runs(every, "tags.`group` = 'comparison'")
    assert kept.info.status == "FINISHED"
    assert client.get_experiment(kept.info.experiment_id).name == "comparisons"
    assert [artifact.path for artifact in client.list_artifacts(kept.info.run_id, "comparison")] == ["comparison/compare.html"]
    result = json.loads(run_in(project, "reprise", "compare", "--json").stdout)
    assert [run["why"] for run in result["left_out"] if run["id"] == kept.info.run_id] == ["no training"]


def test_the_wheel_contains_the_files_of_the_page(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        assert {f"reprise/analysis/page/compare.{kind}" for kind in ("html", "css", "js")} <= set(opened.namelist())
