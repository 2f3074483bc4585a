"""A task of its own: the class with the largest score, by a margin."""

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.tasks.exact_sums import ExactSums
from reprise.tasks.metrics import Metrics
from reprise.tasks.task import Keep, Task


class MarginMetrics(Metrics):
    """hits (share of correct classes) and loss (multi-class hinge)."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self.sums = ExactSums(2, self.device)

    @property
    def state(self) -> dict[str, Tensor]:
        return super().state | self.sums.state("sums")

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        hits = (predictions.argmax(-1) == targets).double()
        self.sums.add(torch.stack([hits, F.multi_margin_loss(predictions.double(), targets, reduction="none")], dim=1))

    def _compute(self, count: int) -> dict[str, float]:
        hits, loss = self.sums.means([count, count])
        return {"loss": loss, "hits": hits}


class Margin(Task):
    """Predicts a class by multi-class hinge loss. Predictions are scores `[N, K]`, targets `int64 [N]`."""

    report: ClassVar[str] = "reprise.reports.margin"
    tolerates_bf16: ClassVar[bool] = False

    def __init__(self, meta: WindowsMeta) -> None:
        super().__init__()
        self.output_shape = (len(meta.classes),)  # type: ignore[attr-defined]
        self.units, self.undefined = {}, {}
        self.monitor, self.mode = "hits", "max"

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        return outputs

    def postprocess(self, predictions: Tensor) -> Tensor:
        return predictions.argmax(-1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(predictions, targets)

    def new_metrics(self, device: torch.device | str = "cpu") -> MarginMetrics:
        return MarginMetrics(device)

    def keep(self, samples: int, batch_size: int) -> Keep:
        return lambda predictions, targets, batch: torch.stack([predictions.argmax(-1), targets], dim=1)

    def kept(self, rows: Tensor, samples: int) -> Tensor:
        return rows
