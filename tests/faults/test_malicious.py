"""Loading is safe: no file in place of weights, arrays, JSON files or images can execute code."""

import bz2
import contextlib
import gc
import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from reprise import config as configs
from reprise.config import Config
from reprise.data import store
from reprise.data.windows import open_windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import download, freshness, preprocess, window
from reprise.tracking.weights import load_weights
from tests.faults.exploit_payloads import ARRAYS, INVALID_ARRAYS, PAYLOADS, WEIGHTS, Maker, watched
from tests.pipeline.conftest import make_project

QUIET = Console(quiet=True)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that exists only if something was executed."""
    (tmp_path / "attacker").mkdir()
    return tmp_path / "attacker" / "canary"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # files written with a relative path end up here


def refusal(call: Callable[[], Any], canary: Path) -> str:
    """Assert that `call` is refused without executing anything. Return the one-line message."""
    with watched() as events, pytest.raises(UserError) as error:
        call()
    assert events == []
    assert not canary.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def load_unsafely(file: Path) -> None:
    """Try every common unsafe way of opening such files."""
    for load in (
        lambda: torch.load(file, weights_only=False),
        lambda: np.load(file, allow_pickle=True)["arr_0"],
        lambda: pickle.loads(file.read_bytes()),
        lambda: pickle.loads(gzip.decompress(file.read_bytes())),
        lambda: pickle.loads(bz2.decompress(file.read_bytes())),
        lambda: pickle.loads(zipfile.ZipFile(file).read("archive/constants.pkl")),
        lambda: eval(file.read_bytes().removeprefix(b"\x93NUMPY")[4:]),
    ):
        with contextlib.suppress(Exception):
            load()


@pytest.mark.filterwarnings("ignore")
def test_each_malicious_file_runs_code_if_it_is_loaded_unsafely(tmp_path: Path, canary: Path) -> None:
    """Otherwise the tests below could pass because the payloads do not work."""
    harmless = []
    for name, make in [*WEIGHTS.items(), *ARRAYS.items()]:
        canary.unlink(missing_ok=True)
        make(tmp_path / "unsafe.pt", canary)
        load_unsafely(tmp_path / "unsafe.pt")
        harmless += [] if canary.exists() else [name]
    gc.collect()  # close the files that this test left open, of which Python warns
    assert harmless == []
    assert len(WEIGHTS) > 60


@pytest.mark.parametrize("name", WEIGHTS)
def test_malicious_weights_are_refused_and_not_executed(name: str, tmp_path: Path, canary: Path) -> None:
    file = tmp_path / "best.safetensors"
    WEIGHTS[name](file, canary)
    file.with_suffix(".sha256").write_text(f"{store.sha256(file)}  {file.name}\n")
    message = refusal(lambda: load_weights(file), canary)
    assert message == f"{file} contains something other than weights, and was not loaded; train again"


def test_no_environment_variable_lets_malicious_weights_run(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    file = tmp_path / "best.safetensors"
    WEIGHTS["zip"](file, canary)
    file.with_suffix(".sha256").write_text(f"{store.sha256(file)}  {file.name}\n")
    assert "was not loaded" in refusal(lambda: load_weights(file), canary)
    assert not canary.exists()


# --- arrays and JSON files


@pytest.fixture(scope="module")
def prepared_project(tmp_path_factory: pytest.TempPathFactory) -> ProjectPaths:
    """The digits, preprocessed and split."""
    paths = ProjectPaths(make_project(tmp_path_factory.mktemp("made") / "clone"))
    config = digits(paths)
    for stage in (download, preprocess):
        stage.run(config.data, paths, QUIET)
    window.run(config, paths, QUIET)
    return paths


def digits(paths: ProjectPaths) -> Config:
    return configs.compose(paths.root, ["experiment=digits_cnn"])


@pytest.fixture
def paths(prepared_project: ProjectPaths, tmp_path: Path) -> ProjectPaths:
    """A copy of the data that an attacker can change."""
    shutil.copytree(prepared_project.root / "data", tmp_path / "clone" / "data")
    return ProjectPaths(tmp_path / "clone")


def sign(paths: ProjectPaths) -> None:
    """Update every hash, as an attacker would."""
    arrays, windows = paths.processed("digits"), paths.windows("digits_cnn")
    for folder in (arrays, windows):
        listed = json.loads((folder / store.MANIFEST).read_text())
        if folder == windows and b"\x80" not in (folder / "windows.json").read_bytes():
            metadata = json.loads((folder / "windows.json").read_text())
            store.write_json(folder / "windows.json", metadata | {"arrays": store.sha256(arrays / store.MANIFEST)})
        store.write_json(folder / store.MANIFEST, {name: store.sha256(folder / name) for name in listed})


def open_everything(paths: ProjectPaths) -> None:
    opened = open_windows(paths.windows("digits_cnn"), paths.processed("digits"))
    opened.learning()
    opened.test()


def replace_file(paths: ProjectPaths, where: str, make: Maker, canary: Path) -> Path:
    file = paths.root / "data" / where
    file.unlink()
    make(file, canary)
    sign(paths)
    return file


@pytest.mark.parametrize("where", ["windows/digits_cnn/train.npy", "processed/digits/train/labels.npy"])
@pytest.mark.parametrize("name", ARRAYS)
def test_malicious_arrays_are_refused_and_not_executed(name: str, where: str, paths: ProjectPaths, canary: Path) -> None:
    file = replace_file(paths, where, ARRAYS[name], canary)
    message = f"{file} contains something other than an array of numbers, and was not loaded"
    assert refusal(lambda: open_everything(paths), canary).startswith(message)
    assert refusal(lambda: store.open_array(file), canary).startswith(message)


@pytest.mark.parametrize("name", INVALID_ARRAYS)
def test_an_invalid_array_file_is_refused(name: str, paths: ProjectPaths, canary: Path) -> None:
    file = replace_file(
        paths, "windows/digits_cnn/val.npy", lambda file, _: file.write_bytes(INVALID_ARRAYS[name]) and None, canary
    )  # type: ignore[func-returns-value]
    assert str(file) in refusal(lambda: open_everything(paths), canary)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_window_refuses_malicious_arrays(name: str, prepared_project: ProjectPaths, paths: ProjectPaths, canary: Path) -> None:
    file = replace_file(paths, f"processed/digits/train/{name}.npy", ARRAYS["os.system, as objects"], canary)
    assert str(file) in refusal(lambda: window.run(digits(prepared_project), paths, QUIET), canary)


@pytest.mark.parametrize(
    "where", ["windows/digits_cnn/windows.json", "windows/digits_cnn/audit.json", "windows/digits_cnn/manifest.json",
              "processed/digits/manifest.json", "processed/digits/meta.json"]
)  # fmt: skip
def test_a_pickle_in_place_of_a_json_file_is_not_executed(
    where: str, prepared_project: ProjectPaths, paths: ProjectPaths, canary: Path
) -> None:
    file = paths.root / "data" / where
    file.write_bytes(pickle.dumps(PAYLOADS["os.system"](canary)))
    if file.name == "windows.json":
        sign(paths)

    def open_as_training_does() -> None:
        freshness.demand(digits(prepared_project).data, paths)
        window.are_for(paths.windows("digits_cnn"), digits(prepared_project), paths.processed("digits"))
        open_everything(paths)

    assert str(file) in refusal(open_as_training_does, canary)


@pytest.mark.parametrize("listed", [[], "x", {"../../../etc/passwd": "0" * 64}, {"train.npy": 1}, None])
def test_a_manifest_with_invalid_content_is_refused(listed: object, paths: ProjectPaths, canary: Path) -> None:
    file = paths.windows("digits_cnn") / store.MANIFEST
    file.write_text(json.dumps(listed))
    assert str(file.parent) in refusal(lambda: open_everything(paths), canary)


def test_windows_cannot_refer_to_files_outside_their_arrays(paths: ProjectPaths, canary: Path) -> None:
    elsewhere = paths.root / "data" / "elsewhere"
    shutil.copytree(paths.processed("digits") / "train", elsewhere)
    file = paths.windows("digits_cnn") / "windows.json"
    metadata = json.loads(file.read_text())
    store.write_json(file, metadata | {"parts": dict.fromkeys(metadata["parts"], "../../elsewhere")})
    sign(paths)
    assert "elsewhere/images.npy is in no manifest" in refusal(lambda: open_everything(paths), canary)


def test_deeply_nested_json_is_refused(paths: ProjectPaths, canary: Path) -> None:
    file = paths.windows("digits_cnn") / "windows.json"
    file.write_text("[" * 200_000 + "]" * 200_000)
    listed = json.loads((file.parent / store.MANIFEST).read_text())
    store.write_json(file.parent / store.MANIFEST, listed | {file.name: store.sha256(file)})
    assert f"{file} is damaged" in refusal(lambda: open_everything(paths), canary)


# --- images


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch CANARY) (w) file closefile showpage\n"


@pytest.mark.parametrize("content", [POSTSCRIPT, b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"GIF89a", b"<svg onload='x'/>", b"P6 1 1 9"])
def test_other_formats_with_the_suffix_of_an_image_are_not_opened(
    content: bytes, prepared_project: ProjectPaths, tmp_path: Path, canary: Path
) -> None:
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        attack = content.replace(b"CANARY", os.fsencode(canary)) + name.encode()
        (tmp_path / "pictures" / name / "picture.png").write_bytes(attack)
    data = configs.compose_dataset(prepared_project.root, "image_folder", [f"data.path={tmp_path}/pictures"])
    assert "2 of 2 pictures are broken" in refusal(lambda: preprocess.run(data, ProjectPaths(tmp_path), QUIET), canary)
