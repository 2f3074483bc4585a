"""An image folder: every file is read or counted as left out, and what had to be assumed or changed is printed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from reprise.config.modalities.images import FolderData
from reprise.data import store
from reprise.data.modalities.images import picture_files, pictures
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import download, preprocess
from tests.data.test_pictures import data, encoded, error_message, folder_of, picture, write


def read(dataset: FolderData, project: ProjectPaths) -> tuple[dict[str, object], str]:
    """Return the content of meta.json, and what was printed."""
    console = Console(record=True, width=200)
    preprocess.run(dataset, project, console)
    return store.read_json(project.processed(dataset.name) / "meta.json"), console.export_text()


def test_every_format_is_read_with_any_suffix(project: ProjectPaths, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    for number, (name, kind) in enumerate(
        [("a.tif", "TIFF"), ("b.TIFF", "TIFF"), ("c.gif", "GIF"), ("d.jfif", "JPEG"), ("e", "PNG"), ("f", "WEBP"), ("g", "JPEG")]
    ):
        write(path, {f"cat/{name}": encoded(picture(500 + number), kind)})
    meta, printed = read(data(path), project)
    assert meta["counts"] == {"train": {"cat": 10, "horse": 3}}
    assert meta["left_out"] == {}
    assert "left out" not in printed


def test_omitted_files_are_named_and_counted(project: ProjectPaths, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    write(path, {".net/0.png": encoded(picture(600)), ".net/1.png": encoded(picture(601)), "cat/.hidden.png": b""})
    write(path, {"cat/photo.heic": b"x", "cat/deep/notes.txt": b"x", "README": b"about", "0.png": encoded(picture(602))})
    (path / "cat" / "gone.png").symlink_to("nowhere")
    os.mkfifo(path / "horse" / "pipe.png")
    meta, printed = read(data(path), project)
    assert meta["counts"] == {"train": {"cat": 3, "horse": 3}}
    assert meta["left_out"] == {
        "a link to nothing": 1,
        "outside the class folders": 1,
        "hidden": 3,
        "no picture format that is read": 3,
        "no regular file": 1,
    }
    assert "left out, hidden (3): .net, cat/.hidden.png\n" in printed
    assert store.read_json(project.processed("image_folder") / "left_out.json") == {
        ".net": "hidden",
        "0.png": "outside the class folders",
        "README": "no picture format that is read",
        "cat/.hidden.png": "hidden",
        "cat/deep/notes.txt": "no picture format that is read",
        "cat/gone.png": "a link to nothing",
        "cat/photo.heic": "no picture format that is read",
        "horse/pipe.png": "no regular file",
    }


def test_every_file_below_a_folder_is_listed_or_left_out(tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(60):
        parts = [
            str(rng.choice(["cat", "horse"])),
            *(str(rng.choice(["a", ".b", "c.png"])) for _ in range(rng.integers(3))),
        ]
        suffix = str(rng.choice([".png", ".TIF", "", ".txt", ".gif"]))
        write(path, {"/".join([*parts, f"{number}{suffix}"]): encoded(picture(number)) if number % 2 else b""})
    listing = picture_files.listing(path)
    everything = sum(len(files) for _, _, files in os.walk(path))
    assert len(listing.pictures) + sum(one.files for one in listing.left_out) == everything
    assert not {one.name for one in listing.pictures} & {one.name for one in listing.left_out}


def test_links_to_folders_are_followed_unless_they_form_a_cycle(project: ProjectPaths, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    elsewhere = write(tmp_path / "elsewhere", {f"{number}.png": encoded(picture(700 + number)) for number in range(2)})
    third = write(tmp_path / "third", {"deep/3.png": encoded(picture(710))})
    (path / "cat" / "more").symlink_to(elsewhere)
    (path / "zebra").symlink_to(third)
    (path / "cat" / "back").symlink_to(path)
    (path / "loop").symlink_to(tmp_path)
    (third / "deep" / "up").symlink_to(third)
    (elsewhere / "self").symlink_to(".")
    with pytest.raises(UserError):  # the link to tmp_path is read as a class folder
        read(data(path), project)
    (path / "loop").unlink()
    meta, _ = read(data(path), project)
    assert meta["counts"] == {"train": {"cat": 5, "horse": 3, "zebra": 1}}
    assert meta["left_out"] == {"a link to a folder that contains it": 3}


def test_split_folders_with_other_names_are_not_read_as_classes(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    for parts in (("train", "val", "test"), ("Train", "Test"), ("train", "validation")):
        path = tmp_path / parts[1]
        for part in parts:
            write(path, {f"{part}/{kind}/0.png": encoded(picture(len(part))) for kind in ("cat", "horse")})
        message = error_message(project, console, data(path))
        assert message.startswith(
            f"{path} holds the folders {', '.join(sorted(parts))}: a published split consists of train and test; "
        )


def test_file_names_that_are_not_utf8_are_read_and_recorded(project: ProjectPaths, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    try:
        Path(os.fsdecode(os.fsencode(path / "cat") + b"/caf\xe9.png")).write_bytes(encoded(picture(720)))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    read(data(path), project)
    assert r"cat/caf\xe9.png" in store.read_json(project.processed("image_folder") / "files.json")["train"]


# --- duplicates


def test_images_that_are_identical_once_decoded_are_duplicates(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    same, torn = picture(800), picture(801)
    write(path, {"cat/a.png": encoded(same), "cat/b.bmp": encoded(same, "BMP"), "cat/c.tif": encoded(torn, "TIFF")})
    write(path, {"horse/c.gif": encoded(torn, "GIF")})
    message = error_message(project, console, data(path))
    assert message.startswith("3 of 10 pictures are duplicate: cat/b.bmp, cat/c.tif, horse/c.gif; ")
    _, printed = read(data(path, duplicates="leave_out"), project)
    assert "duplicate: cat/b.bmp: the same as cat/a.png once decoded" in printed
    assert "duplicate: cat/c.tif: one picture in 2 files of different classes" in printed


def test_icons_that_differ_only_in_alpha_are_no_duplicates(project: ProjectPaths, tmp_path: Path) -> None:
    """Black shapes whose colours are 0 everywhere: without alpha, they would be identical black images."""
    for kind in ("cat", "horse"):
        for number in range(3):
            layers = np.zeros((8, 8, 4), np.uint8)
            layers[..., 3] = picture(10 * number + len(kind))
            write(tmp_path / "icons", {f"{kind}/{number}.png": encoded(layers)})
    meta, printed = read(data(tmp_path / "icons"), project)
    assert "6 of 6 pictures with transparency, composited onto data.background=[255, 255, 255]" in printed
    assert meta["transparent"] == 6
    images = store.open_array(project.processed("image_folder") / "train" / "images.npy")
    np.testing.assert_array_equal(images[0, ..., 0], 255 - picture(3))
    on_black = data(tmp_path / "icons", background=[0, 0, 0], name="on_black")
    console = Console(record=True, width=200)
    assert error_message(project, console, on_black).startswith("6 of 6 pictures are duplicate: ")
    assert "cat/0.png: one picture on this data.background in 6 files of different classes" in console.export_text()


def test_an_image_in_train_and_test_is_refused_or_removed_from_test(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    shared = picture(900)
    for part in ("train", "test"):
        write(tmp_path / "both", {f"{part}/{kind}/{part}.png": encoded(picture(len(part + kind))) for kind in ("cat", "horse")})
    write(tmp_path / "both", {"train/cat/x.png": encoded(shared), "test/cat/x.bmp": encoded(shared, "BMP"), "cover.png": b""})
    assert error_message(project, console, data(tmp_path / "both")).startswith("1 of 6 pictures are duplicate: test/cat/x.bmp; ")
    meta, _ = read(data(tmp_path / "both", duplicates="leave_out"), project)
    assert meta["counts"] == {"train": {"cat": 2, "horse": 1}, "test": {"cat": 1, "horse": 1}}
    assert meta["left_out"] == {"outside the class folders": 1, "duplicate": 1}


# --- shape, colour and range


def test_shape_and_colour_are_those_of_the_files(project: ProjectPaths, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    meta, printed = read(data(path, shape=None), project)
    assert meta["decoded_shape"] == [8, 8, 1]
    assert "preprocess  data.shape=[8,8,1]: as the files are" in printed
    note = Image.Exif()
    note[0x0112] = 6
    for name, size, options in (("red.png", (8, 8, 3), {}), ("lying.tif", (8, 8, 3), {"exif": note})):
        write(path, {f"cat/{name}": encoded(np.full(size, len(name), np.uint8), "PNG" if "png" in name else "TIFF", **options)})
    meta, _ = read(data(path, shape=None), project)
    assert meta["decoded_shape"] == [8, 8, 3]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_shape_of_an_image_is_that_after_its_exif_rotation(kind: str, tmp_path: Path) -> None:
    note = Image.Exif()
    note[0x0112] = 6
    file = tmp_path / "file"
    file.write_bytes(encoded(picture(1, 6, 4), kind, exif=note))
    [shape] = pictures.shapes([picture_files.Listed(file, "file", "")])
    assert shape is not None
    assert shape[:2] == (4, 6)


def test_files_of_several_sizes_or_of_a_large_size_require_a_shape(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    path = folder_of(tmp_path, **{"cat__wide.png": encoded(picture(2, 8, 9))})
    assert error_message(project, console, data(path, shape=None)) == (
        f"{path}: pictures of 2 sizes (height x width): 8 x 8 (6), 8 x 9 (1); "
        "set data.shape=[height,width,channels], for example data.shape=[64,64,1]"
    )
    large = write(tmp_path / "large", {f"{kind}/0.png": encoded(picture(3, 300, 8)) for kind in ("a", "b")})
    assert f"{large}: its pictures are 300 x 8, more than 256 a side; set" in error_message(
        project, console, data(large, shape=None)
    )


def test_resized_and_converted_images_are_counted(project: ProjectPaths, tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    for number, kind in enumerate(("cat", "horse")):
        write(path, {f"{kind}/0.png": encoded(np.stack([picture(number, 64, 64)] * 3, -1))})
    meta, printed = read(data(path, shape=[28, 28, 1]), project)
    assert (meta["resized"], meta["colour_dropped"]) == (2, 2)
    assert "2 of 2 pictures brought to 28 x 28 (data.resize=pad)" in printed
    assert "2 of 2 pictures in colour, made grey (data.shape has 1 channel)" in printed


def test_12_bits_in_16_give_a_warning_unless_the_range_is_set(project: ProjectPaths, tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    for number in range(4):
        deep = np.random.default_rng(number).integers(0, 4096, (8, 8), np.uint16)
        deep[0, 0] = 4095
        write(path, {f"{'ab'[number % 2]}/{number}.png": encoded(deep)})
    meta, printed = read(data(path), project)
    assert "warning: no value of the 16-bit pictures exceeds 4095 of 65535: they are nearly black; set data.range" in printed
    meta, printed = read(data(path, range=[0, 4095]), project)
    assert "warning" not in printed
    assert (meta["more_than_8_bits"], meta["clipped"]) == (4, 0)
    assert store.open_array(project.processed("image_folder") / "train" / "images.npy")[:, 0, 0, 0].tolist() == [255] * 4
    meta, printed = read(data(path, range=[0, 2000]), project)
    assert meta["clipped"] == 4
    assert "4 of 4 pictures with values outside data.range, clipped" in printed


def test_a_rare_class_gives_a_warning(project: ProjectPaths, tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    for number in range(60):
        write(path, {f"{'rare' if number == 0 else 'often'}/{number}.png": encoded(picture(number))})
    _, printed = read(data(path), project)
    assert "image_folder, train: 60 pictures of 2 classes: often 59, rare 1" in printed
    assert "warning: fewer than 2.0 % of train belong to rare (1)" in printed


# --- the listing for DVC


def test_the_listing_changes_exactly_if_an_image_changes(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)

    def listed() -> bytes:
        return (download.run(data(path), project, console) / "listing.json").read_bytes()

    first = listed()
    write(path, {"cat/notes.txt": b"x"})
    assert listed() == first
    before = (path / "cat" / "0.png").read_bytes()
    write(path, {"cat/0.png": before[:-1] + b"\0"})  # of the same size
    assert listed() != first
    write(path, {"cat/0.png": before})
    assert listed() == first
    (path / "cat" / "0.png").rename(path / "horse" / "00.png")
    assert listed() != first
