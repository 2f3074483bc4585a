"""Running metrics of a split: updated batch by batch, of a size that does not depend on the number of samples.

Counts are integers and sums are fixed-point integers (`ExactSums`). Their addition is associative, so the result is the same to
the last bit for any order, any batch size, any number of ranks, and for a training that was interrupted and resumed.

Shapes: `N` samples, `K` classes, `S` forecast steps (horizon), `Y` target channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

HELD = 2**20
"""Numbers in predictions that wait to be added up: so small networks pay for one addition in many steps."""
CALIBRATION_BINS = 15
"""Of the expected calibration error: Guo et al. 2017."""
FRACTION_BITS = (-24, 16, 56, 96)
"""A number is split into four integers ("limbs"): the first counts units of 2^24, the last units of 2^-96."""
LIMB_BITS = 40
LARGEST = 2.0**55
"""Numbers of at least this size are added in floating point: there is no limb for them."""


@final
class ExactSums:
    """Sums of columns of float64 numbers that do not depend on the order of the terms.

    Each number is rounded to a multiple of 2^-96 and added as an integer, as in a long accumulator (Kulisch 2013, section 8).
    Numbers beyond ±2^55 and those that are not finite are added in floating point.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.limbs = torch.zeros(len(FRACTION_BITS), columns, dtype=torch.int64, device=device)
        self.beyond = torch.zeros(columns, dtype=torch.float64, device=device)

    def add(self, values: Tensor) -> None:
        """Add `float64 [N, columns]` to each column."""
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
        """The sum of each column divided by its count, correctly rounded; NaN where the count is 0."""
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
        """Bring all limbs but the first below 2^40, so that none overflows however many numbers are added."""
        for lower in range(len(FRACTION_BITS) - 1, 0, -1):
            carried = self.limbs[lower] >> LIMB_BITS
            self.limbs[lower] -= carried << LIMB_BITS
            self.limbs[lower - 1] += carried


def _limbs(values: Tensor) -> list[Tensor]:
    """Finite float64 numbers as integers, one tensor for each of `FRACTION_BITS`; every step but the last rounding is exact."""
    parts = []
    for bits in FRACTION_BITS:
        part = (values * 2.0**bits).to(torch.int64)
        parts.append(part)
        values = values - part.to(torch.float64) * 2.0**-bits
    return parts


class Metrics(ABC):
    """The metrics of one split, as sums and counts that `update` adds to and `compute` divides.

    A task's own metrics are a subclass that names its tensors in `state`, all of them sums; `update` never waits for the device.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.count = self._integers(1)
        """Samples, `int64 [1]`."""
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._held = 0

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors that are added to, by name; subclasses add theirs."""
        return {"count": self.count}

    @abstractmethod
    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch to the state."""

    @abstractmethod
    def _compute(self, count: int) -> dict[str, float]:
        """The metrics of the state, of at least one sample."""

    @final
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch. It is kept until `HELD` numbers have come together, and must not be written to meanwhile."""
        self._waiting.append((predictions, targets))
        self._held += predictions.numel()
        if self._held >= HELD:
            self._add_waiting()

    @final
    def compute(self) -> dict[str, float]:
        """Every metric that is defined.

        Raises:
            ValueError: when no sample was added.

        """
        self._add_waiting()
        count = int(self.count)
        if not count:
            raise ValueError("no sample to compute metrics of")
        return self._compute(count)

    @final
    def state_dict(self) -> dict[str, Tensor]:
        """The state on the CPU, for a checkpoint."""
        self._add_waiting()
        return {name: tensor.cpu().clone() for name, tensor in self.state.items()}

    @final
    @torch.inference_mode()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state.

        Raises:
            ValueError: when it is that of other metrics.

        """
        own = self.state
        if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in own.items()}:
            raise ValueError("the state is that of other metrics")
        self._waiting, self._held = [], 0
        for name, tensor in state.items():
            own[name].copy_(tensor)

    @final
    @torch.inference_mode()
    def merge(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Add up the states of all ranks: `summed` returns the sum over ranks of a one-dimensional tensor."""
        self._add_waiting()
        for kind in (torch.int64, torch.float64):
            parts = [tensor for tensor in self.state.values() if tensor.dtype == kind]
            if parts:
                total = summed(torch.cat([part.flatten() for part in parts]))
                for part, new in zip(parts, torch.split(total, [part.numel() for part in parts]), strict=True):
                    part.copy_(new.view_as(part))

    @torch.inference_mode()
    def _add_waiting(self) -> None:
        """Empty the buffer, in pieces of `HELD` numbers: what this allocates is bounded too."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        predictions, targets = (torch.cat(parts) for parts in zip(*waiting, strict=True))
        self.count += len(targets)
        rows = max(1, HELD // max(1, predictions[:1].numel()))
        for piece, true in zip(torch.split(predictions, rows), torch.split(targets, rows), strict=True):
            if len(true):
                self._add(piece, true)

    def _integers(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=self.device)


@final
class ClassificationMetrics(Metrics):
    """accuracy, f1_macro, ece and loss (cross-entropy without label smoothing) of logits `[N, K]` and classes `int64 [N]`.

    Kept are the diagonal and the margins of the confusion matrix, all that accuracy and F1 need: `3 K` counts, not `K²`.
    f1_macro is the mean over the classes that occur, as target or as prediction. ece: Guo et al. 2017, eq. 3.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.correct, self.predicted, self.true = (self._integers(classes) for _ in range(3))
        self.bin_count, self.bin_correct = (self._integers(CALIBRATION_BINS) for _ in range(2))
        self.bin_confidence = ExactSums(CALIBRATION_BINS, self.device)
        self.loss = ExactSums(1, self.device)

    @property
    def state(self) -> dict[str, Tensor]:
        """Counts by class and by bin of confidence, sums of confidence and of loss."""
        names = ("correct", "predicted", "true", "bin_count", "bin_correct")
        return {
            **super().state,
            **{name: getattr(self, name) for name in names},
            **_of_sums("bin_confidence", self.bin_confidence),
            **_of_sums("loss", self.loss),
        }

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        # float() before double(): a bf16 network's figures are those of its own logits.
        logits = predictions.float().double()
        taken, confidence = logits.argmax(-1), logits.softmax(-1).amax(-1)
        right = (taken == targets).to(torch.int64)
        once = torch.ones_like(targets)
        self.predicted.index_add_(0, taken, once)
        self.true.index_add_(0, targets, once)
        self.correct.index_add_(0, targets, right)
        bins = calibration_bin(confidence)
        self.bin_count.index_add_(0, bins, once)
        self.bin_correct.index_add_(0, bins, right)
        self.bin_confidence.add_at(bins, confidence)
        self.loss.add(F.cross_entropy(logits, targets, reduction="none")[:, None])

    def _compute(self, count: int) -> dict[str, float]:
        correct, predicted, true = self.correct.tolist(), self.predicted.tolist(), self.true.tolist()
        scores = [2 * hits / (said + there) for hits, said, there in zip(correct, predicted, true, strict=True) if said + there]
        bin_count, bin_correct = self.bin_count.tolist(), self.bin_correct.tolist()
        confidence = self.bin_confidence.means([count] * CALIBRATION_BINS)  # each bin's share of the mean confidence
        gaps = [abs(hits / count - sure) for hits, sure, filled in zip(bin_correct, confidence, bin_count, strict=True) if filled]
        return {
            "loss": self.loss.means([count])[0],
            "accuracy": sum(correct) / count,
            "f1_macro": sum(scores) / len(scores),
            "ece": sum(gaps),
        }


