"""Gradient accumulation (`trainer.accumulate`): a step computes its batch in parts, one after another.

Each part has its own forward and backward pass, and the gradients are added. Activations then need the memory of one part. The
step stays one step: of the loader, the schedule, the optimizer and checkpoints.
"""

import torch

from reprise.data.datasets import Batch


def parts_of(batch: Batch, count: int, full: int) -> list[Batch]:
    """Return the parts of a batch as views, with sizes that differ by at most 1, each weighted by its share of the samples.

    The sum of the weighted mean losses is the mean loss of the batch, so the sum of the gradients is its gradient. A penalty of
    the network has the same weight: if it does not depend on the samples, it counts once. All ranks have equally many parts,
    because the ranks compute some operations together.

    Args:
        batch: the batch of this rank.
        count: the number of parts of a full batch. A smaller one, the last of an epoch, has fewer parts of about the same size,
            and none of a single sample unless a full batch has: batch norm cannot compute its statistics from it.
        full: the number of samples of a full batch, on the rank with the fewest; not less than `count`.

    """
    size = len(batch.targets)
    fewest = size - (batch.loss_weight > 1)  # samples of the rank with the fewest
    number = min(-(-fewest * count // full), max(1, fewest // min(2, full // count)))
    parts = zip(*(torch.tensor_split(tensor, number) for tensor in (batch.inputs, batch.targets)), strict=True)
    return [Batch(inputs, targets, batch.loss_weight * len(targets) / size) for inputs, targets in parts]
