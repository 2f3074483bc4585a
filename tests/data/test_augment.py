"""An augmented image depends on (seed, epoch, row) only, and its changes stay within the configured limits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor
from torch.nn.functional import grid_sample

from reprise.config import AugmentConfig, compose
from reprise.data.augment import DRAWS, ERASED_AREA, Augment, _grid, _whole_pixels, uniform
from reprise.data.loader import EvalLoader, TrainLoader, epoch_order
from reprise.data.modalities.images.tensors import Images, Normalize
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.training.fit import Training

NOTHING = {"flip": 0.0, "shift": 0, "rotate": 0.0, "scale": 0.0, "shear": 0.0, "elastic": 0.0, "erase": 0.0}
EVERYTHING = {"flip": 0.5, "shift": 2, "rotate": 10.0, "scale": 0.1, "shear": 5.0, "elastic": 1.0, "erase": 0.5}
CPU = torch.device("cpu")


def augment(seed: int = 0, **options: float) -> Augment:
    return Augment(AugmentConfig(**(NOTHING | options)), seed)  # type: ignore[arg-type]


def random_images(count: int, height: int = 12, width: int = 10, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, height, width, channels), generator=torch.Generator().manual_seed(1)).float()


# --- the numbers


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 10_000), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_draw_depends_only_on_seed_epoch_and_row(seed: int, epoch: int, rows: list[int]) -> None:
    together = uniform(seed, epoch, torch.tensor(rows), 7)
    assert ((together >= 0) & (together < 1)).all()
    for row, numbers in zip(rows, together, strict=True):
        assert torch.equal(uniform(seed, epoch, torch.tensor([row]), 7)[0], numbers)


@pytest.mark.parametrize("along", ["row", "position", "epoch", "seed"])
def test_draws_are_uniform_and_independent(along: str) -> None:
    rows = torch.arange(20_000)
    draws = {
        "row": lambda: uniform(0, 0, rows, 1).view(-1, 2),
        "position": lambda: uniform(3, 1, rows, 12),
        "epoch": lambda: torch.cat([uniform(0, epoch, rows, 1) for epoch in range(12)], 1),
        "seed": lambda: torch.cat([uniform(seed, 0, rows, 1) for seed in range(12)], 1),
    }[along]()
    columns = draws.double()
    assert (columns.mean(0) - 0.5).abs().max() < 0.012  # five standard errors, of 10,000
    assert (columns.var(0) - 1 / 12).abs().max() < 0.004
    others = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert others.abs().max() < 0.05


# --- the images


@pytest.mark.parametrize("options", [EVERYTHING, *({name: value} for name, value in EVERYTHING.items())], ids=str)
def test_augmentation_does_not_depend_on_the_other_images_of_the_batch(options: dict[str, float]) -> None:
    images, rows = random_images(9, channels=3), torch.tensor([4, 0, 77, 3, 12, 5, 1_000_000, 8, 9])
    together = augment(**options)(images, rows, epoch=3)
    assert together.shape == images.shape
    for one, row, augmented in zip(images, rows, together, strict=True):
        assert torch.equal(augment(**options)(one[None], row[None], epoch=3)[0], augmented)


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1)])
def test_another_seed_or_epoch_gives_other_images(seed: int, epoch: int) -> None:
    images, rows = random_images(9), torch.arange(9)
    assert not torch.equal(augment(seed, **EVERYTHING)(images, rows, epoch), augment(**EVERYTHING)(images, rows, 0))


def test_flips_occur_with_the_configured_probability() -> None:
    images = random_images(2000)
    augmented = augment(flip=0.3)(images, torch.arange(2000), 0)
    flipped = (augmented == images.flip(2)).flatten(1).all(1)
    kept = (augmented == images).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 0.25 < flipped.float().mean() < 0.35


def test_a_shift_moves_by_whole_pixels_in_every_direction_and_fills_with_black() -> None:
    images = random_images(500) + 1  # nothing in them is black
    augmented = augment(shift=2)(images, torch.arange(500), 0)
    framed = torch.nn.functional.pad(images, (0, 0, 2, 2, 2, 2))
    ways = [(down, across) for down in range(5) for across in range(5)]
    moved = torch.stack([framed[:, down : down + 12, across : across + 10] for down, across in ways])  # [way, B, H, W, C]
    same = (moved == augmented).flatten(2).all(2)  # [way, B]
    assert (same.sum(0) == 1).all()
    assert (same.sum(1) > 5).all()  # 20 on average


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_a_copy_is_what_interpolation_at_whole_pixels_gives(
    flip: float, shift: int, height: int, width: int, channels: int, seed: int
) -> None:
    """`grid_sample` at the same source positions: equal but for its rounding, also where a shift exceeds the image."""
    images, rows = random_images(12, height, width, channels), torch.arange(12)
    copied = augment(seed, flip=flip, shift=shift)(images, rows, 1)
    grid = _grid(AugmentConfig(**(NOTHING | {"flip": flip, "shift": shift})), uniform(seed, 1, rows, DRAWS), images.shape)
    sampled = grid_sample(images.movedim(-1, 1), grid, padding_mode="zeros", align_corners=False).movedim(1, -1)
    torch.testing.assert_close(copied, sampled, atol=1e-2, rtol=0)
    assert torch.equal(copied, sampled.round())


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 100])
def test_no_draw_shifts_further_than_configured(shift: int) -> None:
    draws = torch.tensor([0.0, 1e-7, 0.25, 0.5, 0.75, 1 - 2**-24])
    steps = _whole_pixels(shift, draws)
    assert steps[0] == -shift
    assert steps[-1] == shift
    assert (steps.diff() >= 0).all()


@pytest.mark.parametrize(
    ("options", "height", "width"), [({"rotate": 90.0}, 9, 15), ({"rotate": 25.0}, 20, 20), ({"scale": 0.2}, 20, 12)]
)
def test_rotation_and_scaling_keep_the_centre_and_the_proportions(options: dict[str, float], height: int, width: int) -> None:
    """A disc stays a disc, also in an image that is not square."""
    down, across = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    disc = (255 * torch.sigmoid(3 * (3 - (down**2 + across**2).sqrt())))[None, :, :, None].expand(50, -1, -1, -1)
    for augmented in augment(**options)(disc, torch.arange(50), 0)[..., 0]:
        weight = augmented / augmented.sum()
        assert (weight * down).sum().abs() < 0.05
        assert (weight * across).sum().abs() < 0.05
        stretched = (weight * down**2).sum() / (weight * across**2).sum()
        assert 0.97 < stretched < 1.03
        if "rotate" in options:
            assert 0.95 < augmented.sum() / disc[0].sum() < 1.05


def test_elastic_distortion_stays_within_its_limit() -> None:
    across = torch.arange(16).float().expand(200, 16, 16)[..., None] * 10
    augmented = augment(elastic=1.5)(across, torch.arange(200), 0)
    inside = (augmented - across)[:, 3:-3, 3:-3]
    assert 5 < inside.abs().max() < 10 * 1.5 * 1.3  # between its knots a cubic overshoots a little
    assert inside.abs().mean() > 1


def test_an_erased_rectangle_has_one_grey_value_and_a_published_size() -> None:
    images = torch.full((3000, 28, 28, 1), 300.0)
    erased = augment(erase=0.5)(images, torch.arange(3000), 0)[..., 0] != 300
    some = erased.flatten(1).any(1)
    assert 0.46 < some.float().mean() < 0.54
    for mask, augmented in zip(erased[some], augment(erase=0.5)(images, torch.arange(3000), 0)[some], strict=True):
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns)  # a rectangle
        assert (rows.long().diff() != 0).sum() <= 2  # in one piece
        assert len(augmented[..., 0][mask].unique()) == 1
    shares = erased[some].float().mean((1, 2))
    assert shares.min() > ERASED_AREA[0] - 0.01
    assert shares.max() < ERASED_AREA[1] + 0.02
    assert 0.18 < shares.mean() < 0.22


# --- the loader


@pytest.mark.parametrize("world", [1, 3])
def test_each_epoch_augments_anew_and_equally_for_any_number_of_ranks(world: int) -> None:
    pixels = random_images(40).to(torch.uint8)
    images = Images(pixels, torch.arange(40), torch.arange(40), Normalize(torch.tensor([100.0]), torch.tensor([50.0])))
    augmentation = augment(5, **EVERYTHING)
    for epoch in (0, 1):
        for rank in range(world):
            for batch in TrainLoader(images, 9, 5, CPU, rank, world, augmentation, epoch):
                expected = (augmentation(pixels[batch.targets].float(), batch.targets, epoch) - 100) / 50
                assert torch.equal(batch.inputs, expected)


def test_training_images_are_augmented_and_val_images_are_not(project: ProjectPaths, console: Console) -> None:
    config = compose(project.root, ["experiment=digits_cnn", "augment=clothes", "seed=4", "trainer.threads=1"])
    windows = prepare(config, project, console)
    learning, val = Training(config, windows).loaders
    plain, val_loader = (EvalLoader(split, 10_000, CPU) for split in windows.learning())
    (everything,), (held_out,) = list(plain), list(val_loader)
    mean, std = (torch.tensor(windows.meta.statistics[key]) for key in ("mean", "std"))
    raw = (everything.inputs * std + mean).round()
    order = epoch_order(len(raw), 4, 0)
    for rows, batch in zip(order.split(config.trainer.batch_size), learning, strict=True):
        augmented = Augment(config.augment, 4)(raw[rows], rows, 0)
        torch.testing.assert_close(batch.inputs, (augmented - mean) / std)
        assert not torch.equal(batch.inputs, everything.inputs[rows])
    assert torch.equal(torch.cat([batch.inputs for batch in val]), held_out.inputs)