def calibration_bin(confidence: Tensor) -> Tensor:
    """The bin `int64 [N]` of each confidence: bin m (from 0) holds those in `(m / 15, (m + 1) / 15]`. Guo et al. 2017."""
    return (confidence * CALIBRATION_BINS).nan_to_num().ceil().to(torch.int64).sub(1).clamp(0, CALIBRATION_BINS - 1)


@final
class ForecastMetrics(Metrics):
    """Errors of standardised forecasts `[N, S, Y]`, by target.

    Errors in units are scaled errors times `std`. With several targets, errors in units and mase are given for each
    (`mae/NAME`); what is pooled is without unit: mae_scaled and mse_scaled over the targets that have a scale, mase over all
    targets. With one target the names are plain. What is undefined is left out.

    Args:
        targets: names of the target channels, as they stand in the metrics' names.
        std: standard deviation of each target in the training split, in its unit: the size of a scaled error of 1.
        naive_mae: mean absolute error of the naive forecast (next = last) in the training split, in the target's unit. It is 0
            where the target is constant there: the target has no scale, and mase is undefined.
        loss: mse, mae or huber.
        device: of predictions and targets.

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
        """By target: of each sample, the mean over its steps."""

    @property
    def state(self) -> dict[str, Tensor]:
        """Sums by target."""
        parts = [_of_sums(name, sums) for name, sums in self.sums.items()]
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
        found = {"loss": _mean(means[self.loss])}
        mase = {}
        for number, (name, std) in enumerate(zip(self.targets, self.std, strict=True)):
            suffix = f"/{name}" if several else ""
            mae, mse = std * means["mae"][number], std**2 * means["mse"][number]
            found |= {f"mae{suffix}": mae, f"mse{suffix}": mse, f"rmse{suffix}": mse**0.5}
            if number in scaled:
                mase[f"mase{suffix}"] = mae / self.naive_mae[number]
        if several and len(scaled) == len(self.targets):
            found["mase"] = _mean(list(mase.values()))
        found |= mase
        if scaled:
            found |= {f"{kind}_scaled": _mean([means[kind][number] for number in scaled]) for kind in ("mae", "mse")}
        return found


def _mean_over_steps(values: Tensor) -> Tensor:
    """Means `[N, Y]` of `float64 [N, S, Y]`, added pair by pair.

    `Tensor.sum` may add the numbers of a sample in another order where the batch has another size.
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


def _of_sums(name: str, sums: ExactSums) -> dict[str, Tensor]:
    return {f"{name}.limbs": sums.limbs, f"{name}.beyond": sums.beyond}
