"""Classifications that need no training. Shapes: `N` samples, `K` classes, `P` numbers of a network input."""

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from reprise.data.datasets import Dataset, largest_row
from reprise.data.windows import Windows
from reprise.tasks.task import Baseline

MOST_MULTIPLICATIONS = 2**38
"""The largest cost of the distances between all samples of train, val and test; seconds on one core."""
ROWS = 4096
"""Samples gathered at a time."""
DISTANCES = 2**24
"""Distances held in memory at a time."""


def class_baselines(windows: Windows, classes: int) -> Mapping[str, Baseline]:
    """Return the baselines of the test split: the majority class and, unless it costs too much, the nearest neighbour.

    Pictures that are cut into tiles have no nearest neighbour.
    """
    (train, val), test = windows.learning(), windows.test()
    tiled = largest_row(test) > 1
    labels = _picture_labels(windows) if tiled else torch.cat([train.gather(rows).targets for rows in _blocks(len(train))])
    baselines: dict[str, Baseline] = {"majority_class": partial(_majority, logits=_log_frequencies(labels, classes))}
    cost = len(train) * (len(val) + len(test)) * math.prod(windows.input_shape)
    if cost <= MOST_MULTIPLICATIONS and not tiled:
        baselines["nearest_neighbour"] = NearestNeighbour(train, val, test, classes).predict
    return baselines


def _picture_labels(windows: Windows) -> Tensor:
    """Return the class of each picture of train: its dataset has a row per tile."""
    labels = windows.array(f"{windows.meta.array_folder('train')}labels")
    return torch.from_numpy(labels[windows.indices("train")])


def _majority(rows: Tensor, logits: Tensor) -> Tensor:
    return logits.expand(len(rows), -1)


def _log_frequencies(labels: Tensor, classes: int) -> Tensor:
    """Return the logarithm of the share of each class `[K]`, with one sample more of each so that none is 0."""
    counts = torch.bincount(labels, minlength=classes).double() + 1
    return (counts / counts.sum()).log()


class NearestNeighbour:
    """The class of the training sample with the smallest Euclidean distance between network inputs (1-NN).

    Logits: the probability of that class is the accuracy on val, with one hit and one miss more, and at least that of guessing;
    the other classes share the rest.
    """

    def __init__(self, train: Dataset, val: Dataset, test: Dataset, classes: int) -> None:
        self.test, self.classes = test, classes
        gathered = [train.gather(rows) for rows in _blocks(len(train))]
        self.inputs = torch.cat([batch.inputs.flatten(1) for batch in gathered]).double()
        self.labels = torch.cat([batch.targets for batch in gathered])
        hits = sum(int((self._nearest(val, rows) == val.gather(rows).targets).sum()) for rows in _blocks(len(val)))
        self.confidence = max((hits + 1) / (len(val) + 2), 1.01 / classes)

    def predict(self, rows: Tensor) -> Tensor:
        """Return logits `float64 [N, K]` of samples of the test split."""
        others = (1 - self.confidence) / (self.classes - 1)
        logits = torch.full((len(rows), self.classes), math.log(others), dtype=torch.float64)
        return logits.scatter_(1, self._nearest(self.test, rows)[:, None], math.log(self.confidence))

    def _nearest(self, split: Dataset, rows: Tensor) -> Tensor:
        """Return the class of the nearest training sample of each row; of equally near ones, the first."""
        blocks = torch.split(rows, max(1, DISTANCES // len(self.inputs)))
        inputs = (split.gather(block).inputs.flatten(1).double() for block in blocks)
        return torch.cat([self.labels[torch.cdist(block, self.inputs).argmin(1)] for block in inputs])


def _blocks(samples: int) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(samples), ROWS)
