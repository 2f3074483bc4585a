"""Weights of classes in the loss. Shape: `K` classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from reprise.config.targets import nearest
from reprise.data.datasets import Dataset

ClassWeights = Literal["balanced"] | list[float] | dict[str | int, float]
"""`balanced`, or a weight for each class in their order, or weights by class name, 1 for the classes that are not named."""
ROWS = 4096
"""Samples whose labels are read at a time."""
MOST_LISTED = 50
"""The largest number of classes whose weights are recorded one by one."""


def stated_weights(setting: list[float] | Mapping[str | int, float], classes: Sequence[str]) -> Tensor:
    """Return the weights of a setting other than `balanced`, `float32 [K]`.

    Raises:
        ValueError: if it does not fit the classes, or a weight is not above 0.

    """
    if isinstance(setting, list):
        if len(setting) != len(classes):
            raise ValueError(f"class_weights={setting}: {len(setting)} weights for the {len(classes)} classes {_named(classes)}")
        weights = setting
    else:
        by_name = {str(name): weight for name, weight in setting.items()}
        for name in by_name.keys() - set(classes):
            raise ValueError(f"class_weights names {name}: no such class; {nearest(name, classes)}")
        weights = [by_name.get(name, 1.0) for name in classes]
    if wrong := [weight for weight in weights if not 0 < weight < math.inf]:
        raise ValueError(f"class_weights: {wrong[0]}: a weight must be above 0")
    return torch.tensor(weights, dtype=torch.float32)


def balanced_weights(counts: Tensor) -> Tensor:
    """Return the weight `N / (K * n)` of each class of `n` samples, `float32 [K]`, as scikit-learn's `compute_class_weight`.

    `counts` is `int64 [K]`, `N` its sum. A class without samples has weight 0 and is not counted in `K`.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts.clamp(min=1).double())
    return torch.where(present, weights, 0.0).float()


def class_counts(split: Dataset, classes: int) -> Tensor:
    """Return the number of samples of each class in a split, `int64 [K]`."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for rows in torch.split(torch.arange(len(split), device=split.device), ROWS):
        counts += torch.bincount(split.gather(rows).targets.cpu(), minlength=classes)
    return counts


def described(weights: Tensor, classes: Sequence[str]) -> str:
    """Return the weights in words; of more than `MOST_LISTED` classes, the smallest and the largest weight."""
    values = [f"{name} {weight:.6g}" for name, weight in zip(classes, weights.tolist(), strict=True)]
    if len(values) <= MOST_LISTED:
        return ", ".join(values)
    return f"from {values[int(weights.argmin())]} to {values[int(weights.argmax())]}"


def _named(classes: Sequence[str]) -> str:
    return ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
