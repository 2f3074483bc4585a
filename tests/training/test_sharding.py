"""FSDP2 on two processes: each holds half of the network, and the result equals that of one process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from reprise.training.fingerprint import fingerprint
from reprise.training.sharding import blocks
from tests.training import sharded

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["images", "series"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The saved states of both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [sys.executable, *launch, "-m", "tests.training.sharded", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_holds_half_of_the_weights_and_of_the_optimizer_state(ranks: list[dict[str, Any]], kind: str) -> None:
    total = ranks[0][f"{kind} ddp"]["local"]
    for key in ("local", "moments"):
        counts = [rank[f"{kind} fsdp"][key] for rank in ranks]
        assert sum(counts) == total == ranks[0][f"{kind} fsdp"]["parameters"]
        assert max(counts) < 0.55 * total  # a weight's rows are split, and may be odd in number
    assert [rank[f"{kind} ddp"]["moments"] for rank in ranks] == [total, total]


def test_blocks_are_gathered_one_at_a_time(ranks: list[dict[str, Any]]) -> None:
    largest = 3 * 3 * 16 * 16  # weights of a convolution, of which there are two
    assert [rank["images fsdp"]["gathered"] for rank in ranks] == [largest, largest]
    assert largest < 0.5 * ranks[0]["images ddp"]["parameters"]
    assert ranks[0]["images ddp"]["gathered"] == ranks[0]["images ddp"]["parameters"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_metrics_equal_those_of_ddp(ranks: list[dict[str, Any]], kind: str) -> None:
    """Batch statistics are per rank, as with DDP. The gradient norm for clipping is summed in another order."""
    ddp, fsdp = (ranks[0][f"{kind} {strategy}"] for strategy in ("ddp", "fsdp"))
    assert fsdp["best"].keys() == ddp["best"].keys()
    for name, weight in ddp["best"].items():
        torch.testing.assert_close(fsdp["best"][name], weight, rtol=1e-4, atol=1e-6)
    for one, other in zip(fsdp["rows"], ddp["rows"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_one_process_gives_the_same_result(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = sharded.train("series", "single", tmp_path)
    for name, weight in alone["best"].items():
        torch.testing.assert_close(ranks[0]["series fsdp"]["best"][name], weight, rtol=1e-4, atol=1e-6)
    for one, other in zip(ranks[0]["series fsdp"]["rows"], alone["rows"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_resumed_within_an_epoch_ends_with_the_same_bits(ranks: list[dict[str, Any]], kind: str) -> None:
    undisturbed, resumed = ranks[0][f"{kind} fsdp"], ranks[0][f"{kind} resumed"]
    assert same(resumed["end"], undisturbed["end"])
    assert same(resumed["best"], undisturbed["best"])
    assert resumed["rows"] == undisturbed["rows"][1:]


def test_parts_of_batches_on_two_ranks_give_the_result_of_whole_batches_on_one(
    ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    """DDP reduces the gradient once in each of the 12 steps, not in each part."""
    alone = sharded.train("series", "single", tmp_path, batch_size=13)
    for strategy in ("ddp", "fsdp"):
        result = ranks[0][f"parts {strategy}"]
        for name, weight in alone["best"].items():
            torch.testing.assert_close(result["best"][name], weight, rtol=1e-4, atol=1e-6)
        for one, other in zip(result["rows"], alone["rows"], strict=True):
            assert one == pytest.approx(other, rel=1e-4)
    assert [rank["parts ddp"]["reductions"] for rank in ranks] == [12, 12]


class CustomBlock(nn.Module):
    """A block of a user, with a part that is used without being called."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)


def test_blocks_of_containers_wrappers_and_tied_weights() -> None:
    layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
    assert blocks(layers) == [layers[0], layers[2][0]]
    listed = nn.Sequential(nn.ModuleList([CustomBlock(4), CustomBlock(4)]), nn.Linear(4, 2))
    assert blocks(listed) == [*listed[0], listed[1]]  # type: ignore[misc]
    wrapped = nn.ModuleDict({"backbone": nn.Sequential(*[CustomBlock(4) for _ in range(3)])})
    assert blocks(wrapped) == [*wrapped["backbone"]]
    one_large = nn.Sequential(CustomBlock(8), nn.Linear(8, 1))
    assert blocks(one_large) == [one_large[0].inner, one_large[0].outer, one_large[1]]
    attention = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 1))
    assert blocks(attention) == [attention[0], attention[1]]  # its parts are not called
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    assert blocks(tied) == [tied[1]]


def test_the_fingerprint_of_a_sharded_tensor_is_that_of_the_whole_one(tmp_path: Path) -> None:
    """A training with trainer=fsdp on one device takes fingerprints."""
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        whole = torch.arange(12.0).view(4, 3)
        sharded = distribute_tensor(whole, init_device_mesh("cpu", (1,)), [Shard(0)])
        assert fingerprint({"weight": sharded}) == fingerprint({"weight": whole})
    finally:
        distributed.destroy_process_group()
