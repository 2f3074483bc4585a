"""Pictures are cut into tiles that cover them, and all tiles of a picture stay in one split."""

import io
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from reprise.config.modalities.images import FolderData, ImageWindow
from reprise.data import store
from reprise.data.loader import EvalLoader
from reprise.data.modalities.images import arrays as image_arrays
from reprise.data.modalities.images import decoding, tensors
from reprise.data.modalities.images.decoding import Decoding, cut, decode, tile_starts
from reprise.data.windows import Windows
from reprise.figures.tiles import heat_maps
from reprise.inference.tiles import TileAnswers
from reprise.tasks.classification import Classification
from reprise.tracking import reprise_tables
from tests.metas import image_meta

SIDES = st.integers(1, 60)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, st.integers(2, 40), st.floats(0, 0.9))
def test_tiles_cover_every_pixel_overlap_as_asked_and_stay_inside(height: int, width: int, tile: int, overlap: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8)
    tiles = cut(picture, tile, tile, overlap)
    padded = max(height, tile), max(width, tile)
    assert tiles.shape == padded
    covered = np.zeros(padded, int)
    for (row, column), pixels in zip(tiles.corners, tiles.pixels, strict=True):
        assert 0 <= row <= padded[0] - tile
        assert 0 <= column <= padded[1] - tile
        assert pixels.shape == (tile, tile, 1)
        covered[row : row + tile, column : column + tile] += 1
    assert covered.min() >= 1
    whole = tiles.picture()
    inside = whole[(padded[0] - height) // 2 :, (padded[1] - width) // 2 :][:height, :width]
    assert np.array_equal(inside, picture)
    assert whole.sum() == picture.sum()  # black elsewhere
    for length in padded:
        starts = np.array(tile_starts(length, tile, overlap))
        shared = tile - np.diff(starts)
        assert (shared >= min(overlap * tile, tile - 1)).all()
        assert np.ptp(np.diff(starts)) <= 1 if len(starts) > 1 else length == tile


def test_too_many_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="10,000 tiles of 4 x 4, more than 4,096: use larger tiles"):
        cut(np.zeros((400, 400, 1), np.uint8), 4, 4, 0)


def test_a_decoded_picture_has_its_tiles_and_the_whole_reduced() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    decoded = decode(buffer.getvalue(), Decoding((8, 8, 3), "tiles", overlap=0.5))
    assert decoded.tiles is not None
    assert np.array_equal(decoded.tiles.picture(), pixels)
    rows, columns = tile_starts(20, 8, 0.5), tile_starts(30, 8, 0.5)
    assert rows == [0, 4, 8, 12]
    assert decoded.tiles.corners.tolist() == [[row, column] for row in rows for column in columns]
    assert decoded.pixels.shape == (8, 8, 3)
    assert np.array_equal(decoded.pixels, decode(buffer.getvalue(), Decoding((8, 8, 3), "pad")).pixels)


def test_the_heat_at_a_pixel_is_the_mean_of_the_tiles_that_cover_it() -> None:
    tiles = cut(np.zeros((4, 10, 1), np.uint8), 4, 4, 0.25)
    assert tiles.corners.tolist() == [[0, 0], [0, 3], [0, 6]]
    answers = TileAnswers(tiles, np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]))
    assert answers.mean == pytest.approx([0.5, 0.5])
    heat = answers.heat(0)
    assert heat[2].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.3, 0.5, 0.5, 0.7, 0.9, 0.9, 0.9])
    assert np.array_equal(answers.strongest(1)[0], tiles.pixels[0])
    figure = heat_maps(answers.heat_maps(["a", "$b"], 2), "title")
    assert [axis.get_title() for axis in figure.axes[:3]] == ["3 tiles", "a, 50.0 %", "$b, 50.0 %"]


def settings_of(path: Path, **changes: object) -> FolderData:
    texts = dict.fromkeys(("title", "homepage", "citation", "licence"), "")
    base = {"name": "own", "kind": "images", "reader": "image_folder", "path": str(path), "shape": [8, 8, 1], "resize": "tiles"}
    rest = {"broken": "refuse", "duplicates": "refuse", "known_duplicates": 0, "limit": None}
    return FolderData.model_validate(texts | base | rest | changes)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    """Twenty-four pictures of 8 to 20 pixels a side, of two classes."""
    folder, rng = tmp_path_factory.mktemp("tiles"), np.random.default_rng(2)
    for number in range(24):
        file = folder / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, rng.integers(8, 21, 2), np.uint8)).save(file)
    data = settings_of(folder / "pictures")
    read = image_arrays.read(data, folder, Console(quiet=True))
    with store.publish(folder / "arrays") as draft:
        for name, array in read.arrays.items():
            store.write_array(draft / f"{name}.npy", array)
        store.write_json(draft / "meta.json", {**image_arrays.describe(data), **read.meta})
    split = image_arrays.split(ImageWindow(kind="images", val_size=6, test_size=6, seed=0, limit=None), folder / "arrays")
    assert all(check["passed"] for check in split.checks.values())
    with store.publish(folder / "windows") as draft:
        for name, indices in split.indices.items():
            store.write_array(draft / f"{name}.npy", indices)
        store.write_json(draft / "windows.json", split.meta.model_dump())
    return Windows(folder / "windows", folder / "arrays", split.meta)


