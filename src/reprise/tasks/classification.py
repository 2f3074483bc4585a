"""Classification. Shapes: `N` samples, `K` classes."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Dataset
from reprise.data.windows import Windows
from reprise.tasks.class_baselines import class_baselines
from reprise.tasks.class_weights import ClassWeights, balanced_weights, class_counts, described, stated_weights
from reprise.tasks.classification_metrics import ClassificationMetrics
from reprise.tasks.kept_predictions import Classified
from reprise.tasks.metric_names import ACCURACY, BALANCED_ACCURACY, ECE, F1_MACRO, LOSS
from reprise.tasks.task import Baseline, Keep, Task, choose_monitor


class Classification(Task):
    """Classification with one class per sample. Predictions are logits `[N, K]`, targets `int64 [N]`.

    Args:
        meta: windows.json.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7), in training only.
        monitor: the validation metric that selects the best epoch; by default accuracy.
        class_weights: weights of the classes in the loss, in training only: one for each class in their order, or by class name
            (1 for classes that are not named), or `balanced`: `balanced_weights` of the training split.

    """

    weights: Tensor | None
    """Weights of the classes in the loss, `float32 [K]`. Balanced ones are known after `fit_to_train`."""

    report: ClassVar[str] = "reprise.reports.classification"
    tolerates_bf16: ClassVar[bool] = True

    def __init__(
        self,
        meta: WindowsMeta,
        label_smoothing: float = 0.0,
        monitor: str | None = None,
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__()
        classes = getattr(meta, "classes", None)
        if classes is None:
            raise ValueError(f"needs samples with a class each, and the data are {meta.kind}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.classes: list[str] = list(classes)
        self.output_shape = (len(classes),)
        self.units, self.undefined = {}, {}
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        weights = None if class_weights is None or class_weights == "balanced" else stated_weights(class_weights, classes)
        self.register_buffer("weights", weights, persistent=False)
        known = (LOSS, ACCURACY, BALANCED_ACCURACY, F1_MACRO, ECE)
        self.monitor, self.mode = choose_monitor(monitor, ACCURACY, known, self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs, which are logits."""
        return outputs

    def combine(self, predictions: Tensor, tiles: Tensor) -> Tensor:
        """Return logits `float64 [S, K]` whose softmax is the mean of the probabilities over the tiles of each sample."""
        logs = torch.split(predictions.float().double().log_softmax(-1), tiles.tolist())
        return torch.stack([of_one.logsumexp(0) - math.log(len(of_one)) for of_one in logs])

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return probabilities `[N, K]`."""
        return predictions.float().softmax(-1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over the batch, each sample times the weight of its class.

        The sum is divided by the number of samples, not by the sum of their weights, so that the mean over batches and ranks is
        the weighted mean over all samples.
        """
        logits = predictions.float()
        if self.weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="none")
        return (self.weights[targets] * losses).mean()

    def fit_to_train(self, train: Dataset) -> None:
        """Compute balanced weights from the classes of the training split."""
        if self.class_weights == "balanced":
            self.weights = balanced_weights(class_counts(train, self.outputs)).to(train.device)

    def facts(self) -> dict[str, str]:
        """Return the tags of a run, with the weights of the classes."""
        weights = {} if self.weights is None else {"class_weights": described(self.weights, self.classes)}
        return super().facts() | weights

    def new_metrics(self, device: torch.device | str = "cpu") -> ClassificationMetrics:
        """Return empty metrics: see `ClassificationMetrics`."""
        return ClassificationMetrics(self.outputs, device)

    def baselines(self, windows: Windows) -> Mapping[str, Baseline]:
        """Return the majority class and, unless it costs too much, the nearest neighbour: see `class_baselines`."""
        return class_baselines(windows, self.outputs)

    def keep(self, samples: int, batch_size: int) -> Keep:
        """Return the function that keeps six numbers per sample, for any number of classes."""
        return Classified.keep

    def kept(self, rows: Tensor, samples: int) -> Classified:
        """Return the kept classifications."""
        return Classified.of(rows)
