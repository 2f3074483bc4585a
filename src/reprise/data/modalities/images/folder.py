"""preprocess of an image folder: convert picture files to arrays. Left-out, clipped and resized files are printed and counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from reprise.config import DataConfig
from reprise.config.modalities.images import FolderData
from reprise.data.modalities.images import picture_files, pictures, tiling
from reprise.data.modalities.images.decoding import FULL_RANGE, OVERLAP, Decoding, Facts
from reprise.data.modalities.images.picture_files import Listed, Listing
from reprise.data.modalities.images.pictures import Picture
from reprise.errors import UserError
from reprise.progress_bar import watched

NAMED = 5
"""The most files that a message names; left_out.json names all."""
LARGEST_DERIVED = 256
"""The largest picture side in pixels for which data.shape is derived from the files; beyond it, data.shape must be set."""


@dataclass(frozen=True)
class FolderArrays:
    """What `preprocess` writes for an image folder."""

    arrays: dict[str, npt.NDArray[Any]]
    """`<part>/images` uint8 [sample, height, width, channel] and `<part>/labels` int64 [sample]; those of tiles: `tiling`."""
    meta: dict[str, Any]
    """The content of meta.json in addition to the settings."""
    files: dict[str, dict[str, str]]
    """The sha256 of each file by part and name, in the order of the arrays."""
    left_out: dict[str, str]
    """The reason why a file was left out, by name."""


def decoding(data: FolderData, shape: Sequence[int]) -> Decoding:
    """Return how pictures of this data set are decoded to images of a shape."""
    limits = (data.range[0], data.range[1]) if data.range else None
    overlap = OVERLAP if data.overlap is None else data.overlap
    return Decoding(tuple(shape), data.resize, tuple(data.background), limits, overlap)


def decoding_of(data: DataConfig, shape: Sequence[int]) -> Decoding:
    """Return how new pictures are decoded for a network trained on a data set. A published one defines only the shape."""
    return decoding(data, shape) if isinstance(data, FolderData) else Decoding(tuple(shape), "pad")


def read(data: FolderData, console: Console) -> FolderArrays:
    """Read every picture of the folder and return the arrays.

    Raises:
        UserError: when pictures are broken or identical and the config does not allow it, a class has no picture left, or no
            shape is set and the pictures differ in size.

    """
    report = _printer(console)
    listing = picture_files.listing(Path(data.path))
    shape = data.shape or _derived_shape(listing.pictures, data.path, report)
    reading = pictures.read_all(listing.pictures, decoding(data, shape))
    every = list(watched(reading, len(listing.pictures), f"reading {data.path}", console))
    broken = {one.listed.name: one.problem for one in every if one.problem}
    sound = _without(every, broken, "broken", "broken", data.broken, report)
    identical = _duplicates(sound) if data.duplicates != "keep" else {}
    kept = _without(sound, identical, "duplicate", "duplicates", data.duplicates, report)
    arrays = _arrays(kept, listing, data.path)
    counts = _class_counts(kept, listing.classes)
    reasons = Counter({"broken": len(broken), "duplicate": len(identical)})
    for entry in listing.left_out:
        reasons[entry.why] += entry.files
    _report_left_out(listing, report)
    _report_counts(data.name, counts, report)
    meta = {
        "classes": listing.classes,
        "listing": picture_files.digest(listing.pictures),
        "decoded_shape": list(shape),
        "counts": counts,
        "left_out": {why: number for why, number in sorted(reasons.items()) if number},
        **_report_changes(kept, shape, data, report),
    }
    parts = _parts(listing)
    files = {part: {one.listed.name: one.sha256 for one in kept if one.listed.part == part} for part in parts}
    left_out = {one.name: one.why for one in listing.left_out} | broken | identical
    return FolderArrays(arrays, meta, files, left_out)


def _printer(console: Console) -> Callable[[str], None]:
    def report(text: str) -> None:
        console.print(f"preprocess  {text}", highlight=False, markup=False, soft_wrap=True)

    return report


def _parts(listing: Listing) -> list[str]:
    return sorted({one.part for one in listing.pictures}, reverse=True)  # train, test


def _arrays(kept: Sequence[Picture], listing: Listing, path: str) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    class_index = {name: index for index, name in enumerate(listing.classes)}
    for part in _parts(listing):
        members = [one for one in kept if one.listed.part == part]
        if part == "train" and (missing := sorted(class_index.keys() - {one.listed.label for one in members})):
            raise UserError(f"{path}: no picture of the class {missing[0]} is left")
        if not members:
            raise UserError(f"{path}: no picture of {part} is left")
        arrays[f"{part}/images"] = pictures.stacked(members)
        arrays |= {f"{part}/{name}": array for name, array in tiling.arrays(members).items()}
        arrays[f"{part}/labels"] = np.array([class_index[one.listed.label] for one in members], np.int64)
    return arrays


def _derived_shape(listed: Sequence[Listed], path: str, report: Callable[[str], None]) -> list[int]:
    """Return the common size of all files, with 3 channels if any of them is in colour."""
    shapes = [shape for shape in pictures.shapes(listed) if shape is not None]
    if not shapes:
        return [1, 1, 1]  # no file is readable: reading them reports why
    sizes = Counter((height, width) for height, width, _ in shapes)
    channels = max(channels for _, _, channels in shapes)
    example = f"set data.shape=[height,width,channels], for example data.shape=[64,64,{channels}]"
    if len(sizes) > 1:
        common = ", ".join(f"{height} x {width} ({number:,})" for (height, width), number in sizes.most_common(NAMED))
        more = f" and {len(sizes) - NAMED} more" if len(sizes) > NAMED else ""
        raise UserError(f"{path}: pictures of {len(sizes)} sizes (height x width): {common}{more}", example)
    ((height, width),) = sizes
    if max(height, width) > LARGEST_DERIVED:
        raise UserError(f"{path}: its pictures are {height} x {width}, more than {LARGEST_DERIVED} a side", example)
    report(f"data.shape=[{height},{width},{channels}]: as the files are")
    return [height, width, channels]


def _duplicates(read: Sequence[Picture]) -> dict[str, str]:
    """Return why pictures are duplicates, by name. A copy of an earlier picture is one; if their classes differ, both are."""
    by_pixels: dict[bytes, list[Picture]] = {}
    for one in read:
        by_pixels.setdefault(one.content_hash, []).append(one)
    duplicates: dict[str, str] = {}
    for same in by_pixels.values():
        first = same[0]
        if len({one.listed.label for one in same}) > 1:
            background = " on this data.background" if first.decoded and first.decoded.facts.transparent else ""
            reason = f"one picture{background} in {len(same)} files of different classes"
            duplicates |= {one.listed.name: reason for one in same}
        else:
            for one in same[1:]:
                decoded = "" if one.sha256 == first.sha256 else " once decoded"
                duplicates[one.listed.name] = f"the same as {first.listed.name}{decoded}"
    return duplicates


def _without(
    read: list[Picture], faulty: Mapping[str, str], what: str, key: str, policy: str, report: Callable[[str], None]
) -> list[Picture]:
    """Print the faulty pictures and return the others.

    Raises:
        UserError: when there are faulty pictures and `policy` is "refuse".

    """
    for name, why in faulty.items():
        report(f"{what}: {name}: {why}")
    if faulty and policy == "refuse":
        some = ", ".join([*list(faulty)[:20], *(["…"] if len(faulty) > 20 else [])])
        raise UserError(f"{len(faulty)} of {len(read)} pictures are {what}: {some}", f"repair them, or set data.{key}=leave_out")
    return [one for one in read if one.listed.name not in faulty]


def _report_left_out(listing: Listing, report: Callable[[str], None]) -> None:
    by_reason: dict[str, list[picture_files.LeftOut]] = {}
    for one in listing.left_out:
        by_reason.setdefault(one.why, []).append(one)
    for why, ones in sorted(by_reason.items()):
        report(f"left out, {why} ({sum(one.files for one in ones):,}): {_some(one.name for one in ones)}")


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:NAMED]) + (f" and {len(every) - NAMED:,} more" if len(every) > NAMED else "")


def _class_counts(kept: Sequence[Picture], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of pictures by part and class."""
    counts = Counter((one.listed.part, one.listed.label) for one in kept)
    return {part: {name: counts[part, name] for name in classes} for part in sorted({part for part, _ in counts}, reverse=True)}


