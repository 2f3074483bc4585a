"""Gradient accumulation (`trainer.accumulate`): a step computes its batch in parts, one after another.

Each part has its own forward and backward pass, and the gradients are added. Activations then need the memory of one part. The
step stays one step: of the loader, the schedule, the optimizer and checkpoints.
"""

import torch

from reprise.data.datasets import Batch


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Return `count` parts of a batch as views, with sizes that differ by at most 1, each weighted by its share of the samples.

    The sum of the weighted mean losses is the mean loss of the batch, so the sum of the gradients is its gradient. A penalty of
    the network has the same weight: if it does not depend on the samples, it counts once. A batch with fewer samples than
    `count` has a part for each sample. All ranks have equally many parts, because the ranks compute some operations together.
    """
    size = len(batch.targets)
    fewest = size - (batch.loss_weight > 1)  # samples of the rank with the fewest
    parts = zip(*(torch.tensor_split(tensor, min(count, fewest)) for tensor in (batch.inputs, batch.targets)), strict=True)
    return [Batch(inputs, targets, batch.loss_weight * len(targets) / size) for inputs, targets in parts]
