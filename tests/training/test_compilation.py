"""A compiled network is the same network: its weights keep their names, and what the compiler refuses is one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reprise.config import TrainerConfig
from reprise.errors import UserError
from reprise.models.convnet import Block, Dense
from reprise.tasks.classification import Classification
from reprise.training import compilation
from tests.training.conftest import CLASSES, ConvNet, Trained, images, trainer_config

Prepare = Callable[[nn.Module], None]


def trained(prepare: Prepare) -> Trained:
    torch.manual_seed(0)
    network = ConvNet([6, 6, 1], 3, [Block(4, batch_norm=True)], [Dense(8, 0.0)])
    prepare(network)
    return Trained(network, Classification(CLASSES), images(38, 1), images(15, 2))


def test_a_compiled_network_trains_to_the_same_weights_under_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "eager")  # traces as every backend does, and computes as without
    compiled, plain = trained(compilation.compile_network), trained(lambda network: None)
    assert compiled.weights[-1].keys() == plain.weights[-1].keys()
    for name, weight in plain.weights[-1].items():
        assert torch.equal(compiled.weights[-1][name], weight), name
    assert [row["val/loss"] for row in compiled.rows] == [row["val/loss"] for row in plain.rows]


def test_a_network_that_the_compiler_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(compilation, "BACKEND", refuse)
    with (
        pytest.raises(UserError, match=r"trainer.compile=true: RuntimeError: No working C\+\+ compiler found; install"),
        compilation.compiler_errors(),
    ):
        trained(compilation.compile_network)


def test_an_error_of_the_network_itself_is_not_the_compilers() -> None:
    with pytest.raises(ZeroDivisionError), compilation.compiler_errors():
        print(1 / 0)


def test_compile_is_left_out_of_a_config_that_does_not_set_it() -> None:
    assert "compile" not in trainer_config().model_dump()
    assert trainer_config(compile=True).model_dump()["compile"] is True
    with pytest.raises(ValueError, match="strategy=fsdp shards the network"):
        TrainerConfig(**trainer_config().model_dump() | {"strategy": "fsdp", "compile": True})
