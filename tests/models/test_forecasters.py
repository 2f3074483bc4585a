"""Networks that forecast: shape, type, gradient, that they can learn, published parameter counts, and values computed by hand.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps.
"""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reprise.models.channels import Segments
from reprise.models.cycle_net import CycleNet
from reprise.models.linear import DLinear, Linear, NLinear, RLinear
from reprise.models.patch_tst import PatchTST
from reprise.models.revin import RevIN
from reprise.models.sparse_tsf import SparseTSF
from reprise.models.time_base import TimeBase

LOOKBACK, HORIZON, SEASON = 30, 10, 6
SHAPE, TARGETS = [LOOKBACK, 5], [2, 0]  # the last two channels are sine and cosine of the season
OUTPUTS = HORIZON * len(TARGETS)

FORECASTERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Linear(SHAPE, OUTPUTS, TARGETS),
    "linear, individual": lambda: Linear(SHAPE, OUTPUTS, TARGETS, individual=True),
    "nlinear": lambda: NLinear(SHAPE, OUTPUTS, TARGETS),
    "nlinear, individual": lambda: NLinear(SHAPE, OUTPUTS, TARGETS, individual=True),
    "dlinear": lambda: DLinear(SHAPE, OUTPUTS, TARGETS, kernel=5),
    "dlinear, individual": lambda: DLinear(SHAPE, OUTPUTS, TARGETS, individual=True),
    "rlinear": lambda: RLinear(SHAPE, OUTPUTS, TARGETS),
    "rlinear, not affine": lambda: RLinear(SHAPE, OUTPUTS, TARGETS, affine=False, individual=True),
    "sparse_tsf": lambda: SparseTSF(SHAPE, OUTPUTS, TARGETS, season=SEASON),
    "sparse_tsf, odd season": lambda: SparseTSF(SHAPE, OUTPUTS, TARGETS, season=7),
    "sparse_tsf, hidden": lambda: SparseTSF(SHAPE, OUTPUTS, TARGETS, season=SEASON, hidden=16),
    "time_base": lambda: TimeBase(SHAPE, OUTPUTS, TARGETS, season=SEASON, basis=3, orthogonality=0.1),
    "time_base, mean of the lookback": lambda: TimeBase(SHAPE, OUTPUTS, TARGETS, season=SEASON, basis=3, phase_mean=False),
    "cycle_net": lambda: CycleNet(SHAPE, OUTPUTS, TARGETS, cycle=SEASON),
    "cycle_net, hidden": lambda: CycleNet(SHAPE, OUTPUTS, TARGETS, cycle=SEASON, hidden=16, normalize=False),
    "patch_tst": lambda: PatchTST(SHAPE, OUTPUTS, TARGETS, patch=6, stride=3, dropout=0.0),
    "patch_tst, affine": lambda: PatchTST(SHAPE, OUTPUTS, TARGETS, patch=6, stride=4, layers=1, dropout=0.0, affine=True),
}


