"""Weights on disk are read back exactly, or refused."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reprise.data import store
from reprise.errors import UserError
from reprise.tracking.weights import load_weights, save_weights

WEIGHTS = {"layer.weight": torch.randn(3, 4), "layer.bias": torch.zeros(3), "norm.num_batches_tracked": torch.tensor(7)}


def with_hash(file: Path) -> Path:
    """Write the matching hash file, as an attacker would. Return the file."""
    file.with_suffix(".sha256").write_text(f"{store.sha256(file)}  {file.name}\n")
    return file


def test_weights_are_read_back_bit_for_bit(weights_file: Path) -> None:
    save_weights(weights_file, WEIGHTS)
    loaded = load_weights(weights_file)
    assert loaded.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        assert torch.equal(loaded[name], weight)
        assert loaded[name].dtype == weight.dtype
    assert sorted(path.name for path in weights_file.parent.iterdir()) == ["best.safetensors", "best.sha256"]


def test_the_same_weights_make_the_same_file(tmp_path: Path) -> None:
    """Also if they are views or require gradients."""
    transposed = {**WEIGHTS, "layer.weight": WEIGHTS["layer.weight"].T.contiguous().T.requires_grad_()}
    for name, weights in (("a", WEIGHTS), ("b", transposed)):
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / "best.safetensors", weights)
    assert (tmp_path / "a" / "best.safetensors").read_bytes() == (tmp_path / "b" / "best.safetensors").read_bytes()


def test_new_weights_replace_the_old(weights_file: Path) -> None:
    save_weights(weights_file, {"weight": torch.zeros(2)})
    save_weights(weights_file, {"weight": torch.ones(2)})
    assert load_weights(weights_file)["weight"].tolist() == [1.0, 1.0]


@given(st.data())
def test_a_flipped_bit_is_detected_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.getbasetemp() / "flipped.pt"
    save_weights(file, WEIGHTS)
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"flipped\.pt is not what was written \(sha256 differs\); train again$"):
        load_weights(file)


def test_missing_weights_are_reported_with_the_remedy(weights_file: Path) -> None:
    with pytest.raises(UserError, match=r"^no weights .*best\.safetensors; train first$"):
        load_weights(weights_file)
    save_weights(weights_file, WEIGHTS)
    weights_file.with_suffix(".sha256").write_text("")
    with pytest.raises(UserError, match="not what was written"):
        load_weights(weights_file)
    weights_file.with_suffix(".sha256").unlink()
    with pytest.raises(UserError, match="train first"):
        load_weights(weights_file)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def zipped(file: Path, content: object) -> None:
    torch.save(content, file)


def plainly_pickled(file: Path, content: object) -> None:
    file.write_bytes(pickle.dumps(content))


def of_torch_before_1_6(file: Path, content: object) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [zipped, plainly_pickled, of_torch_before_1_6])
def test_a_malicious_file_is_refused_and_not_executed(weights_file: Path, write: Callable[[Path, object], None]) -> None:
    trap = weights_file.with_name("trap")
    write(weights_file, {"weight": Trap(trap)})
    with pytest.raises(UserError) as refused:
        load_weights(with_hash(weights_file))
    assert str(refused.value) == f"{weights_file} contains something other than weights, and was not loaded; train again"
    assert not trap.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, {"weight": [torch.zeros(2)]}, torch.zeros(2)])
def test_only_named_tensors_are_accepted_as_weights(weights_file: Path, content: object) -> None:
    torch.save(content, weights_file)
    with pytest.raises(UserError, match="contains something other than weights"):
        load_weights(with_hash(weights_file))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_invalid_files_are_refused(weights_file: Path, content: bytes) -> None:
    weights_file.write_bytes(content)
    with pytest.raises(UserError, match="contains something other than weights"):
        load_weights(with_hash(weights_file))


def test_other_zip_files_are_refused(weights_file: Path) -> None:
    with zipfile.ZipFile(weights_file, "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(UserError, match="contains something other than weights"):
        load_weights(with_hash(weights_file))
