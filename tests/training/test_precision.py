"""Which number format a network computes in."""

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
def test_auto_is_bf16_where_the_device_has_it_and_the_task_bears_it(
    device: torch.device, native: bool, tolerates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0) if native else (7, 5))
    monkeypatch.setattr(Path, "read_text", lambda _: "flags: avx2 avx512_bf16" if native else "flags: avx2 avx512f")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert precision.resolve("auto", device, tolerates) == ("bf16" if native and tolerates else "float32")


def test_a_processor_that_does_not_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert precision.resolve("auto", CPU, tolerates_bf16=True) == "float32"


@pytest.mark.parametrize("tolerates", [False, True])
def test_what_is_asked_for_by_name_is_taken(tolerates: bool) -> None:
    for wanted in ("float32", "bf16"):
        assert precision.resolve(wanted, CPU, tolerates) == wanted
    assert precision.resolve("fp16", GPU, tolerates) == "fp16"


@pytest.mark.parametrize("wanted", ["fp16", "tf32"])
def test_formats_that_only_a_gpu_has_are_refused_on_a_cpu_and_not_replaced(wanted: str) -> None:
    with pytest.raises(UserError, match=rf"^trainer.precision={wanted} needs a GPU; take bf16 or float32$"):
        precision.resolve(wanted, CPU, tolerates_bf16=True)


@pytest.fixture
def _flags_are_put_back() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def float32_formats() -> list[str]:
    """Of matrix products, convolutions and recurrent layers on a GPU."""
    return [
        "tf32" if part.fp32_precision == "tf32" else "ieee"
        for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    ]


@pytest.mark.usefixtures("_flags_are_put_back")
@pytest.mark.parametrize("before", [False, True])
def test_float32_is_float32_in_convolutions_too(before: bool) -> None:
    """PyTorch's default is TF32 there, which keeps 10 of 23 bits of the mantissa."""
    torch.backends.cudnn.allow_tf32 = before
    make_trainer(trainer_config(precision="float32"), Classification(CLASSES))
    assert float32_formats() == ["ieee"] * 3
    with torch.backends.cudnn.flags(enabled=False):  # reads the flags, and raises where they contradict each other
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("_flags_are_put_back")
def test_tf32_is_taken_where_it_is_asked_for() -> None:
    precision.set_tf32(True)
    assert float32_formats() == ["tf32"] * 3
    assert torch.get_float32_matmul_precision() == "high"


def test_a_clock_waits_for_what_a_gpu_has_still_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is read after the wait, so the last steps count."""
    waited: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    monkeypatch.setattr("time.perf_counter", lambda: float(len(waited)))
    assert clock(GPU) == 1.0
    assert clock(CPU) == 1.0
    assert waited == [GPU]
