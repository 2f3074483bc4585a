"""Classification of sequences by ridge regression on fixed features, in closed form.

Shapes: `B` batch, `T` time steps, `C` channels, `P` features, `K` classes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

from reprise.models.closed_form import Batches, gather
from reprise.models.hydra import Hydra, SparseScaler
from reprise.models.multi_rocket import MultiRocket
from reprise.models.padding import Fill, channels_of, fill_padding, split_mask
from reprise.models.ridge import solve_leave_one_out

Features = Literal["values", "hydra", "multi_rocket"]
SAMPLES_AT_ONCE = 256
"""Samples whose features are computed at a time."""


class RidgeClassifier(nn.Module):
    """Ridge regression of the classes, as -1 and 1, on standardised features of a sequence.

    Maps `float32 [B, T, C]` to logits `[B, K]`. Features: the values themselves, Hydra (Dempster, Schmidt and Webb 2023) or
    MultiRocket (Tan et al. 2022); the last two together are the Hydra + MultiRocket of the Hydra paper. The strength of the
    regularisation has the smallest squared leave-one-out error on train, as in scikit-learn's `RidgeClassifierCV`; val is not
    used. Logits are the regression's outputs times a factor with the smallest leave-one-out cross-entropy (temperature scaling,
    Guo et al. 2017), so that their softmax can be read as probabilities.

    `fit` holds the features of all training samples in memory, `4 * P` bytes each: about 220 kB with the default features.

    Args:
        input_shape: shape of one sample, `[T, C]`; for the values alone, any shape.
        outputs: number of classes.
        features: one or more kinds of features.
        groups: number of groups of Hydra for each dilation.
        biases: number of biases of MultiRocket.
        fill: what takes the place of the padding of a sequence shorter than `T`; see `fill_padding`.
        alphas: strengths of the regularisation.
        seed: seed of the kernels of Hydra, and of the samples that give the biases of MultiRocket; by default drawn from torch's
            generator, so that it follows from the seed of the run.
        masked: whether the last input channel is the mask of the valid steps, as for sequences of unequal length.

    Raises:
        ValueError: if an argument is invalid.

    """

    weights: Tensor
    intercept: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        features: Sequence[Features] = ("hydra", "multi_rocket"),
        groups: int = 64,
        biases: int = 6250,
        fill: Fill = "zero",
        alphas: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        seed: int | None = None,
        masked: bool = False,
    ) -> None:
        super().__init__()
        if not features or len(set(features)) < len(features):
            raise ValueError(f"features={list(features)}: needs one or more different kinds")
        if not alphas or min(alphas) <= 0:
            raise ValueError(f"alphas={list(alphas)}: needs one or more values above 0")
        self.masked = masked
        input_shape = [*input_shape[:-1], channels_of(input_shape, masked)]
        self.alphas, self.fill = torch.tensor(list(alphas), dtype=torch.float64), fill
        drawn = int(torch.randint(2**31, ())) if seed is None else seed
        extractors = [_Extractor(kind, input_shape, groups, biases, drawn) for kind in features]
        self.extractors = nn.ModuleList(extractors)
        self.chosen: Mapping[str, float | str] = {}
        self.register_buffer("weights", torch.zeros(sum(one.transform.features for one in extractors), outputs))
        self.register_buffer("intercept", torch.zeros(outputs))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map `[B, T, C]` to logits `[B, K]`. `lengths` `int64 [B]`: steps of a sequence before its padding; by default all."""
        inputs = fill_padding(*split_mask(inputs, lengths, self.masked), self.fill)
        features = torch.cat([extractor(inputs) for extractor in self.extractors], dim=1)
        return features @ self.weights + self.intercept

    @torch.no_grad()
    def fit(self, train: Batches, val: Batches) -> None:
        """Compute the features' statistics and the weights from the samples of `train`."""
        inputs, classes, lengths = gather(train)
        inputs = fill_padding(*split_mask(inputs, lengths, self.masked), self.fill)
        features = torch.cat([extractor.fit(inputs) for extractor in self.extractors], dim=1)  # type: ignore[operator]
        targets = 2.0 * F.one_hot(classes, len(self.intercept)).double() - 1
        solution = solve_leave_one_out(features, targets, self.alphas)
        factor, entropy = _temperature(solution.predictions, classes)
        self.weights.copy_(factor * solution.weights)
        self.intercept.copy_(factor * solution.intercept)
        right = (solution.predictions.argmax(1) == classes).double().mean().item()
        self.chosen = {"alpha": solution.alpha, "leave-one-out accuracy": right, "leave-one-out cross-entropy": entropy}


class _Extractor(nn.Module):
    """One kind of features, scaled: `[B, T, C]` to `[B, P]`."""

    def __init__(self, kind: Features, input_shape: Sequence[int], groups: int, biases: int, seed: int) -> None:
        super().__init__()
        self.transform: Hydra | MultiRocket | _Values
        if kind == "hydra":
            self.transform = Hydra(input_shape, groups, seed=seed)
        elif kind == "multi_rocket":
            self.transform = MultiRocket(input_shape, biases, seed=seed)
        else:
            self.transform = _Values(input_shape)
        self.scaler = SparseScaler(self.transform.features) if kind == "hydra" else _Scaler(self.transform.features)

    def forward(self, inputs: Tensor) -> Tensor:
        scaled: Tensor = self.scaler(self.transform(inputs))
        return scaled

    def fit(self, inputs: Tensor) -> Tensor:
        """Compute the statistics of the features and return the scaled features of all inputs `[N, P]`."""
        if isinstance(self.transform, MultiRocket):
            self.transform.fit(inputs)
        features = torch.cat([self.transform(block) for block in torch.split(inputs, SAMPLES_AT_ONCE)])
        self.scaler.fit(features)
        scaled: Tensor = self.scaler(features)
        return scaled


class _Values(nn.Module):
    """The inputs, flattened."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.features = int(torch.Size(input_shape).numel())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


class _Scaler(nn.Module):
    """Standardisation of each feature. A constant feature becomes 0."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def fit(self, features: Tensor) -> None:
        std, mean = torch.std_mean(features, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-7 * (1 + mean.abs()), std, torch.inf))

    def forward(self, features: Tensor) -> Tensor:
        scaled: Tensor = (features - self.mean) / self.std
        return scaled


def _temperature(outputs: Tensor, classes: Tensor) -> tuple[float, float]:
    """Return the factor of the outputs with the smallest cross-entropy, and that cross-entropy."""
    factors = torch.logspace(-1, 1.5, 101, dtype=torch.float64).tolist()
    entropies = [F.cross_entropy(factor * outputs, classes).item() for factor in factors]
    best = min(range(len(factors)), key=entropies.__getitem__)
    return factors[best], entropies[best]
