"""The page in a real browser: a dropped file gets its answer, a wrong one its message, and nothing is loaded from elsewhere."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.analysis.page import CHROMIUM, DRIVER, FLAGS, wait_for
from tests.pipeline.conftest import pipeline_project
from tests.serving.running import serving

__all__ = ["pipeline_project"]
pytestmark = [pytest.mark.long, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver")]


def test_the_bars_of_a_dropped_picture_are_as_long_as_its_probabilities(pipeline_project: Path, tmp_path: Path) -> None:
    pixels = np.load(pipeline_project / "data" / "processed" / "digits" / "train" / "images.npy")[0, :, :, 0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    (tmp_path / "zero.png").write_bytes(stream.getvalue())
    (tmp_path / "text.txt").write_text("no picture at all")
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), "window-size=500,1000", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    with serving(pipeline_project, "digits_cnn") as server, webdriver.Chrome(options=options, service=Service(DRIVER)) as browser:
        (row,) = server.predict(stream.getvalue(), "image/png")
        browser.get(f"http://127.0.0.1:{server.port}/")
        wait_for(browser, lambda page: "10 classes" in page.find_element(By.ID, "about").text)
        browser.find_element(By.ID, "file").send_keys(f"{tmp_path / 'zero.png'}\n{tmp_path / 'text.txt'}")
        wait_for(browser, lambda page: page.find_elements(By.CLASS_NAME, "error"))
        assert browser.find_element(By.CLASS_NAME, "error").text == "text.txt: no picture"
        assert browser.find_element(By.CSS_SELECTOR, ".card .title").text == row["class"]
        shares = [
            inner.size["width"] / outer.size["width"]
            for outer in browser.find_elements(By.CSS_SELECTOR, ".bar i")
            for inner in outer.find_elements(By.TAG_NAME, "b")
        ]
        assert shares == pytest.approx(sorted(row["probabilities"].values(), reverse=True), abs=0.01)
        width = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0
