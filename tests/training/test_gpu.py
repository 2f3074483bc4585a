"""Training on a GPU: the host never waits for it within an epoch."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reprise.config import AugmentConfig
from reprise.data.augment import Augment
from reprise.data.datasets import Augmentation, Dataset
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.patch_tst import PatchTST
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.task import Task
from tests.training.conftest import CLASSES, SERIES, Trained, images, windows
from tests.training.waiting import ForbidWaiting

META = torch.device("meta")
"""A device without values: reading one raises, as it would make the host wait for a GPU."""
ROWS = torch.arange(32, device=META)
ALL = AugmentConfig(flip=0.5, shift=1, rotate=10, scale=0.1, shear=5, elastic=1, erase=0.3)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Copied(TorchDispatchMode):
    """Finds the operations that read a tensor made from numbers of the host, which is copied to the device in every step.

    Args:
        known: the tensors on the device before the step.

    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.known = {id(tensor): tensor for tensor in known}
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and remember its outputs."""
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.device == META]
        if any(id(tensor) not in self.known for tensor in read):
            self.found.append(str(func))
        output = func(*args, **(kwargs or {}))
        self.known |= {id(leaf): leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)}
        return output


def copied_in_a_step(split: Dataset, network: nn.Module, task: Task, augment: Augmentation | None = None) -> list[str]:
    """Return the operations of a step, without the backward pass, that read what was copied for it."""
    split, network, task, metrics = split.to(META), network.to(META), task.to(META), task.new_metrics(META)
    modules = [network, task, getattr(split, "transform", nn.Module())]
    known = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    known += [
        value
        for value in (*vars(split).values(), *vars(metrics).values(), *metrics.state.values(), ROWS)
        if torch.is_tensor(value)
    ]
    with Copied(known) as copied, torch.no_grad():
        batch = split.gather(ROWS, augment)
        predictions = task.decode(network(batch.inputs), batch.inputs)
        task.loss(predictions, batch.targets)
        metrics.update(predictions, batch.targets)
        metrics._flush()
    return copied.found


@pytest.mark.parametrize("augment", [None, partial(Augment(ALL, 0), rows=ROWS, epoch=1)], ids=["plain", "augmented"])
def test_a_step_on_images_copies_nothing_to_the_device(augment: Augmentation | None) -> None:
    network = ConvNet([6, 6, 1], 3, [Block(4, batch_norm=True)], [Dense(8, 0.3)])
    assert copied_in_a_step(images(70, 1), network, Classification(CLASSES), augment) == []


def test_a_step_on_one_target_of_a_series_copies_nothing_to_the_device() -> None:
    network = PatchTST([5, 2], 2, [1], patch=2, stride=1, features=4, feed_forward=8)
    assert copied_in_a_step(windows(70, 1), network, Forecasting(SERIES)) == []


def test_a_list_as_index_is_copied_in_every_step() -> None:
    class Indexed(Forecasting):
        def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
            return torch.unflatten(outputs, 1, self.output_shape) + inputs[:, -1:, [1]]

    network = PatchTST([5, 2], 2, [1], patch=2, stride=1, features=4, feed_forward=8)
    assert copied_in_a_step(windows(70, 1), network, Indexed(SERIES)) != []


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_step_waits_for_the_gpu(learn: Callable[..., Trained], precision: str) -> None:
    forbidden = ForbidWaiting()
    trained = learn(accelerator="gpu", precision=precision, callbacks=[forbidden])
    assert forbidden.steps == 10
    assert all(weight.is_cuda for weight in trained.weights[-1].values())
