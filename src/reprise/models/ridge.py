"""Ridge regression in closed form (Hoerl and Kennard 1970), in float64.

Shapes: `N` samples, `P` features, `Q` targets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """Weights `[P, Q]`, the `alpha` with the smallest sum of squared errors on val, and that sum for the weights."""

    weights: Tensor
    alpha: float
    error: float


def solve_moments(train: Tensor, val: Tensor, features: int, alphas: Tensor, temperature: float = 0.0) -> Solution:
    """Return the ridge regression without intercept whose alpha has the smallest squared error on val.

    `train` and `val` are second moments, `Z.T @ Z` of `Z = [X, Y]` `[N, P + Q]`; the first `features` columns are `X`. They hold
    all that regression and error depend on, so no sample is read again.

    With a `temperature` above 0, return the weighted mean of the regressions of all alphas instead. The weight of one is
    `exp(-excess / temperature)`, where `excess` is its squared error on val relative to the smallest, minus 1.
    """
    eigenvalues, vectors = torch.linalg.eigh(train[:features, :features])
    rotated = vectors.T @ train[:features, features:]  # [P, Q], in the basis of the eigenvectors
    val_features = vectors.T @ val[:features, :features] @ vectors
    val_products = vectors.T @ val[:features, features:]
    val_targets = val[features:, features:].trace()

    def error(weights: Tensor) -> float:
        return float(val_targets - 2 * (weights * val_products).sum() + (weights * (val_features @ weights)).sum())

    def regression(alpha: float) -> Tensor:
        weights: Tensor = rotated / (eigenvalues.clamp(min=0) + alpha)[:, None]
        return weights

    errors = [error(regression(alpha)) for alpha in alphas.tolist()]
    smallest = min(errors)
    best = alphas.tolist()[errors.index(smallest)]
    if not temperature:
        return Solution(vectors @ regression(best), best, smallest)
    excess = torch.tensor(errors, dtype=torch.float64) / max(smallest, torch.finfo(torch.float64).tiny) - 1
    shares = torch.softmax(-excess / temperature, dim=0)
    shrinkage = (shares / (eigenvalues.clamp(min=0)[:, None] + alphas)).sum(1)
    weights = rotated * shrinkage[:, None]
    return Solution(vectors @ weights, best, error(weights))


@dataclass(frozen=True)
class LeaveOneOut:
    """Weights `[P, Q]` and intercept `[Q]`; the chosen `alpha`; each sample predicted by a fit to all others, `[N, Q]`."""

    weights: Tensor
    intercept: Tensor
    alpha: float
    predictions: Tensor


def solve_leave_one_out(features: Tensor, targets: Tensor, alphas: Tensor) -> LeaveOneOut:
    """Return the ridge regression whose alpha has the smallest squared leave-one-out error. The intercept is not penalised.

    The leave-one-out error of a sample is its residual divided by one minus its leverage (Allen 1974), as in scikit-learn's
    `RidgeCV`. `features` `[N, P]` may be float32; all sums are float64, over blocks of columns or rows.
    """
    targets = targets.double()
    mean_features, mean_targets = features.mean(0, dtype=torch.float64), targets.mean(0)
    centred = targets - mean_targets
    left, squares = _decompose(features, mean_features)
    rotated = left.T @ centred
    best: tuple[float, float, Tensor] | None = None
    for alpha in alphas.tolist():
        shrunk = squares / (squares + alpha)
        residuals = centred - left @ (shrunk[:, None] * rotated)
        leverages = 1 / len(targets) + (left.square() * shrunk).sum(1)
        errors = residuals / (1 - leverages).clamp(min=1e-12)[:, None]
        score = errors.square().sum().item()
        if best is None or score < best[0]:
            best = score, alpha, targets - errors
    assert best is not None, "no alphas"
    _, alpha, predictions = best
    dual = left @ (rotated / (squares + alpha)[:, None])  # [N, Q]; the weights are X.T @ dual
    weights = torch.cat([(block.double() - mean).T @ dual for block, mean in _columns(features, mean_features)])
    return LeaveOneOut(weights, mean_targets - mean_features @ weights, alpha, predictions)


BLOCK = 4096
"""Columns or rows converted to float64 at a time."""


def _columns(features: Tensor, mean: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(features, BLOCK, dim=1), torch.split(mean, BLOCK), strict=True))


def _decompose(features: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the left singular vectors and the squared singular values of the centred features, without zero ones."""
    samples, width = features.shape
    if samples <= width:
        gram = features.new_zeros(samples, samples, dtype=torch.float64)
        for block, block_mean in _columns(features, mean):
            rows = block.double() - block_mean
            gram += rows @ rows.T
        squares, left = torch.linalg.eigh(gram)
    else:
        gram = features.new_zeros(width, width, dtype=torch.float64)
        for rows in torch.split(features, BLOCK):
            centred = rows.double() - mean
            gram += centred.T @ centred
        squares, right = torch.linalg.eigh(gram)
        left = torch.cat([(rows.double() - mean) @ right for rows in torch.split(features, BLOCK)])
        left = left / squares.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    kept = squares > squares[-1] * torch.finfo(torch.float64).eps * max(samples, width)
    return left[:, kept], squares[kept]
