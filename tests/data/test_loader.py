"""An epoch contains every sample once, in an order that depends on (seed, epoch) only, for any number of ranks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reprise.data.datasets import Augmentation, Batch
from reprise.data.loader import AHEAD, EvalLoader, TrainLoader, _copied_ahead, _streamed, epoch_order, move_to_device
from reprise.data.modalities.images.tensors import Images, Normalize

CPU = torch.device("cpu")
LENGTHS, BATCHES, WORLDS = st.integers(1, 60), st.integers(1, 25), st.integers(1, 5)
quick = settings(max_examples=80, deadline=None)


@dataclass(frozen=True)
class Numbered:
    """A split whose sample `i` has the input `i / 3` and the target `i`."""

    length: int
    device: torch.device = CPU
    nbytes: int = 0
    sample_nbytes: int | None = None

    def __len__(self) -> int:
        return self.length

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        return Batch(rows.to(torch.float32)[:, None] / 3, rows)

    def raw(self, rows: Tensor) -> Tensor:
        return rows

    def to(self, device: torch.device) -> "Numbered":
        return replace(self, device=device)


def train(length: int, batch_size: int, rank: int = 0, world: int = 1, seed: int = 0, epoch: int = 0) -> TrainLoader:
    return TrainLoader(Numbered(length), batch_size, seed, CPU, rank, world, epoch=epoch)


def samples(batches: list[Batch]) -> list[int]:
    return [sample for batch in batches for sample in batch.targets.tolist()]


# --- training


@quick
@given(LENGTHS, BATCHES, st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_contains_every_sample_once(length: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = list(train(length, batch_size, seed=seed, epoch=epoch))
    assert sorted(samples(batches)) == list(range(length))
    assert [len(batch.targets) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(batch.loss_weight == 1.0 for batch in batches)


@quick
@given(LENGTHS, st.integers(0, 2**40), st.integers(0, 1000), BATCHES, BATCHES)
def test_the_order_depends_only_on_seed_and_epoch(length: int, seed: int, epoch: int, one: int, other: int) -> None:
    torch.manual_seed(one)
    first = samples(list(train(length, one, seed=seed, epoch=epoch)))
    torch.manual_seed(other)
    torch.rand(other)
    later = train(length, other, seed=seed)
    list(later)  # an epoch that was run before changes nothing
    later.set_epoch(epoch)
    assert samples(list(later)) == first


@quick
@given(st.integers(1, 300), st.sampled_from([7, 16, 32]), st.integers(1, 2**12), st.integers(0, 20))
def test_batches_gathered_together_are_those_gathered_alone(length: int, batch_size: int, nbytes: int, start: int) -> None:
    alone, together = train(length, batch_size), TrainLoader(Numbered(length, sample_nbytes=nbytes), batch_size, 0, CPU)
    for loader in (alone, together):
        loader.load_state_dict({"given": start})
    for number, (one, other) in enumerate(zip(alone, together, strict=True), start % len(alone) + 1):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert (one.loss_weight, alone.given) == (other.loss_weight, together.given) == (1.0, number)
        assert other.inputs.is_contiguous()
        assert batch_size == 7 or (other.inputs.data_ptr() % 64, other.targets.data_ptr() % 64) == (0, 0)


def test_small_batches_are_gathered_together_but_never_for_several_ranks_or_with_another_alignment() -> None:
    def together(size: int | None, rows: int, world: int = 1) -> int:
        return TrainLoader(Numbered(10, sample_nbytes=size), rows, 0, CPU, world=world).batches_together

    assert (together(1024, 32), together(2**16, 32)) == (32, 1)
    assert (together(1024, 33), together(None, 32), together(1024, 32, world=2)) == (1, 1, 1)


def test_images_gathered_together_are_those_gathered_alone() -> None:
    pixels = torch.arange(100 * 8 * 8 * 3).view(100, 8, 8, 3).to(torch.uint8)
    images = Images(pixels, torch.arange(100), torch.arange(90).flip(0), Normalize(torch.tensor([9.0]), torch.tensor([3.0])))
    assert images.sample_nbytes == images.gather(torch.tensor([0])).inputs.nbytes
    loader = TrainLoader(images, 16, 0, CPU)
    assert loader.batches_together > 1
    for batch, rows in zip(loader, torch.split(epoch_order(90, 0, 0), 16), strict=True):
        alone = images.gather(rows)
        assert torch.equal(batch.inputs, alone.inputs)
        assert torch.equal(batch.targets, alone.targets)


@quick
@given(LENGTHS, BATCHES, WORLDS, st.integers(0, 20))
def test_arrays_read_from_disk_give_the_same_batches(length: int, batch_size: int, world: int, start: int) -> None:
    """A data set of 2**60 bytes fits into no memory."""
    for rank in range(world):
        in_memory, on_disk = (
            TrainLoader(Numbered(length, nbytes=nbytes, sample_nbytes=4), batch_size, 0, CPU, rank, world)
            for nbytes in (0, 2**60)
        )
        if not len(in_memory):
            continue
        for loader in (in_memory, on_disk):
            loader.load_state_dict({"given": start})
        assert samples(list(in_memory)) == samples(list(on_disk))
        assert in_memory.given == on_disk.given
    small, large = (EvalLoader(Numbered(length, nbytes=nbytes), batch_size, CPU) for nbytes in (0, 2**60))
    assert samples(list(small)) == samples(list(large))


def test_every_seed_and_every_epoch_has_a_different_order() -> None:
    orders = {tuple(epoch_order(100, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_drawing_an_order_does_not_change_the_global_generator() -> None:
    before = torch.get_rng_state()
    epoch_order(100, 1, 2)
    assert torch.equal(torch.get_rng_state(), before)


@quick
@given(LENGTHS, WORLDS, st.data())
def test_the_ranks_split_the_batches_of_one_process(length: int, world: int, data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(world, world + 20))
    alone = list(train(length, batch_size))
    ranks = [train(length, batch_size, rank, world) for rank in range(world)]
    assert len({len(loader) for loader in ranks}) == 1
    per_rank = [list(loader) for loader in ranks]
    left_out = len(alone) - len(ranks[0])
    assert left_out == (0 < length % batch_size < world)
    for batch, parts in zip(alone, zip(*per_rank, strict=True), strict=False):
        assert samples(list(parts)) == batch.targets.tolist()
        assert all(len(part.targets) for part in parts)


@quick
@given(LENGTHS, WORLDS, st.data())
def test_the_mean_over_ranks_of_the_weighted_loss_is_the_loss_of_the_whole_batch(
    length: int, world: int, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(world, world + 20))
    alone = list(train(length, batch_size))
    for batch, parts in zip(
        alone, zip(*(train(length, batch_size, rank, world) for rank in range(world)), strict=True), strict=False
    ):
        mean = sum(part.loss_weight * part.targets.double().mean().item() for part in parts) / world
        assert mean == pytest.approx(batch.targets.double().mean().item(), rel=1e-12)
        assert sum(part.loss_weight for part in parts) == pytest.approx(world)
        if len(batch.targets) % world == 0:
            assert [part.loss_weight for part in parts] == [1.0] * world


@quick
@given(LENGTHS, BATCHES, WORLDS)
def test_the_length_of_a_loader_is_its_number_of_batches(length: int, batch_size: int, world: int) -> None:
    for loader in (train(length, max(batch_size, world), 0, world), EvalLoader(Numbered(length), batch_size, CPU, 0, world)):
        assert len(list(loader)) == len(loader)


# --- evaluation


@quick
@given(LENGTHS, BATCHES, WORLDS)
def test_evaluation_counts_every_sample_once_in_order(length: int, batch_size: int, world: int) -> None:
    per_rank = [list(EvalLoader(Numbered(length), batch_size, CPU, rank, world)) for rank in range(world)]
    counted = [[batch for batch in batches if batch.loss_weight] for batches in per_rank]
    turns = [ranks[turn] for turn in range(len(counted[0])) for ranks in counted if turn < len(ranks)]
    assert samples(turns) == list(range(length))


@quick
@given(LENGTHS, BATCHES, WORLDS)
def test_evaluation_batches_are_the_same_for_any_number_of_ranks(length: int, batch_size: int, world: int) -> None:
    alone = [samples([batch]) for batch in EvalLoader(Numbered(length), batch_size, CPU)]
    for rank in range(world):
        per_rank = [samples([batch]) for batch in EvalLoader(Numbered(length), batch_size, CPU, rank, world) if batch.loss_weight]
        assert per_rank == alone[rank::world]


@quick
@given(LENGTHS, BATCHES, WORLDS)
def test_all_ranks_have_equally_many_batches_and_extra_ones_have_weight_zero(length: int, batch_size: int, world: int) -> None:
    needed = -(-length // batch_size)
    for rank in range(world):
        batches = list(EvalLoader(Numbered(length), batch_size, CPU, rank, world))
        own = len(range(rank, needed, world))
        assert [batch.loss_weight for batch in batches] == [1.0] * own + [0.0] * (-(-needed // world) - own)
        if own < len(batches):
            assert samples(batches[own:]) == list(range(min(batch_size, length)))


# --- streaming


@quick
@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=9), max_size=9), st.data())
def test_streaming_gives_the_same_bits_as_gathering(parts: list[list[int]], data: st.DataObject) -> None:
    shares = [data.draw(st.sampled_from([0.0, 1.0, 1.25])) for _ in parts]
    rows = [(torch.tensor(part), share) for part, share in zip(parts, shares, strict=True)]
    streamed = list(_streamed(Numbered(50).gather, rows, CPU))
    for (part, share), batch in zip(rows, streamed, strict=True):
        direct = Numbered(50).gather(part)
        assert torch.equal(batch.inputs, direct.inputs)
        assert torch.equal(batch.targets, direct.targets)
        assert batch.loss_weight == share


def test_a_bounded_number_of_batches_is_gathered_ahead_in_another_thread() -> None:
    gathered: list[tuple[int, str]] = []

    class Watched(Numbered):
        def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
            gathered.append((int(rows[0]), threading.current_thread().name))
            return super().gather(rows)

    batches = _streamed(Watched(50).gather, [(torch.tensor([number]), 1.0) for number in range(20)], CPU)
    for number in range(3):
        assert next(batches).targets.tolist() == [number]
    batches.close()  # type: ignore[attr-defined]
    assert [row for row, _ in gathered] == list(range(len(gathered)))
    assert len(gathered) == 3 + AHEAD
    assert threading.current_thread().name not in {thread for _, thread in gathered}


def test_an_error_while_gathering_ahead_is_raised_in_the_training() -> None:
    class Broken(Numbered):
        def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(_streamed(Broken(50).gather, [(torch.tensor([0]), 1.0)], CPU))


@dataclass(eq=False)
class Stream:
    """A stream of a GPU, which knows the operations that precede whatever is queued next."""

    device: torch.device = CPU
    before: set[str] = field(default_factory=set)

    def wait_stream(self, other: "Stream") -> None:
        self.before |= other.before

    def record_event(self) -> frozenset[str]:
        return frozenset(self.before)

    def wait_event(self, event: frozenset[str]) -> None:
        self.before |= event


def test_a_batch_is_copied_while_the_network_computes_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step comes after the copy of its batch, and not after the next copy. A copy comes after the steps of freed batches."""
    network, copies = Stream(), Stream()
    copied: list[str] = []

    @contextmanager
    def on_stream(stream: Stream) -> Iterator[None]:
        assert stream is copies
        yield
        assert {f"step {number}" for number in range(len(copied) - 1)} <= stream.before
        copied.append(f"copy {len(copied)}")
        stream.before.add(copied[-1])

    monkeypatch.setattr("reprise.data.loader._copy_stream", lambda device: copies)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: network)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    batches = [Numbered(50).gather(torch.tensor([number]))._replace(loss_weight=number) for number in range(5)]
    for number, batch in enumerate(_copied_ahead(batches, CPU)):
        assert batch == batches[number]
        assert len(copied) == min(number + 2, 5)
        assert f"copy {number}" in network.before
        assert f"copy {number + 1}" not in network.before
        network.before.add(f"step {number}")
    assert number == 4