def _report_counts(name: str, counts: Mapping[str, Mapping[str, int]], report: Callable[[str], None]) -> None:
    for part, by_class in counts.items():
        ranked = sorted(by_class.items(), key=lambda item: (-item[1], item[0]))
        shown = ranked if len(ranked) <= 2 * NAMED else [*ranked[:NAMED], *ranked[-NAMED:]]
        least = " (the largest and the smallest)" if len(shown) < len(ranked) else ""
        total = sum(by_class.values())
        listed = ", ".join(f"{kind} {number:,}" for kind, number in shown)
        report(f"{name}, {part}: {total:,} pictures of {len(ranked)} classes{least}: {listed}")
        rare = min(0.02, 0.2 / len(ranked))  # a fifth of an even share where there are more than ten classes
        if few := [f"{kind} ({number:,})" for kind, number in ranked if number < rare * total]:
            report(f"warning: fewer than {100 * rare:.1f} % of {part} belong to {_some(few)}: accuracy hides how these do")


def _report_changes(
    kept: Sequence[Picture], shape: Sequence[int], data: FolderData, report: Callable[[str], None]
) -> dict[str, Any]:
    """Print what decoding changed; return the counts for meta.json."""
    facts = [one.decoded.facts for one in kept if one.decoded]
    counts = {
        "resized": sum([one.height, one.width] != list(shape[:2]) for one in facts),
        "colour_dropped": sum(one.channels > shape[2] for one in facts),
        "transparent": sum(one.transparent for one in facts),
        "several_frames": sum(one.frames for one in facts),
        "more_than_8_bits": sum(one.bits > 8 for one in facts),
        "clipped": sum(one.clipped > 0 for one in facts),
        "flat": sum(bool((one.pixels == one.pixels[0, 0]).all()) for one in kept),
    }
    tiles = sum(one.tile_count for one in kept)
    overlap = f"overlap {decoding(data, shape).overlap:g}"
    explained = {
        "resized": f"cut into {tiles:,} tiles of {shape[0]} x {shape[1]} in all (data.resize=tiles, {overlap})"
        if data.resize == "tiles"
        else f"brought to {shape[0]} x {shape[1]} (data.resize={data.resize})",
        "colour_dropped": "in colour, made grey (data.shape has 1 channel)",
        "transparent": f"with transparency, composited onto data.background={list(data.background)}",
        "several_frames": "of several frames, of which the first is read",
        "more_than_8_bits": "of more than 8 bits a pixel, of which data.range becomes 0 to 255",
        "clipped": "with values outside data.range, clipped",
        "flat": "of a single colour",
    }
    for key, number in counts.items():
        if number:
            report(f"{number:,} of {len(facts):,} pictures {explained[key]}")
    _warn_of_dark(facts, data, report)
    return counts


def _warn_of_dark(facts: Sequence[Facts], data: FolderData, report: Callable[[str], None]) -> None:
    """Warn, per bit depth, if no pixel value exceeds an eighth of the range."""
    for bits in sorted({one.bits for one in facts}):
        low, high = data.range if data.range and bits > 8 else FULL_RANGE if bits > 8 else (0, 255)
        peak = max(one.peak for one in facts if one.bits == bits)
        if peak <= low + (high - low) / 8:
            remedy = "; set data.range to the values that should become 0 and 255" if bits > 8 else ""
            report(f"warning: no value of the {bits}-bit pictures exceeds {peak:g} of {high:g}: they are nearly black{remedy}")
