"""Answers for pictures that are cut into tiles: the mean of the probabilities over the tiles, and where they come from.

Shapes: `T` tiles, `K` classes, `H W` pixels of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reprise.data.modalities.images.decoding import Tiles
from reprise.figures.tiles import HeatMap
from reprise.inference.predictor import Predictor

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileAnswers:
    """The answers for the tiles of a picture, `float64 [T, K]`."""

    tiles: Tiles
    probabilities: Probabilities

    @property
    def mean(self) -> Probabilities:
        """The answer for the picture, `[K]`."""
        return np.asarray(self.probabilities.mean(0), np.float64)

    def heat(self, label: int) -> npt.NDArray[np.float32]:
        """Return the probability of a class at each pixel `[H, W]`: the mean over the tiles that cover it."""
        total, count = np.zeros(self.tiles.shape, np.float32), np.zeros(self.tiles.shape, np.float32)
        height, width = self.tiles.pixels.shape[1:3]
        for (row, column), probability in zip(self.tiles.corners.tolist(), self.probabilities[:, label], strict=True):
            inside = slice(row, row + height), slice(column, column + width)
            total[inside] += probability
            count[inside] += 1
        return total / count

    def strongest(self, label: int) -> npt.NDArray[np.uint8]:
        """Return the tile with the largest probability of a class, `[1, H, W, C]`."""
        best = int(self.probabilities[:, label].argmax())
        return self.tiles.pixels[best : best + 1]

    def heat_maps(self, names: Sequence[str], shown: int) -> list[HeatMap]:
        """Return the picture alone, and under the heat of each of its `shown` most likely classes."""
        picture, mean = self.tiles.picture(), self.mean
        likely = np.argsort(-mean, kind="stable")[:shown]
        maps = [HeatMap(picture, self.heat(int(label)), f"{names[label]}, {100 * mean[label]:.1f} %") for label in likely]
        return [HeatMap(picture, None, f"{len(self.tiles.corners)} tiles"), *maps]


def answer(predictor: Predictor, tiles: Tiles, batch_size: int) -> TileAnswers:
    """Return the answers of a predictor for all tiles of a picture."""
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(tiles.pixels), batch_size)
        probabilities = torch.cat([predictor(*predictor.move([batch])).double().cpu() for batch in batches])
    return TileAnswers(tiles, probabilities.numpy())
