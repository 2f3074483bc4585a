"""Metrics of classification. Shapes: `N` samples, `K` classes."""

from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.tasks import metric_names
from reprise.tasks.exact_sums import ExactSums
from reprise.tasks.metrics import Metrics

CALIBRATION_BINS = 15
"""Number of bins of the expected calibration error (Guo et al. 2017)."""


@final
class ClassificationMetrics(Metrics):
    """Accuracy, balanced accuracy, F1, calibration error and loss of logits `[N, K]` and classes `int64 [N]`.

    The state holds the diagonal and the margins of the confusion matrix, which accuracy and F1 need: `3 K` counts, not `K²`.
    balanced_accuracy is the mean recall of the classes that occur as target, as scikit-learn's `balanced_accuracy_score`.
    f1_macro is the mean over the classes that occur as target or prediction. ece: Guo et al. 2017, eq. 3. loss is the
    cross-entropy without label smoothing and class weights.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.correct, self.predicted, self.true = (self.integers(classes) for _ in range(3))
        self.bin_count, self.bin_correct = (self.integers(CALIBRATION_BINS) for _ in range(2))
        self.bin_confidence = ExactSums(CALIBRATION_BINS, self.device)
        self.loss = ExactSums(1, self.device)

    @property
    def state(self) -> dict[str, Tensor]:
        """Counts by class and by confidence bin, sums of confidence and of loss."""
        names = ("correct", "predicted", "true", "bin_count", "bin_correct")
        return {
            **super().state,
            **{name: getattr(self, name) for name in names},
            **self.bin_confidence.state("bin_confidence"),
            **self.loss.state("loss"),
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
        recalls = [hits / t for hits, t in zip(correct, true, strict=True) if t]
        bin_count, bin_correct = self.bin_count.tolist(), self.bin_correct.tolist()
        confidence = self.bin_confidence.means([count] * CALIBRATION_BINS)  # contribution of each bin to the mean confidence
        gaps = [abs(hits / count - mean) for hits, mean, n in zip(bin_correct, confidence, bin_count, strict=True) if n]
        return {
            metric_names.LOSS: self.loss.means([count])[0],
            metric_names.ACCURACY: sum(correct) / count,
            metric_names.BALANCED_ACCURACY: sum(recalls) / len(recalls),
            metric_names.F1_MACRO: sum(scores) / len(scores),
            metric_names.ECE: sum(gaps),
        }


def calibration_bin(confidence: Tensor) -> Tensor:
    """Return the bin `int64 [N]` of each confidence. Bin m, from 0, covers `(m / 15, (m + 1) / 15]` (Guo et al. 2017)."""
    return (confidence * CALIBRATION_BINS).nan_to_num().ceil().to(torch.int64).sub(1).clamp(0, CALIBRATION_BINS - 1)
