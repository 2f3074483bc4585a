"""A user's images become arrays; unreadable and duplicate files are named."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from rich.console import Console

from reprise.config import compose_dataset
from reprise.config.modalities.images import FolderData
from reprise.data import store
from reprise.data.modalities.images import decoding
from reprise.data.modalities.images.decoding import Decoding
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, preprocess

Pixels = npt.NDArray[np.uint8]
KINDS = {".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}


def encoded(pixels: npt.NDArray[np.generic], kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, height: int = 8, width: int = 8) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def decode(content: bytes, shape: Sequence[int], resize: str, **options: Any) -> Pixels:
    return decoding.decode(content, Decoding(tuple(shape), resize, **options)).pixels


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def folder_of(tmp_path: Path, **more: bytes) -> Path:
    """Write two classes with three images each."""
    files = {
        f"{kind}/{number}.png": encoded(picture(10 * number + len(kind))) for kind in ("cat", "horse") for number in range(3)
    }
    return write(tmp_path / "pictures", files | {name.replace("__", "/"): content for name, content in more.items()})


def data(path: Path, **options: object) -> FolderData:
    dataset = compose_dataset(Path(__file__).resolve().parents[2], "image_folder", [f"data.path={path}"])
    assert isinstance(dataset, FolderData)
    return dataset.model_copy(update={"shape": [8, 8, 1], **options})


def error_message(project: ProjectPaths, console: Console, dataset: FolderData) -> str:
    with pytest.raises(UserError) as refused:
        preprocess.run(dataset, project, console)
    assert not project.processed(dataset.name).exists()
    return str(refused.value)


# --- one image


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))),
    st.sampled_from(["PNG", "BMP"]),
)
def test_an_image_of_the_right_size_keeps_every_pixel(pixels: Pixels, kind: str) -> None:
    content = encoded(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, kind)
    for resize in ("stretch", "crop", "pad"):
        np.testing.assert_array_equal(decode(content, pixels.shape, resize), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_image_is_decoded_approximately(kind: str) -> None:
    smooth = np.add.outer(np.arange(16) * 4, np.arange(16) * 8).astype(np.uint8)
    result = decode(encoded(smooth, kind, quality=95), [16, 16, 1], "stretch")
    assert np.abs(result[..., 0].astype(int) - smooth).max() < 12


def test_an_image_is_resized_as_configured() -> None:
    wide = np.zeros((10, 20), np.uint8)
    wide[:, :5], wide[:, 5:15], wide[:, 15:] = 40, 200, 80
    stretched, cropped, padded = (decode(encoded(wide), [10, 10, 1], how)[..., 0] for how in ("stretch", "crop", "pad"))
    assert abs(int(stretched[5, 0]) - 40) < 12
    assert abs(int(stretched[5, 5]) - 200) < 12
    assert (cropped == 200).all()
    assert (padded[:2] == 0).all()
    assert (padded[8:] == 0).all()
    assert abs(int(padded[5, 5]) - 200) < 12


def test_images_are_converted_between_grey_and_colour() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert (decode(encoded(red), [4, 4, 1], "pad") == 76).all()  # ITU-R 601-2: 0.299 of 255
    grey = picture(1, 4, 4)
    np.testing.assert_array_equal(decode(encoded(grey), [4, 4, 3], "pad"), np.repeat(grey[..., None], 3, -1))


def test_16_bits_per_pixel_become_8() -> None:
    deep = np.array([[0, 256], [65_535, 32_768]], np.uint16)
    assert decode(encoded(deep), [2, 2, 1], "pad")[..., 0].tolist() == [[0, 1], [255, 128]]


def test_the_exif_rotation_is_applied() -> None:
    upright = picture(2, 6, 4)
    lying = Image.fromarray(np.rot90(upright))
    note = Image.Exif()
    note[0x0112] = 6  # turn by 90 degrees clockwise
    buffer = io.BytesIO()
    lying.save(buffer, "PNG", exif=note)
    np.testing.assert_array_equal(decode(buffer.getvalue(), [6, 4, 1], "pad")[..., 0], upright)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    encoded_image = encoded(picture(3, 32, 32), kind)
    for length in (1, 7, len(encoded_image) // 3, len(encoded_image) // 2, len(encoded_image) * 9 // 10):
        with pytest.raises(ValueError, match=r"damaged|no picture"):
            decode(encoded_image[:length], [32, 32, 1], "pad")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"empty|no picture|damaged"):
        decode(content, [8, 8, 1], "pad")


def camera_exif() -> bytes:
    """Return EXIF data as a camera writes it."""
    note = Image.Exif()
    note[0x0112], note[0x010F] = 6, "a camera"
    return note.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_exif_data_is_handled(kind: str) -> None:
    """For these, the EXIF reader of Pillow raises various errors."""
    for length in range(6, len(camera_exif())):
        content = encoded(picture(4, 6, 4), kind, exif=camera_exif()[:length])
        try:
            assert decode(content, [6, 4, 1], "pad").shape == (6, 4, 1)
        except ValueError as error:
            assert "damaged" in str(error)  # noqa: PT017 -- both outcomes are accepted


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_damaged_image_is_decoded_or_refused(kind: str) -> None:
    encoded_image, rng = (
        encoded(picture(5, 16, 16), kind, **({} if kind == "BMP" else {"exif": camera_exif()})),
        np.random.default_rng(0),
    )
    for _ in range(300):
        damaged = bytearray(encoded_image)
        for position in rng.integers(0, len(encoded_image), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        try:
            assert decode(bytes(damaged), [8, 8, 1], "stretch").shape == (8, 8, 1)
        except ValueError as error:
            assert str(error).startswith(("damaged", "no picture", "Image size"))  # noqa: PT017 -- as above


# --- image folders


def test_an_image_folder_becomes_the_arrays_of_the_contract(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(
        tmp_path, **{"notes.txt": b"not a class", "cat__.hidden.png": b"", "cat__Thumbs.db": b"x", ".git__0.png": b""}
    )
    preprocess.run(data(path, name="pets"), project, console)
    folder = project.processed("pets")
    store.verify(folder, "")
    meta = store.read_json(folder / "meta.json")
    assert meta["classes"] == ["cat", "horse"]
    images, labels = (store.open_array(folder / "train" / f"{name}.npy") for name in ("images", "labels"))
    assert (images.dtype, images.shape, labels.tolist()) == (np.uint8, (6, 8, 8, 1), [0, 0, 0, 1, 1, 1])
    names = list(store.read_json(folder / "files.json")["train"])
    assert names == [f"{kind}/{number}.png" for kind in ("cat", "horse") for number in range(3)]
    for name, image in zip(names, images, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(path / name)))


def test_folders_train_and_test_are_a_published_split(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    half = folder_of(tmp_path)
    both = tmp_path / "both"
    for part in ("train", "test"):
        (both / part).mkdir(parents=True)
    (half / "cat").rename(both / "train" / "cat")
    (half / "horse").rename(both / "train" / "horse")
    write(both / "test", {"cat/9.png": encoded(picture(90)), "horse/9.png": encoded(picture(91))})
    preprocess.run(data(both, name="pets"), project, console)
    assert store.open_array(project.processed("pets") / "test" / "labels.npy").tolist() == [0, 1]
    write(both / "test", {"bird/9.png": encoded(picture(92))})
    dataset = data(both, name="others")
    assert error_message(project, console, dataset) == f"{both}: test has the class bird, which train has not"


def test_a_csv_table_gives_files_and_labels(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.png": encoded(picture(number)) for number in range(3)})
    table = tmp_path / "labels.csv"
    table.write_text('file,label\n2.png,b\n0.png,"a, too"\n1.png,b\n')
    preprocess.run(data(table, name="pets"), project, console)
    folder = project.processed("pets")
    assert store.read_json(folder / "meta.json")["classes"] == ["a, too", "b"]
    assert list(store.read_json(folder / "files.json")["train"]) == ["0.png", "1.png", "2.png"]
    for content, message in (
        ("name,label\n", f"{table} has no column 'file'; its first line should be file,label"),
        ("file,label\n0.png,\n", f"{table}, row 2: no label"),
        ("file,label\n0.png,a\n", f"{table} names 1 classes; there must be at least 2"),
        ("file,label\n0.png,a\n1.png,b\n0.png,a\n", f"{table}, row 4: 0.png is listed twice"),
    ):
        table.write_text(content)
        assert error_message(project, console, data(table, name="others")) == message


def test_broken_and_empty_files_are_each_named_and_refused_or_left_out(project: ProjectPaths, tmp_path: Path) -> None:
    content = encoded(picture(5, 30, 30))
    broken = {f"cat__broken{number:02}.png": content[: 80 + number] for number in range(20)}
    path = folder_of(tmp_path, **broken, **{"horse__empty.png": b"", "horse__fine.png": content})
    console = Console(record=True, width=60)
    dataset = data(path, name="pets")
    message = error_message(project, console, dataset)
    assert message.startswith("21 of 28 pictures are broken: cat/broken00.png, ")
    assert message.endswith("; repair them, or set data.broken=leave_out")
    assert "\n" not in message
    printed = console.export_text()
    for name in broken:
        assert f"broken: {name.replace('__', '/')}: damaged" in printed
    assert "broken: horse/empty.png: empty" in printed
    preprocess.run(dataset.model_copy(update={"broken": "leave_out"}), project, console)
    assert list(store.read_json(project.processed("pets") / "files.json")["train"]) == [
        *(f"cat/{number}.png" for number in range(3)),
        *(f"horse/{number}.png" for number in range(3)),
        "horse/fine.png",
    ]


def test_a_class_without_readable_images_is_refused(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path, **{"bird__0.png": b"x"})
    message = error_message(project, console, data(path, broken="leave_out"))
    assert message == f"{path}: no picture of the class bird is left"
    both = write(tmp_path / "both", {f"test/{kind}/0.png": b"x" for kind in ("cat", "horse")})
    (path / "bird" / "0.png").write_bytes(encoded(picture(33)))
    path.rename(both / "train")
    assert error_message(project, console, data(both, broken="leave_out")) == f"{both}: no picture of test is left"


def test_duplicate_files_are_named_and_omitted_except_the_first(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    same, torn = encoded(picture(55)), encoded(picture(66))
    path = folder_of(tmp_path)
    write(path, {"cat/a.png": same, "cat/b.png": same, "cat/c.png": torn, "horse/c.png": torn})
    dataset = data(path, name="pets")
    assert error_message(project, console, dataset).startswith(
        "3 of 10 pictures are duplicate: cat/b.png, cat/c.png, horse/c.png; "
    )
    preprocess.run(dataset.model_copy(update={"duplicates": "leave_out"}), project, console)
    names = set(store.read_json(project.processed("pets") / "files.json")["train"])
    assert "cat/a.png" in names
    assert not names & {"cat/b.png", "cat/c.png", "horse/c.png"}
    preprocess.run(dataset.model_copy(update={"duplicates": "keep"}), project, console)
    assert len(store.open_array(project.processed("pets") / "train" / "labels.npy")) == 10


def test_an_invalid_image_folder_is_refused(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    (path / "bird").mkdir()
    assert error_message(project, console, data(path)).startswith(
        f"{path / 'bird'}: no picture in it; a class needs some of .bmp, "
    )
    missing = data(tmp_path / "nowhere")
    assert error_message(project, console, missing) == f"data.path={tmp_path / 'nowhere'}: no such folder or file"
    assert error_message(project, console, data(path / "cat")).startswith(
        f"{path / 'cat'}: 0 class folders; put the pictures of each"
    )


def test_added_removed_and_changed_images_are_detected(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    dataset = data(path, name="pets")
    preprocess.run(dataset, project, console)
    freshness.demand(dataset, project)
    for change in (
        lambda: write(path, {"cat/new.png": encoded(picture(77))}),
        lambda: (path / "cat" / "0.png").unlink(),
        lambda: write(path, {"cat/1.png": encoded(picture(78, 9, 9))}),
    ):
        change()
        with pytest.raises(UserError, match=r"holds other pictures than .* does now; use another data.name, or run `reprise"):
            freshness.demand(dataset, project)
        preprocess.run(dataset, project, console)
    with pytest.raises(UserError, match=r"was made with other settings than data=pets describes; use another data.name"):
        freshness.demand(dataset.model_copy(update={"resize": "crop"}), project)