def test_all_tiles_of_a_picture_are_in_one_split(windows: Windows) -> None:
    first, tiles = windows.array("train/first_tiles"), windows.array("train/tiles")
    picture_of = np.repeat(np.arange(24), np.diff(first))
    assert len(picture_of) == len(tiles) == first[-1]
    train, val = windows.learning()
    test = windows.test()
    assert isinstance(train, tensors.Images)
    of_train = set(picture_of[train.samples].tolist())
    assert len(train) == sum(np.diff(first)[list(of_train)])  # every tile of each of its pictures
    assert (len(val), len(test)) == (6, 6)
    others = set(windows.indices("val").tolist()) | set(windows.indices("test").tolist())
    assert of_train.isdisjoint(others)
    assert len(of_train) + len(others) == 24
    labels = windows.array("train/labels")
    assert train.gather(torch.arange(len(train))).targets.tolist() == labels[picture_of[train.samples]].tolist()


def test_statistics_are_those_of_the_tiles_of_train(windows: Windows) -> None:
    train, _ = windows.learning()
    assert isinstance(train, tensors.Images)
    pixels = train.pixels[train.samples].double()
    assert windows.meta.statistics["mean"] == pytest.approx([pixels.mean().item()])
    assert windows.meta.statistics["std"] == pytest.approx([pixels.std(correction=0).item()])
    again, _ = image_arrays.statistics(windows.meta, windows.indices("train"), windows.arrays)
    assert again["mean"] == pytest.approx(windows.meta.statistics["mean"])


def test_a_batch_of_pictures_holds_all_their_tiles_and_a_label_each(windows: Windows) -> None:
    val, first, tiles = windows.val(), windows.array("train/first_tiles"), windows.array("train/tiles")
    pictures = windows.indices("val")
    batches = list(EvalLoader(val, 12, torch.device("cpu")))
    assert torch.cat([batch.targets for batch in batches]).tolist() == windows.array("train/labels")[pictures].tolist()
    counts = torch.cat([batch.tiles for batch in batches if batch.tiles is not None]).tolist()
    assert counts == np.diff(first)[pictures].tolist()
    assert all(len(batch.inputs) <= 12 or len(batch.targets) == 1 for batch in batches)
    expected = np.concatenate([tiles[first[one] : first[one + 1]] for one in pictures])
    mean, std = (windows.meta.statistics[name][0] for name in ("mean", "std"))
    np.testing.assert_allclose(torch.cat([batch.inputs for batch in batches]), (expected - mean) / std, rtol=1e-4, atol=1e-5)


def test_the_answer_of_a_picture_is_the_mean_probability_over_its_tiles() -> None:
    logits, task = torch.randn(9, 3) * 5, Classification(image_meta())
    combined = task.combine(logits, torch.tensor([4, 1, 4])).softmax(-1)
    probabilities = logits.double().softmax(-1)
    torch.testing.assert_close(combined, torch.stack([part.mean(0) for part in probabilities.split([4, 1, 4])]))
    assert task.combine(torch.tensor([[0.0, -1e4, 0.0]]), torch.tensor([1])).isfinite().all()  # a loss that is not infinite


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resize=tiles: shape is the size of a tile"):
        settings_of(tmp_path, shape=None)
    with pytest.raises(ValueError, match=r"overlap=0.5: tiles overlap; set data\.resize=tiles"):
        settings_of(tmp_path, resize="pad", overlap=0.5)
    assert "overlap" not in image_arrays.describe(settings_of(tmp_path))


def test_logged_models_and_the_server_cut_pictures_as_predict_does(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    picture = np.random.default_rng(3).integers(0, 256, (20, 30, 1), np.uint8)
    Image.fromarray(picture[..., 0]).save(buffer, "png")
    how = Decoding((8, 8, 1), "tiles", overlap=0.5)
    expected = cut(picture, 8, 8, 0.5).pixels
    monkeypatch.setitem(sys.modules, "reprise_decoding", decoding)
    reading = {"kind": "images", "decoding": asdict(how)}
    inputs, counts = reprise_tables.samples([buffer.getvalue()] * 2, reading, {})
    assert np.array_equal(inputs["pixels"], np.concatenate([expected] * 2))
    assert counts == [len(expected)] * 2
    answers = np.random.default_rng(4).random((2 * len(expected), 2))
    rows = reprise_tables.classified(answers, counts, ["a", "b"])
    np.testing.assert_allclose(rows["p_a"], answers[:, 0].reshape(2, -1).mean(1))
    np.testing.assert_allclose(decoding.mean_of_inputs(answers, counts)[:, 0], rows["p_a"])
