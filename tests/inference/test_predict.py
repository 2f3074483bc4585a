"""`predict` on images: true classes where known, mistakes first, training images reported separately."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reprise.data import store
from reprise.data.modalities.images.decoding import Decoded, Facts
from reprise.data.modalities.images.picture_files import Listed
from reprise.data.modalities.images.pictures import Picture
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.inference import known_pictures, predict, predict_view
from reprise.inference.answers import Answers
from tests.metas import image_meta

CLASSES = ["cat", "dog", "owl"]


def picture(name: str, label: str, value: int = 0) -> Picture:
    pixels = np.full((2, 2, 1), value, np.uint8)
    return Picture(Listed(Path(name), name, label), Decoded(pixels, Facts(2, 2, 1, False, False, 8, 0.0, 0)), "", "")


def build_answers(rows: list[tuple[str, str, list[float], str]]) -> Answers:
    """Return answers from name, true class, probabilities and split of each image."""
    names, truth, probabilities, splits = (list(column) for column in zip(*rows, strict=True))
    return Answers(CLASSES, names, truth, np.array(probabilities), splits)


def printed(answers: Answers) -> str:
    console = Console(record=True, width=160)
    predict_view.show(answers, Path("out"), console)
    return console.export_text()


def test_confident_mistakes_come_first_and_then_uncertain_predictions() -> None:
    result = build_answers(
        [
            ("sure.png", "cat", [0.9, 0.05, 0.05], "new"),
            ("wrong.png", "dog", [0.6, 0.3, 0.1], "new"),
            ("unsure.png", "owl", [0.3, 0.3, 0.4], "new"),
            ("very_wrong.png", "dog", [0.0, 0.0, 1.0], "new"),
            ("unknown.png", "", [0.5, 0.3, 0.2], "new"),
        ]
    )
    assert [result.names[row] for row in result.by_interest()] == [
        "very_wrong.png",
        "wrong.png",
        "unsure.png",
        "unknown.png",
        "sure.png",
    ]
    text = printed(result)
    assert text.index("very_wrong.png") < text.index("unsure.png") < text.index("sure.png  ")
    assert "new to the run: 5 of 5 pictures; 50.00 % of 4 right" in text


def test_the_class_rows_exclude_training_images() -> None:
    result = build_answers(
        [(f"{number}.png", "cat", [0.9, 0.1, 0.0], "train") for number in range(3)]
        + [
            ("a.png", "cat", [0.1, 0.9, 0.0], "test"),
            ("b.png", "dog", [0.1, 0.9, 0.0], "val"),
            ("c.png", "wolf", [0, 0, 1], "new"),
        ]
    )
    text = printed(result)
    lines = [line.split() for line in text.splitlines()]
    assert ["cat", "1", "0", "0.0", "%", "dog", "(1)"] in lines
    assert ["dog", "1", "1", "100.0", "%"] in lines
    assert ["owl", "0", "0"] in lines
    assert "The classes of the 3 pictures that the run was not trained on." in text
    assert "train (the run was trained on them): 3 of 6 pictures; 100.00 % of 3 right, which is no estimate for new" in text
    assert "test: 1 of 6 pictures; 0.00 % of 1 right\n" in text
    assert "1 pictures are labelled with classes that the run does not have." in text


def test_class_names_are_printed_literally(tmp_path: Path) -> None:
    names = ["[red]x[/red].png"]
    text = printed(Answers(["[bold]", "$\\frac$"], names, ["[bold]"], np.array([[0.2, 0.8]]), ["new"]))
    assert "[bold]" in text
    assert "$\\frac$" in text
    assert "[red]x[/red].png" in text


def test_the_true_class_is_the_nearest_parent_folder_with_the_name_of_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dog/cat/2023/a.png", "dog/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    result = {Path(one.name).name: one.label for one in predict._listed(tmp_path, tmp_path / "out", CLASSES, Console(quiet=True))}
    assert result == {"a.png": "cat", "b.png": "dog", "c.png": ""}
    monkeypatch.chdir(tmp_path / "dog")
    [alone] = predict._listed(Path("b.png"), tmp_path / "out", CLASSES, Console(quiet=True))
    assert alone.label == "dog"
    assert {one.label for one in predict._listed(Path(), tmp_path / "out", CLASSES, Console(quiet=True))} == {"cat", "dog"}
    inner = tmp_path / "dog" / "cat" / "2023"
    assert [one.label for one in predict._listed(inner, tmp_path / "out", CLASSES, Console(quiet=True))] == [""]


def publish_files(folder: Path, **files: Any) -> Path:
    with store.publish(folder) as draft:
        for name, content in files.items():
            target = draft / name.replace("__", "/")
            if isinstance(content, np.ndarray):
                store.write_array(target.with_suffix(".npy"), content)
            else:
                store.write_json(target.with_suffix(".json"), content)
    return folder


def test_images_of_the_training_are_recognised_by_their_pixels(tmp_path: Path) -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    arrays = publish_files(tmp_path / "arrays", train__images=images, train__labels=np.zeros(6, np.int64), meta={})
    sources = dict.fromkeys(["train", "val", "test"], "train")
    meta = image_meta(shape=[2, 2, 1], parts=sources, arrays=store.digest(arrays))
    parts = {name: np.array(rows) for name, rows in {"train": [0, 1], "val": [2], "test": [3, 4]}.items()}
    folder = publish_files(tmp_path / "windows", windows=meta.model_dump(), **parts)
    read = [picture(f"{value}.png", "", value) for value in range(7)]
    result = known_pictures.splits_of(Windows(folder, arrays, meta), read)
    assert result == ["train", "train", "val", "test", "test", "new", "new"]  # the sixth image is in no split
    console = Console(record=True, width=200)
    others = publish_files(tmp_path / "arrays", train__images=images, train__labels=np.ones(6, np.int64), meta={})
    opened: Any = SimpleNamespace(windows=Windows(folder, others, meta))
    assert predict._splits(opened, read, console) == [""] * 7
    assert "cannot tell which of these pictures the run was trained on: " in console.export_text()
    with pytest.raises(UserError):
        known_pictures.splits_of(Windows(folder, tmp_path / "gone", meta), read)
