"""Running metrics of a split: updated batch by batch, with a state whose size does not depend on the number of samples.

Counts are integers and sums are fixed-point integers (`ExactSums`). Their addition is associative, so results are equal to the
last bit for any order, batch size and number of ranks, and after resuming an interrupted training.

Shapes: `N` samples, `K` classes, `S` forecast steps (horizon), `Y` target channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

MAX_BUFFERED = 2**20
"""Number of buffered prediction values at which the state is updated: many small batches cost one update."""
CALIBRATION_BINS = 15
"""Number of bins of the expected calibration error (Guo et al. 2017)."""
FRACTION_BITS = (-24, 16, 56, 96)
"""A number is split into four integers ("limbs"): the first counts units of 2^24, the last units of 2^-96."""
LIMB_BITS = 40
LARGEST = 2.0**55
"""Numbers of at least this magnitude are added in floating point, because no limb can hold them."""


@final
class ExactSums:
    """Column sums of float64 numbers that do not depend on the order of the terms.

    Each number is rounded to a multiple of 2^-96 and added as an integer, as in a long accumulator (Kulisch 2013, section 8).
    Numbers beyond ±2^55 and those that are not finite are added in floating point.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.limbs = torch.zeros(len(FRACTION_BITS), columns, dtype=torch.int64, device=device)
        self.beyond = torch.zeros(columns, dtype=torch.float64, device=device)

    def add(self, values: Tensor) -> None:
        """Add the rows of `float64 [N, columns]`."""
        inside = values.abs() < LARGEST
        self.beyond += torch.where(inside, 0.0, values).sum(0)
        for limb, part in zip(self.limbs, _limbs(torch.where(inside, values, 0.0)), strict=True):
            limb += part.sum(0)
        self._carry()

    def add_at(self, columns: Tensor, values: Tensor) -> None:
        """Add each of `values`, `float64 [N]` below `LARGEST` or NaN, to its column `int64 [N]`. A NaN makes all columns NaN."""
        missing = values.isnan()
        self.beyond += torch.where(missing, values, 0.0).sum()
        for limb, part in zip(self.limbs, _limbs(torch.where(missing, 0.0, values)), strict=True):
            limb.index_add_(0, columns, part)
        self._carry()

    def means(self, counts: Sequence[int]) -> list[float]:
        """Return the sum of each column divided by its count, correctly rounded; NaN if the count is 0."""
        limbs, beyond = self.limbs.tolist(), self.beyond.tolist()
        unit = FRACTION_BITS[-1]
        sums = [
            sum(limb << (unit - bits) for limb, bits in zip(column, FRACTION_BITS, strict=True))
            for column in zip(*limbs, strict=True)
        ]
        return [
            total / (count << unit) + large / count if count else float("nan")
            for total, large, count in zip(sums, beyond, counts, strict=True)
        ]

    def _carry(self) -> None:
        """Reduce all limbs but the first below 2^40, so that none overflows however many numbers are added."""
        for lower in range(len(FRACTION_BITS) - 1, 0, -1):
            carried = self.limbs[lower] >> LIMB_BITS
            self.limbs[lower] -= carried << LIMB_BITS
            self.limbs[lower - 1] += carried


def _limbs(values: Tensor) -> list[Tensor]:
    """Return finite float64 numbers as one integer tensor for each of `FRACTION_BITS`. Only the last rounding is inexact."""
    parts = []
    for bits in FRACTION_BITS:
        part = (values * 2.0**bits).to(torch.int64)
        parts.append(part)
        values = values - part.to(torch.float64) * 2.0**-bits
    return parts


