"""Batch norm is synchronized on GPUs with DDP; elsewhere it is refused in one line. A step of it needs two GPUs."""

from typing import Any

import pytest
import torch
from torch import nn

from reprise.config import TrainerConfig, compose
from reprise.errors import UserError
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.inception_time import InceptionTime
from reprise.models.patch_tst import PatchTST
from reprise.models.resnet import ResNet, WideResNet
from reprise.training import synchronized
from reprise.training.fit import preflight
from reprise.training.initial import freeze
from reprise.training.optimizers import frozen_norms
from reprise.training.synchronized import PLAIN_NORMS, synchronize
from tests.config.conftest import ROOT, windows_for
from tests.training.conftest import trainer_config

DDP = {"strategy": "ddp", "devices": 2, "accelerator": "gpu", "sync_batch_norm": True}
NETWORKS = {
    "cnn": (lambda: ConvNet([8, 8, 1], 3, [Block(4, batch_norm=True)], [Dense(8)]), [8, 8, 1]),
    "resnet": (lambda: ResNet([8, 8, 3], 3, depth=8), [8, 8, 3]),
    "wide_resnet": (lambda: WideResNet([8, 8, 3], 3, depth=10, width=1), [8, 8, 3]),
    "inception_time": (lambda: InceptionTime([12, 2], 3), [12, 2]),
    "patch_tst": (lambda: PatchTST([8, 2], 4, [0, 1], patch=2, stride=1, features=4, feed_forward=8), [8, 2]),
}


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> TrainerConfig:
    """A config of a training on GPUs, as a machine that has some sees it."""
    monkeypatch.setattr(synchronized, "accelerator", lambda _: "gpu")
    return trainer_config(**DDP)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_are_replaced_and_keep_their_weights_names_and_results(name: str, with_gpu: TrainerConfig) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    plain = make().train()
    plain(torch.randn(4, *shape))  # running statistics other than those of a new layer
    expected, count = plain.state_dict(), sum(isinstance(module, PLAIN_NORMS) for module in plain.modules())
    inputs = torch.randn(4, *shape)
    plain.eval()
    outputs = plain(inputs)
    network = synchronize(plain, with_gpu)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in network.modules()) == count > 0
    assert not any(isinstance(module, PLAIN_NORMS) for module in network.modules())
    assert list(network.state_dict()) == list(expected)
    assert all(torch.equal(network.state_dict()[key], expected[key]) for key in expected)
    assert torch.equal(network(inputs), outputs)


def test_frozen_layers_stay_frozen(with_gpu: TrainerConfig) -> None:
    network = ConvNet([8, 8, 1], 3, [Block(4, batch_norm=True)], [Dense(8)])
    freeze(network, ["features.*"], [])
    assert len(frozen_norms(synchronize(network, with_gpu))) == 1


def test_a_network_without_batch_norm_is_refused(with_gpu: TrainerConfig) -> None:
    with pytest.raises(UserError, match=r"^trainer.sync_batch_norm=true: ConvNet has no batch norm; omit it$"):
        synchronize(ConvNet([8, 8, 1], 3, [Block(4)], [Dense(8)]), with_gpu)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPUs")
def test_a_training_without_gpus_is_refused_before_it_starts() -> None:
    overrides = ["trainer=ddp", "trainer.accelerator=auto", "trainer.sync_batch_norm=true"]
    config = compose(ROOT, ["experiment=digits_cnn", *overrides])
    with pytest.raises(UserError, match=r"^trainer.sync_batch_norm=true: computes on GPUs only, and this training has none"):
        preflight(config, windows_for(config))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accelerator": "cpu"}, "accelerator=cpu"),
        ({"devices": 1}, "devices=1"),
        ({"strategy": "fsdp"}, "strategy=fsdp"),
        ({"strategy": "single", "devices": 1}, "strategy=single"),
    ],
)
def test_it_is_refused_where_it_does_not_work(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"sync_batch_norm=true: works with trainer=ddp on several GPUs, not with {reason};"):
        trainer_config(**DDP | changes)


def test_it_is_left_out_of_a_config_that_does_not_set_it() -> None:
    assert "sync_batch_norm" not in trainer_config().model_dump()
    assert trainer_config(**DDP).model_dump()["sync_batch_norm"] is True
