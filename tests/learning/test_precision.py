"""Which number format a network computes in."""

from pathlib import Path

import pytest
import torch

from reprise.errors import UserError
from reprise.learning import precision

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


def test_fp16_on_a_processor_is_refused_and_not_replaced() -> None:
    with pytest.raises(UserError, match=r"^trainer.precision=fp16 needs a GPU; take bf16 or float32$"):
        precision.resolve("fp16", CPU, tolerates_bf16=True)