class Metrics(ABC):
    """Base class of the metrics of one split: `update` adds to sums and counts, `compute` divides them.

    Subclasses add their tensors, which must all be sums, to `state`. `update` never synchronizes with the device.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.count = self._integers(1)
        """Number of samples, `int64 [1]`."""
        self._buffer: list[tuple[Tensor, Tensor]] = []
        self._buffered = 0

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors of sums and counts, by name. Subclasses add theirs."""
        return {"count": self.count}

    @abstractmethod
    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch to the state."""

    @abstractmethod
    def _compute(self, count: int) -> dict[str, float]:
        """Return the metrics of the state, which has at least one sample."""

    @final
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch. It is buffered, so its tensors must not be modified in place."""
        self._buffer.append((predictions, targets))
        self._buffered += predictions.numel()
        if self._buffered >= MAX_BUFFERED:
            self._flush()

    @final
    def compute(self) -> dict[str, float]:
        """Return every metric that is defined.

        Raises:
            ValueError: if no sample was added.

        """
        self._flush()
        count = int(self.count)
        if not count:
            raise ValueError("no sample to compute metrics of")
        return self._compute(count)

    @final
    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state on the CPU."""
        self._flush()
        return {name: tensor.cpu().clone() for name, tensor in self.state.items()}

    @final
    @torch.inference_mode()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state.

        Raises:
            ValueError: if it is the state of other metrics.

        """
        current = self.state
        if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in current.items()}:
            raise ValueError("the state is that of other metrics")
        self._buffer, self._buffered = [], 0
        for name, tensor in state.items():
            current[name].copy_(tensor)

    @final
    @torch.inference_mode()
    def merge(self, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum the states of all ranks. `all_reduce` returns the sum over ranks of a one-dimensional tensor."""
        self._flush()
        for dtype in (torch.int64, torch.float64):
            parts = [tensor for tensor in self.state.values() if tensor.dtype == dtype]
            if parts:
                total = all_reduce(torch.cat([part.flatten() for part in parts]))
                for part, new in zip(parts, torch.split(total, [part.numel() for part in parts]), strict=True):
                    part.copy_(new.view_as(part))

    @torch.inference_mode()
    def _flush(self) -> None:
        """Add the buffered batches to the state, in chunks of `MAX_BUFFERED` values to bound the memory used."""
        batches, self._buffer, self._buffered = self._buffer, [], 0
        if not batches:
            return
        predictions, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.count += len(targets)
        rows = max(1, MAX_BUFFERED // max(1, predictions[:1].numel()))
        for chunk, true in zip(torch.split(predictions, rows), torch.split(targets, rows), strict=True):
            if len(true):
                self._add(chunk, true)

    def _integers(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self.device)


@final
class ClassificationMetrics(Metrics):
    """accuracy, f1_macro, ece and loss (cross-entropy without label smoothing) of logits `[N, K]` and classes `int64 [N]`.

    The state holds the diagonal and the margins of the confusion matrix, which accuracy and F1 need: `3 K` counts, not `K²`.
    f1_macro is the mean over the classes that occur as target or prediction. ece: Guo et al. 2017, eq. 3.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.correct, self.predicted, self.true = (self._integers(classes) for _ in range(3))
        self.bin_count, self.bin_correct = (self._integers(CALIBRATION_BINS) for _ in range(2))
        self.bin_confidence = ExactSums(CALIBRATION_BINS, self.device)
        self.loss = ExactSums(1, self.device)

    @property
    def state(self) -> dict[str, Tensor]:
        """Counts by class and by confidence bin, sums of confidence and of loss."""
        names = ("correct", "predicted", "true", "bin_count", "bin_correct")
        return {
            **super().state,
            **{name: getattr(self, name) for name in names},
            **_sums_state("bin_confidence", self.bin_confidence),
            **_sums_state("loss", self.loss),
        }

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        # float() before double(): the metrics of a bf16 network are those of its own logits.
        logits = predictions.float().double()
        classes, confidence = logits.argmax(-1), logits.softmax(-1).amax(-1)
        correct = (classes == targets).to(torch.int64)
        ones = torch.ones_like(targets)
        self.predicted.index_add_(0, classes, ones)
        self.true.index_add_(0, targets, ones)
        self.correct.index_add_(0, targets, correct)
        bins = calibration_bin(confidence)
        self.bin_count.index_add_(0, bins, ones)
        self.bin_correct.index_add_(0, bins, correct)
        self.bin_confidence.add_at(bins, confidence)
        self.loss.add(F.cross_entropy(logits, targets, reduction="none")[:, None])

    def _compute(self, count: int) -> dict[str, float]:
        correct, predicted, true = self.correct.tolist(), self.predicted.tolist(), self.true.tolist()
        scores = [2 * hits / (p + t) for hits, p, t in zip(correct, predicted, true, strict=True) if p + t]
        bin_count, bin_correct = self.bin_count.tolist(), self.bin_correct.tolist()
        confidence = self.bin_confidence.means([count] * CALIBRATION_BINS)  # contribution of each bin to the mean confidence
        gaps = [abs(hits / count - mean) for hits, mean, n in zip(bin_correct, confidence, bin_count, strict=True) if n]
        return {
            "loss": self.loss.means([count])[0],
            "accuracy": sum(correct) / count,
            "f1_macro": sum(scores) / len(scores),
            "ece": sum(gaps),
        }


def calibration_bin(confidence: Tensor) -> Tensor:
    """Return the bin `int64 [N]` of each confidence. Bin m, from 0, covers `(m / 15, (m + 1) / 15]` (Guo et al. 2017)."""
    return (confidence * CALIBRATION_BINS).nan_to_num().ceil().to(torch.int64).sub(1).clamp(0, CALIBRATION_BINS - 1)


@final
class ForecastMetrics(Metrics):
    """Errors of standardised forecasts `[N, S, Y]`.

    Errors in units are scaled errors times `std`. With several targets, errors in units and mase are reported for each
    (`mae/NAME`). Only unitless metrics are pooled: mae_scaled and mse_scaled over the targets that have a scale, mase over all
    targets. With one target, names have no suffix. Undefined metrics are omitted.

    Args:
        targets: names of the target channels, as used in metric names.
        std: standard deviation of each target in the training split, in its unit.
        naive_mae: mean absolute error of the naive forecast (next = last) in the training split, in the target's unit. It is 0
            if the target is constant there: then the target has no scale, and mase is undefined.
        loss: mse, mae or huber.
        device: device of predictions and targets.

    """

    def __init__(
        self,
        targets: Sequence[str],
        std: Sequence[float],
        naive_mae: Sequence[float],
        loss: Literal["mse", "mae", "huber"] = "mse",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.targets, self.std, self.naive_mae, self.loss = targets, std, naive_mae, loss
        kinds = ("mae", "mse") if loss in {"mae", "mse"} else ("mae", "mse", loss)
        self.sums = {kind: ExactSums(len(targets), self.device) for kind in kinds}
        """Sums over samples of the mean over steps, by target."""

    @property
    def state(self) -> dict[str, Tensor]:
        """Sums of errors by target."""
        parts = [_sums_state(name, sums) for name, sums in self.sums.items()]
        return super().state | {name: tensor for part in parts for name, tensor in part.items()}

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        forecast, true = predictions.double(), targets.double()
        error = forecast - true
        self.sums["mae"].add(_mean_over_steps(error.abs()))
        self.sums["mse"].add(_mean_over_steps(error.square()))
        if "huber" in self.sums:
            self.sums["huber"].add(_mean_over_steps(F.huber_loss(forecast, true, reduction="none")))

    def _compute(self, count: int) -> dict[str, float]:
        means = {kind: sums.means([count] * len(self.targets)) for kind, sums in self.sums.items()}
        several, scaled = len(self.targets) > 1, [number for number, naive in enumerate(self.naive_mae) if naive > 0]
        metrics = {"loss": _mean(means[self.loss])}
        mase = {}
        for number, (name, std) in enumerate(zip(self.targets, self.std, strict=True)):
            suffix = f"/{name}" if several else ""
            mae, mse = std * means["mae"][number], std**2 * means["mse"][number]
            metrics |= {f"mae{suffix}": mae, f"mse{suffix}": mse, f"rmse{suffix}": mse**0.5}
            if number in scaled:
                mase[f"mase{suffix}"] = mae / self.naive_mae[number]
        if several and len(scaled) == len(self.targets):
            metrics["mase"] = _mean(list(mase.values()))
        metrics |= mase
        if scaled:
            metrics |= {f"{kind}_scaled": _mean([means[kind][number] for number in scaled]) for kind in ("mae", "mse")}
        return metrics


def _mean_over_steps(values: Tensor) -> Tensor:
    """Return the means `[N, Y]` of `float64 [N, S, Y]`, by pairwise summation.

    `Tensor.sum` may add the numbers of a sample in an order that depends on the batch size.
    """
    steps = values.shape[1]
    while (length := values.shape[1]) > 1:
        half = length // 2
        paired = values[:, :half] + values[:, half : 2 * half]
        if length % 2:
            paired[:, 0] += values[:, -1]
        values = paired
    return values[:, 0] / steps


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sums_state(name: str, sums: ExactSums) -> dict[str, Tensor]:
    return {f"{name}.limbs": sums.limbs, f"{name}.beyond": sums.beyond}
