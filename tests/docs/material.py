"""Small files with the names that the pages use: pictures, series and labelled sequences."""

import csv
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

RANDOM = np.random.default_rng(0)


def write(folder: Path) -> None:
    """Write every file that a page reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("flowers", 40), ("new_flowers", 3), ("pictures/flowers", 40), ("pictures/new", 3)):
        _flowers(folder / name, count)
    _flowers(folder / "slides", 12, side=150)
    _digits(folder / "pictures" / "digits")
    months = [(f"{2010 + month // 12}-{month % 12 + 1:02d}", 100 + month + 20 * (month % 12 == 11)) for month in range(132)]
    _table(folder / "sales.csv", ("month", "sales"), months[:120])
    _table(folder / "sales_until_today.csv", ("month", "sales"), months)
    shops, coming = _shops()
    _table(folder / "shops.csv", SHOP, shops)
    _table(folder / "shops_next_week.csv", SHOP, [*shops, *coming])
    _table(folder / "gestures.csv", GESTURE, _gestures(60))
    _table(folder / "new_gestures.csv", GESTURE, _gestures(6))
    for part, count in (("TRAIN", 60), ("TEST", 20)):
        _ts_file(folder / "gestures" / f"GESTURES_{part}.ts", _gestures(count))


def _table(file: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def _flowers(folder: Path, count: int, side: int = 30) -> None:
    """Write pictures of different sizes: one class is mostly red, the other mostly yellow."""
    for name, colour in (("rose", (200, 30, 60)), ("tulip", (220, 190, 40))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(RANDOM.normal(colour, 40, (side + number % 4, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def _digits(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(load_digits().images[:6]):
        Image.fromarray((pixels * 15).astype(np.uint8)).save(folder / f"{number}.png")


SHOP = ("day", "shop", "region", "promo", "price", "sales")


def _shops(days: int = 150, horizon: int = 7) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of two shops, and those of a week for which only promotion and price are known."""
    rows: list[list[tuple[Any, ...]]] = [[], []]
    for shop, region in (("north", "city"), ("south", "coast")):
        for day in range(days + horizon):
            promo, price = int(RANDOM.random() < 0.3), round(2 + RANDOM.random(), 2)
            sold = round(50 + 10 * (day % 7 == 5) + 15 * promo - 8 * price + RANDOM.normal(), 2)
            row = (date(2025, 1, 1) + timedelta(day), shop, region, promo, price, sold if day < days else "")
            rows[day >= days].append(row)
    return rows[0], rows[1]


STEPS = 20
GESTURE = ("gesture", *(str(step) for step in range(1, STEPS + 1)))


def _gestures(count: int) -> list[tuple[Any, ...]]:
    """Return sequences of two classes: a slow and a fast wave."""
    time = np.linspace(0, 2 * np.pi, STEPS)
    waves = [np.sin((1 + 2 * (number % 2)) * time + RANDOM.random()) + RANDOM.normal(0, 0.1, STEPS) for number in range(count)]
    return [(("slow", "fast")[number % 2], *wave.round(4)) for number, wave in enumerate(waves)]


def _ts_file(file: Path, rows: list[tuple[Any, ...]]) -> None:
    file.parent.mkdir(exist_ok=True)
    header = "@problemName gestures\n@timeStamps false\n@univariate true\n@equalLength true\n@classLabel true slow fast\n@data\n"
    file.write_text(header + "".join(f"{','.join(map(str, values))}:{label}\n" for label, *values in rows))