@pytest.fixture(params=FORECASTERS)
def forecaster(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return FORECASTERS[request.param]()


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def windows(starts: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs `[B, T, C]` and the targets `[B, S * Y]` after them: waves of the season, and its phase as sine and cosine."""
    time = starts[:, None] + torch.arange(LOOKBACK + HORIZON)
    angle = 2 * math.pi * time / SEASON
    channels = [torch.sin(angle), torch.randn_like(angle), 2 * torch.cos(angle) + 1, torch.sin(angle), torch.cos(angle)]
    series = torch.stack(channels, dim=-1)
    return series[:, :LOOKBACK], series[:, LOOKBACK:, TARGETS].flatten(1)


def test_a_network_returns_one_row_of_outputs_per_window(forecaster: nn.Module) -> None:
    forecaster.eval()
    for count in (1, 5):
        outputs = forecaster(torch.randn(count, *SHAPE))
        assert outputs.shape == (count, OUTPUTS)
        assert outputs.dtype == torch.float32


def test_forecasts_do_not_depend_on_the_other_windows_of_the_batch(forecaster: nn.Module) -> None:
    forecaster.eval()
    inputs = torch.randn(4, *SHAPE)
    torch.testing.assert_close(forecaster(inputs), torch.cat([forecaster(one[None]) for one in inputs]))


def test_only_the_targets_and_the_phase_are_read(forecaster: nn.Module) -> None:
    forecaster.eval()
    inputs = torch.randn(3, *SHAPE)
    others = inputs.clone()
    others[..., 1] = 0
    if not isinstance(forecaster, CycleNet):
        others[..., 3:] = 0
    torch.testing.assert_close(forecaster(inputs), forecaster(others))


def test_a_gradient_reaches_every_weight_and_every_target(forecaster: nn.Module) -> None:
    inputs = torch.randn(64, *SHAPE, requires_grad=True)
    forecaster(inputs).square().sum().backward()
    for name, weight in forecaster.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
    assert inputs.grad is not None
    assert inputs.grad[..., TARGETS].any(dim=(0, 1)).all()


def test_a_seasonal_series_is_learned(forecaster: nn.Module) -> None:
    inputs, targets = windows(torch.arange(32))
    optimizer = torch.optim.Adam(forecaster.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(forecaster(inputs), targets).backward()
        optimizer.step()
    assert nn.functional.mse_loss(forecaster(inputs), targets) < 0.05 * targets.var()


@pytest.mark.parametrize("horizon", [96, 720])
def test_linear_networks_have_the_weights_of_their_maps(horizon: int) -> None:
    shape, outputs, one_map = [336, 7], 7 * horizon, 336 * horizon + horizon
    assert parameters(Linear(shape, outputs)) == parameters(NLinear(shape, outputs)) == one_map
    assert parameters(Linear(shape, outputs, individual=True)) == 7 * one_map
    assert parameters(DLinear(shape, outputs)) == 2 * one_map
    assert parameters(DLinear(shape, outputs, individual=True)) == 7 * 2 * one_map
    assert parameters(RLinear(shape, outputs)) == one_map + 2 * 7  # scale and shift of each channel


def test_sparse_tsf_has_the_parameters_of_its_paper() -> None:
    """145 to 925: Lin et al. 2025 (TPAMI). A convolution of 25 steps and a map from 30 to S / 24 periods, without biases."""
    for horizon, published in ((96, 145), (192, 265), (336, 445), (720, 925)):
        assert published == 25 + 720 // 24 * horizon // 24
        assert parameters(SparseTSF([720, 7], 7 * horizon)) == published
    hidden = 25 + (30 * 128 + 128) + (128 * 4 + 4)
    assert parameters(SparseTSF([720, 7], 7 * 96, hidden=128)) == hidden


def test_time_base_has_the_parameters_of_its_repository() -> None:
    """214 at horizon 96 and 396 at 720, from the logs of its repository: maps from 30 periods to 6 components to S / 24 periods."""
    for horizon, published in ((96, 214), (720, 396)):
        assert published == (30 * 6 + 6) + (6 * horizon // 24 + horizon // 24)
        assert parameters(TimeBase([720, 7], 7 * horizon)) == published


def test_cycle_net_has_the_parameters_of_its_paper() -> None:
    """123.7 K for Electricity: Lin et al. 2024 (NeurIPS), table 3: 321 channels, a week of hours, lookback 96, horizon 720."""
    network = CycleNet([96, 322], 720 * 321, cycle=168, phase_channels=[-1])
    assert parameters(network) == 168 * 321 + (96 * 720 + 720) == 123_768


def test_patch_tst_has_the_parameters_of_its_layers() -> None:
    embedding, positions = 16 * 16 + 16, 42 * 16
    attention, feed_forward, batch_norms = 4 * (16 * 16 + 16), (16 * 128 + 128) + (128 * 16 + 16), 2 * 2 * 16
    head = 42 * 16 * 96 + 96
    layers = 3 * (attention + feed_forward + batch_norms)
    assert parameters(PatchTST([336, 7], 7 * 96)) == embedding + positions + layers + head == 81_728


@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalization_is_undone_exactly(affine: bool) -> None:
    revin, series = RevIN(3, affine), 5 + 3 * torch.randn(4, 3, 50)
    if revin.scale is not None and revin.shift is not None:
        with torch.no_grad():
            revin.scale.uniform_(0.5, 2)
            revin.shift.normal_()
    normalized, mean, std = revin.normalize(series)
    torch.testing.assert_close(revin.denormalize(normalized, mean, std), series)
    if not affine:
        torch.testing.assert_close(normalized.mean(-1), torch.zeros(4, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(normalized.std(-1, correction=0), torch.ones(4, 3), atol=1e-4, rtol=0)


def test_instance_normalization_of_a_constant_window_is_finite() -> None:
    normalized, mean, std = RevIN(1).normalize(torch.full((2, 1, 8), 3.0))
    assert not normalized.any()
    torch.testing.assert_close(RevIN(1).denormalize(normalized, mean, std), torch.full((2, 1, 8), 3.0))


def test_a_level_added_to_the_window_is_added_to_the_forecast() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(4, *SHAPE)
    raised = inputs.clone()
    raised[..., TARGETS] += 7
    for name in ("nlinear", "rlinear", "sparse_tsf", "sparse_tsf, hidden", "time_base", "cycle_net", "patch_tst"):
        network = FORECASTERS[name]().eval()
        torch.testing.assert_close(network(raised), network(inputs) + 7, atol=1e-4, rtol=1e-4)


def test_nlinear_with_zero_weights_repeats_the_last_value() -> None:
    network = NLinear(SHAPE, OUTPUTS, TARGETS)
    for weight in network.parameters():
        nn.init.zeros_(weight)
    inputs = torch.randn(4, *SHAPE)
    assert torch.equal(network(inputs).unflatten(1, (HORIZON, 2)), inputs[:, -1:, TARGETS].expand(-1, HORIZON, -1))


def test_an_individual_map_reads_its_own_channel() -> None:
    network = Linear([4, 2], 2, individual=True)
    first, second = (nn.Linear(4, 1) for _ in range(2))
    for own, given in zip(network.linear.maps, (first, second), strict=True):
        own.load_state_dict(given.state_dict())
    inputs = torch.randn(3, 4, 2)
    torch.testing.assert_close(network(inputs), torch.cat([first(inputs[..., 0]), second(inputs[..., 1])], dim=1))


def test_the_trend_of_dlinear_is_the_moving_average_with_repeated_ends() -> None:
    network = DLinear([5, 1], 1, kernel=3)
    trend = network.average(torch.tensor([[[0.0, 3.0, 6.0, 0.0, 3.0]]]))
    torch.testing.assert_close(trend, torch.tensor([[[1.0, 3.0, 3.0, 3.0, 2.0]]]))  # (0 + 0 + 3) / 3, …, (0 + 3 + 3) / 3


def test_segments_keep_each_phase_of_the_period_together() -> None:
    segments = Segments(lookback=8, horizon=5, period=3)  # 8 steps: the first two are left out
    series = torch.arange(8.0).view(1, 1, 8)
    split = segments.split(series)
    assert split.tolist() == [[[[2.0, 5.0], [3.0, 6.0], [4.0, 7.0]]]]
    assert segments.outputs == 2
    assert segments.join(split).tolist() == [[[2.0, 3.0, 4.0, 5.0, 6.0]]]


@pytest.mark.parametrize("season", [1, 2, 5, 6])
def test_the_convolution_of_sparse_tsf_is_that_of_torch(season: int) -> None:
    aggregate = SparseTSF([30, 2], 8, season=season).aggregate
    series = torch.randn(4, 2, 30)
    weight = aggregate.weight.view(1, 1, -1)
    expected = nn.functional.conv1d(series.flatten(0, 1).unsqueeze(1), weight, padding=season // 2)
    torch.testing.assert_close(aggregate(series), expected.view(4, 2, 30))


def test_sparse_tsf_without_convolution_repeats_the_weighted_periods() -> None:
    network = SparseTSF([6, 1], 4, season=3)
    with torch.no_grad():
        network.aggregate.weight.zero_()
        network.map.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))  # type: ignore[operator, union-attr]
    inputs = torch.tensor([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]).view(1, 6, 1)  # mean 4: differences -3 -2 -1 1 2 3
    torch.testing.assert_close(network(inputs), torch.tensor([[1.0, 2.0, 3.0, 6.0]]))


def test_the_orthogonality_loss_is_the_norm_of_the_products_of_the_components() -> None:
    network = TimeBase([4, 1], 2, season=2, basis=2, phase_mean=False, orthogonality=0.5)
    assert network.penalty() == 0
    with torch.no_grad():
        network.extract.weight.copy_(torch.eye(2))
        network.extract.bias.zero_()
    network(torch.tensor([2.0, -2.0, 1.0, -1.0]).view(1, 4, 1))  # phases (2, 1) and (-2, -1): the product is 2 * 1 + 2 * 1 = 4
    torch.testing.assert_close(network.penalty(), torch.tensor(0.5 * math.sqrt(2) * 4))
    network.penalty().backward()
    assert network.extract.weight.grad is not None
    assert network.extract.weight.grad.any()
    network.eval()(torch.randn(3, 4, 1))
    assert network.penalty() == 0


def test_the_cycle_is_aligned_by_the_phase_however_it_is_given() -> None:
    steps = CycleNet([5, 2], 4, cycle=4, phase_channels=[1], normalize=False)
    angles = CycleNet([5, 3], 4, cycle=4, phase_channels=[1, 2], normalize=False)
    for network in (steps, angles):
        with torch.no_grad():
            network.pattern.copy_(torch.tensor([[10.0, 20.0, 30.0, 40.0]]))
        nn.init.zeros_(network.map.weight)  # type: ignore[arg-type]
        nn.init.zeros_(network.map.bias)  # type: ignore[arg-type]
    time = torch.arange(3, 8)  # starts at phase 3; the forecast at step 8, phase 0
    series, angle = torch.zeros(5), time * math.pi / 2
    expected = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    torch.testing.assert_close(steps(torch.stack([series, (time % 4).float()], dim=-1)[None]), expected)
    torch.testing.assert_close(angles(torch.stack([series, angle.sin(), angle.cos()], dim=-1)[None]), expected)


def test_the_patches_end_with_the_repeated_last_value() -> None:
    network = PatchTST([8, 1], 2, patch=4, stride=3, layers=1)
    padded = network.pad(torch.arange(8.0).view(1, 1, 8)).unfold(-1, 4, 3)
    assert padded.tolist() == [[[[0.0, 1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 6.0], [6.0, 7.0, 7.0, 7.0]]]]
    assert len(network.positions) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear([8], 4), "reads sequences [T, C], not inputs of shape [8]"),
        (lambda: Linear([8, 3], 4), "forecasts 3 channels, so 4 outputs are not a whole number of steps"),
        (lambda: Linear([8, 3], 4, [3]), "target_positions=[3]: needs positions of channels, 0 to 2"),
        (lambda: Linear([8, 3], 4, []), "target_positions=[]: needs positions of channels, 0 to 2"),
        (lambda: DLinear([8, 1], 4, kernel=4), "kernel=4: must be odd and at least 1"),
        (lambda: RLinear([8, 1], 4, dropout=1.0), "dropout=1.0: must be at least 0 and below 1"),
        (lambda: SparseTSF([8, 1], 4, season=9), "season=9: must be at least 1 and at most the lookback of 8 steps"),
        (lambda: SparseTSF([8, 1], 4, season=2, hidden=-1), "hidden=-1: must be at least 0"),
        (lambda: TimeBase([8, 1], 4, season=0), "season=0: must be at least 1 and at most the lookback of 8 steps"),
        (lambda: TimeBase([8, 1], 4, basis=0), "basis=0: must be at least 1"),
        (lambda: TimeBase([8, 1], 4, orthogonality=-1.0), "orthogonality=-1.0: must be at least 0"),
        (lambda: CycleNet([8], 4), "reads sequences [T, C], not inputs of shape [8]"),
        (lambda: CycleNet([8, 3], 4, cycle=0), "cycle=0: must be at least 1"),
        (lambda: CycleNet([8, 3], 4, hidden=-1), "hidden=-1: must be at least 0"),
        (
            lambda: CycleNet([8, 3], 4, phase_channels=[3]),
            "phase_channels=[3]: needs one or two positions among the 3 input channels",
        ),
        (lambda: PatchTST([8, 1], 4, patch=9), "patch=9: must be at least 1 and at most the lookback of 8 steps"),
        (lambda: PatchTST([8, 1], 4, patch=4, heads=3), "heads=3: must divide features=16"),
        (lambda: PatchTST([8, 1], 4, patch=4, layers=0), "layers=0: must be at least 1"),
        (lambda: PatchTST([8, 1], 4, patch=4, dropout=1.0), "dropout=1.0: must be at least 0 and below 1"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
