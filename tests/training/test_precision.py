"""The number format in which a network computes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reprise.errors import UserError
from reprise.tasks.classification import Classification
from reprise.training import precision
from reprise.training.memory import clock
from reprise.training.trainer import make_trainer
from tests.training.conftest import CLASSES, trainer_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("tolerates", [False, True])
@pytest.mark.parametrize("device", [CPU, GPU])
def test_auto_is_bf16_if_the_device_supports_it_and_the_task_tolerates_it(
    device: torch.device, native: bool, tolerates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0) if native else (7, 5))
    monkeypatch.setattr(Path, "read_text", lambda _: "flags: avx2 avx512_bf16" if native else "flags: avx2 avx512f")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert precision.resolve("auto", device, tolerates) == ("bf16" if native and tolerates else "float32")


def test_a_processor_with_unknown_features_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert precision.resolve("auto", CPU, tolerates_bf16=True) == "float32"


@pytest.mark.parametrize("tolerates", [False, True])
def test_an_explicit_precision_is_used(tolerates: bool) -> None:
    for name in ("float32", "bf16"):
        assert precision.resolve(name, CPU, tolerates) == name
    assert precision.resolve("fp16", GPU, tolerates) == "fp16"


@pytest.mark.parametrize("name", ["fp16", "tf32"])
def test_gpu_formats_are_refused_on_a_cpu(name: str) -> None:
    with pytest.raises(UserError, match=rf"^trainer.precision={name} needs a GPU; use bf16 or float32$"):
        precision.resolve(name, CPU, tolerates_bf16=True)


@pytest.fixture
def _restore_flags() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def float32_formats() -> list[str]:
    """Return the formats of matrix products, convolutions and recurrent layers on a GPU."""
    return [
        "tf32" if part.fp32_precision == "tf32" else "ieee"
        for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    ]


@pytest.mark.usefixtures("_restore_flags")
@pytest.mark.parametrize("before", [False, True])
def test_float32_also_holds_for_convolutions(before: bool) -> None:
    """PyTorch's default is TF32 there, which keeps 10 of 23 bits of the mantissa."""
    torch.backends.cudnn.allow_tf32 = before
    make_trainer(trainer_config(precision="float32"), Classification(CLASSES))
    assert float32_formats() == ["ieee"] * 3
    with torch.backends.cudnn.flags(enabled=False):  # reads the flags, and raises where they contradict each other
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("_restore_flags")
def test_tf32_is_used_if_requested() -> None:
    precision.set_tf32(True)
    assert float32_formats() == ["tf32"] * 3
    assert torch.get_float32_matmul_precision() == "high"


def test_the_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is read after the wait, so the last steps count."""
    waited: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    monkeypatch.setattr("time.perf_counter", lambda: float(len(waited)))
    assert clock(GPU) == 1.0
    assert clock(CPU) == 1.0
    assert waited == [GPU]