@pytest.mark.parametrize(
    ("preload_to_device", "device"),
    [(True, "meta"), (False, "cpu"), ("auto", "meta")],  # meta is not a GPU, so memory is not checked
)
def test_preload_to_device_decides_the_device_of_the_arrays(preload_to_device: bool | str, device: str) -> None:
    assert move_to_device(Numbered(9), torch.device("meta"), preload_to_device).device == torch.device(device)


@pytest.mark.parametrize(("nbytes", "device"), [(499, "cuda"), (501, "cpu")])
def test_arrays_stay_on_the_host_if_they_would_fill_half_of_the_gpu(
    nbytes: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda of: (1000, 2000))
    assert move_to_device(Numbered(9, nbytes=nbytes), torch.device("cuda"), "auto").device.type == device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_streamed_batches_equal_batches_gathered_on_the_gpu() -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (500, 8, 8, 3), dtype=torch.uint8, generator=draw)
    images = Images(pixels, torch.arange(500), torch.arange(500), Normalize(torch.full((3,), 100.0), torch.full((3,), 37.0)))
    gpu = torch.device("cuda", 0)
    streamed, preload_to_device = (
        list(TrainLoader(move_to_device(images, gpu, preload), 64, 0, gpu)) for preload in (False, True)
    )
    for one, other in zip(streamed, preload_to_device, strict=True):
        assert one.inputs.device == other.inputs.device == gpu
        assert torch.equal(one.targets, other.targets)
        torch.testing.assert_close(one.inputs, other.inputs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_batch_is_not_overwritten_while_it_is_used() -> None:
    """The network is slower than the copies, and lets go of each batch before it has been computed."""
    gpu = torch.device("cuda", 0)
    rows = [(torch.arange(start, start + 4096), 1.0) for start in range(0, 40 * 4096, 4096)]
    sums = []
    for batch in _streamed(Numbered(40 * 4096).gather, rows, gpu):
        torch.cuda._sleep(2_000_000)
        sums.append(batch.targets.sum())
        del batch
    assert torch.stack(sums).tolist() == [int(part.sum()) for part, _ in rows]
