"""Answers of a GPU: inputs are moved to it and answers come back. Without one, a device without values takes its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reprise.data.modalities.images.decoding import Tiles
from reprise.data.modalities.sequences.tensors import input_transform as sequence_transform
from reprise.data.modalities.series.tensors import input_transform as series_transform
from reprise.errors import UserError
from reprise.inference import explain_sequences, explanation, tiles
from reprise.inference.attribution import occlusion, recurrent_gradients
from reprise.inference.compute import classifier, forecaster
from reprise.inference.device import on_device
from reprise.inference.intervals import Intervals
from reprise.inference.predict_sequences import Inputs
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.models.convnet import Block, ConvNet
from reprise.models.recurrent import Recurrent
from reprise.tasks.build import build_transform
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from tests.inference import test_explain_over_time as over_time
from tests.metas import sequence_meta, series_meta
from tests.training.conftest import CLASSES

GPU = torch.device("meta")
COPIES = ("aten._to_copy", "aten.to.", "aten.copy_", "aten._copy_from")
INDEXING = ("aten.index.", "aten.index_put", "aten._index_put")
"""The indices of a tensor on a GPU may be on the CPU."""


class SimulatedGpu(TorchDispatchMode):
    """Refuses, as a GPU does, to compute with tensors of two devices. Values that are read are zeros."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        name, kwargs = str(func), kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name.startswith(COPIES) and args[0].device == GPU and kwargs.get("device") == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if name.startswith("aten._local_scalar_dense") and args[0].device == GPU:
            return 0
        if name.startswith("aten.equal") and args[0].device == GPU:
            return False
        checked = args[:1] if name.startswith(INDEXING) and args[0].device == GPU else tensors
        devices = {tensor.device for tensor in checked if tensor.dim() or tensor.device == GPU}
        if len(devices) > 1 and not name.startswith(COPIES):
            raise AssertionError(f"{name} got tensors of {devices}")
        return func(*args, **kwargs)


def series_predictor(**changes: Any) -> Predictor:
    meta = series_meta(("y",), ("other", "y"), lookback=14, horizon=2, calendar=["day", "year"], **changes)
    channels = 2 + 4
    network = Recurrent([14, channels], 2 * 3, "lstm", 4)
    return Predictor(series_transform(meta), network, Forecasting(meta, quantiles=[0.1, 0.5, 0.9]))


def image_predictor() -> Predictor:
    return Predictor(build_transform(CLASSES), ConvNet([6, 6, 1], 3, [Block(4, batch_norm=True)], []), Classification(CLASSES))


def pictures() -> Any:
    return np.zeros((5, 6, 6, 1), np.uint8)


def test_the_simulation_finds_inputs_that_were_not_moved() -> None:
    with SimulatedGpu(), pytest.raises(AssertionError, match="got tensors of"):
        image_predictor().to(GPU)(torch.from_numpy(pictures()))


def test_classes_and_their_explanation_are_computed_on_the_device(tmp_path: Path) -> None:
    predictor = image_predictor().to(GPU)
    with SimulatedGpu():
        (probabilities,) = classifier(predictor)([torch.from_numpy(pictures())])
        of_tiles = tiles.answer(predictor, Tiles(pictures(), np.zeros((5, 2), np.int64), (6, 6)), 2)
        explanation.feature_maps(tmp_path, "run", predictor, pictures()[:1], ["one"])
        explanation.attribution(tmp_path, "run", predictor, pictures()[:1], torch.zeros(1, 3), [None])
    assert probabilities is not None
    assert probabilities.shape == of_tiles.probabilities.shape == (5, 3)
    assert {file.name for file in tmp_path.iterdir()} == {"feature_maps_conv1.png", "attribution.png"}


def test_forecasts_with_intervals_are_computed_on_the_device() -> None:
    compute = forecaster(series_predictor().to(GPU), Intervals(windows=9, half_widths={"80": [[1.0], [2.0]]}))
    raw = [torch.zeros(3, 14, 2), torch.arange(3 * 14).view(3, 14)]
    with SimulatedGpu():
        point, lower, upper = compute(raw)
    assert point is not None
    assert lower is not None
    assert upper is not None
    assert point.shape == (3, 2, 1)
    np.testing.assert_array_equal((upper - lower)[0, :, 0], [2.0, 4.0])


@pytest.mark.parametrize("masked", [False, True])
def test_an_explanation_of_sequences_is_computed_on_the_device(masked: bool) -> None:
    meta = sequence_meta(["a", "b", "c"], steps=9, channels=["x", "y"], masked=masked)
    network = Recurrent([9, 2 + masked], 3, "gru", 4, masked=masked)
    predictor = Predictor(sequence_transform(meta), network, Classification(meta)).to(GPU)
    inputs = Inputs(np.zeros((4, 9, 2), np.float32), np.full(4, 9), ["a"] * 4)
    with SimulatedGpu():
        result = explain_sequences.explain(predictor, meta, inputs, 1, "a.csv")
    assert result.attributions.shape == (9, 2)


def test_an_explanation_of_a_forecast_is_computed_on_the_device(tmp_path: Path) -> None:
    table = over_time.table_of(tmp_path / "a.csv")
    network = nn.Sequential(nn.Flatten(), nn.Linear(28, 2))
    predictor = over_time.forecaster(network, 14, 2).to(GPU)
    with SimulatedGpu():
        found = over_time.explained(predictor, table, 14, 2)
    assert found.result.attributions.shape == (14, 2)


def test_occlusion_is_computed_on_the_device() -> None:
    inputs = torch.zeros(2, 5, 3, device=GPU)
    with SimulatedGpu():
        values = occlusion(lambda batch, samples: batch.sum((1, 2))[samples, None], inputs, torch.zeros_like(inputs))
    assert values.shape == (2, 1, 5, 3)


def opened(**changes: Any) -> TrainedRun:
    parts: dict[str, Any] = dict.fromkeys(("config", "trained", "windows", "weights", "intervals", "output_folder"))
    return TrainedRun(**parts | changes)


def test_the_device_of_a_run_is_the_cpu_unless_a_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [on_device(opened(), name).device for name in ("cpu", "auto")] == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"^device gpu: PyTorch finds no GPU on this machine; use cpu or auto$"):
        on_device(opened(), "gpu")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        assert [on_device(opened(), name).device for name in ("cpu", "auto", "gpu")] == ["cpu", "cuda", "cuda"]
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_only_recurrent_networks_are_explained_without_cudnn() -> None:
    def enabled(network: nn.Module) -> bool:
        with recurrent_gradients(network):
            return torch.backends.cudnn.enabled

    assert not enabled(nn.Sequential(nn.LSTM(2, 3)))
    assert enabled(nn.Sequential(nn.Linear(2, 3)))
    assert torch.backends.cudnn.enabled
