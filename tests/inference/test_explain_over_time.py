"""`explain` on sequences and series: synthetic data of which it is known what decides."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from reprise.data.modalities.sequences.tensors import input_transform as sequence_transform
from reprise.data.modalities.series.tensors import input_transform as series_transform
from reprise.data.tables.format import TableFormat
from reprise.data.tables.reader import read_table
from reprise.inference import explain_sequences, explain_series, explain_view
from reprise.inference.explained import Explained, evenly_spaced
from reprise.inference.predict_sequences import Inputs
from reprise.inference.predictor import Predictor
from reprise.models.convnet import Block, ConvNet
from reprise.models.recurrent import Recurrent
from reprise.models.ridge_forecaster import RidgeForecaster
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from tests.metas import sequence_meta, series_meta


def trained(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Any, steps: int) -> nn.Module:
    """Return a network trained by Adam on all samples at once."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network(inputs), targets).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["convolutions", "gru"])
def test_the_channel_and_the_steps_that_decide_the_class_are_found(kind: str, masked: bool) -> None:
    """The sign of a bump at steps 10 to 15 of channel y decides; x and z are noise. Padding, if any, is at the end."""
    torch.manual_seed(0)
    meta = sequence_meta(["down", "up"], steps=30, channels=["x", "y", "z"], masked=masked)
    labels, lengths = torch.arange(64) % 2, torch.full((64,), 30)
    values = 0.05 * torch.randn(64, 30, 3)
    values[:, 9:15, 1] += (2.0 * labels - 1)[:, None]
    if masked:
        lengths[::3] = 24
        values[::3, 24:] = 0
    inputs = Inputs(values.numpy(), lengths.numpy(), [meta.classes[label] for label in labels.tolist()])
    transform, task = sequence_transform(meta), Classification(meta)
    shape = [30, 3 + masked]
    network = (
        ConvNet(shape, 2, [Block(8, kernel=5)], []) if kind == "convolutions" else Recurrent(shape, 2, "gru", 8, masked=masked)
    )
    trained(network, transform(*inputs.raw(masked)), labels, nn.functional.cross_entropy, 60)
    result = explain_sequences.explain(Predictor(transform, network, task), meta, inputs, 3, "a.csv")
    assert result.sample.startswith("sequence 4 of a.csv: up, ")
    assert result.method.startswith("integrated gradients")
    assert result.samples == 64
    for parts in (result.parts(), result.mean_parts()):
        assert result.channels[parts[0].number] == "y"
        assert parts[0].share > 0.8
        assert result.steps[parts[0].first] >= 9
        assert result.steps[parts[0].last] <= 16
    assert all(9 <= result.steps[segment.first] <= 16 for segment in result.segments()[:3])


def forecaster(network: nn.Module, lookback: int, horizon: int, **changes: Any) -> Predictor:
    meta = series_meta(("y",), ("other", "y"), lookback=lookback, horizon=horizon, **changes)
    return Predictor(series_transform(meta), network, Forecasting(meta, predict_delta=False))


def table_of(file: Path, seed: int = 0) -> Any:
    """Return the table of a file with a day a row: y is 0.9 times its value 7 days before, plus noise; `other` is noise."""
    rng = np.random.default_rng(seed)
    other, y = rng.normal(size=(2, 1000))
    for day in range(7, 1000):
        y[day] = 0.9 * y[day - 7] + 0.3 * rng.normal()
    dates = np.datetime64("2024-01-01") + np.arange(1000)
    file.write_text("day,other,y\n" + "".join(f"{day},{a:.6f},{b:.6f}\n" for day, a, b in zip(dates, other, y, strict=True)))
    return read_table(file, file.name, TableFormat(time=("day",), target=("other", "y")))


def windows_of(table: Any, lookback: int, horizon: int) -> tuple[Tensor, Tensor]:
    values = torch.from_numpy(table.series[0].values).float()
    windows = values.unfold(0, lookback + horizon, 1).transpose(1, 2)
    return windows[:, :lookback], windows[:, lookback:, 1:]


def explained(predictor: Predictor, table: Any, lookback: int, horizon: int) -> Any:
    meta = series_meta(("y",), ("other", "y"), lookback=lookback, horizon=horizon, units=["kW"])
    return explain_series.Explainer(predictor, meta, table, timezone=None, target=0).explain(table.series[0], "a.csv")


@pytest.mark.parametrize("kind", ["ridge", "network"])
def test_the_only_lag_that_decides_a_forecast_is_found(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    table, lookback = table_of(tmp_path / "a.csv"), 14
    inputs, targets = windows_of(table, lookback, 1)
    network: nn.Module
    if kind == "ridge":
        network = RidgeForecaster([lookback, 2], 1, [1], season=1, segment=1, levels=["lookback"])
        network.fit([(inputs, targets)], [(inputs[-50:], targets[-50:])])
    else:
        network = nn.Sequential(nn.Flatten(), nn.Linear(2 * lookback, 8), nn.Tanh(), nn.Linear(8, 1))
        trained(network, inputs, targets[:, 0], nn.functional.mse_loss, 150)
    result = explained(forecaster(network, lookback, 1), table, lookback, 1).result
    best = result.mean_parts()[0]
    assert result.channels[best.number] == "y"
    assert (result.steps[best.first], result.steps[best.last]) == (7, 7)
    assert result.method.startswith("integrated gradients")


def test_the_attributions_of_a_known_linear_forecast_are_its_parts_in_units(tmp_path: Path) -> None:
    """The forecast of step 1 is twice lag 7, and of step 2 three times lag 6; the sum of parts is the change of the mean."""
    table, lookback = table_of(tmp_path / "a.csv"), 10

    class Known(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.stack([2 * inputs[:, -7, 1], 3 * inputs[:, -6, 1]], dim=1)

    found = explained(forecaster(Known(), lookback, 2), table, lookback, 2)
    last = table.series[0].values[-lookback:, 1]
    attributions = found.result.attributions
    assert attributions[3, 1] == pytest.approx(2 * (last[3] - last.mean()) / 2, rel=1e-4)
    assert attributions[4, 1] == pytest.approx(3 * (last[4] - last.mean()) / 2, rel=1e-4)
    assert np.count_nonzero(np.abs(attributions) > 1e-6) == 2
    assert found.blocks.steps == [(1, 1), (2, 2)]
    assert found.by_block.argmax(axis=1).tolist() == [3, 4]  # lags 7 and 6


def test_sine_and_cosine_of_the_calendar_are_one_channel(tmp_path: Path) -> None:
    table, lookback = table_of(tmp_path / "a.csv"), 7

    class Weekday(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return 5 * inputs[:, -1, 2:4].sum(1, keepdim=True)

    meta = series_meta(("y",), ("other", "y"), lookback=lookback, horizon=1, calendar=["weekday"])
    predictor = Predictor(series_transform(meta), Weekday(), Forecasting(meta, predict_delta=False))
    result = explain_series.Explainer(predictor, meta, table, timezone=None, target=0).explain(table.series[0], "a.csv").result
    assert result.channels == ["other", "y", "calendar: weekday"]
    assert result.mean_parts()[0].number == 2
    assert result.mean_parts()[0].share == pytest.approx(1)
    assert result.values[:, 2] == pytest.approx([((993 + day) % 7) / 7 for day in range(7)], abs=1e-6)  # row 0 is a Monday


def test_known_and_static_columns_have_attributions_and_repeated_values_count_as_the_last(tmp_path: Path) -> None:
    """The forecast of step 2 is 4 times the price known for it, plus twice the last y, plus the size of the shop."""
    file, lookback, horizon = tmp_path / "a.csv", 5, 2
    rng = np.random.default_rng(0)
    rows = []
    for shop, size in (("a", 3), ("b", 5)):
        for day in range(32):
            date, y = np.datetime64("2024-01-01") + day, "" if day >= 30 else f"{rng.normal():.4f}"
            rows.append(f"{date},{shop},{size},{y},{rng.normal():.4f}")
    file.write_text("day,shop,size,y,price\n" + "\n".join(rows) + "\n")
    settings = TableFormat(time=("day",), target=("y",), id="shop", known=("price",), static=("size",))
    table: Any = read_table(file, file.name, settings)

    class Known(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            second = 4 * inputs[:, -1, 2] + 2 * inputs[:, -1, 0] + inputs[:, 0, 1]
            return torch.stack([torch.zeros_like(second), second], dim=1)

    meta = series_meta(("y",), ("y", "size", "price"), lookback=lookback, horizon=horizon, known=["price"], static={"size": None})
    predictor = Predictor(series_transform(meta), Known(), Forecasting(meta, predict_delta=False))
    explainer = explain_series.Explainer(predictor, meta, table, timezone=None, target=0)
    result = explainer.explain(table.series[1], "a.csv").result
    assert result.channels == ["y", "size", "price"]
    assert result.steps == [5, 4, 3, 2, 1, 0, -1]
    y, price = table.series[1].values[-5:, 0], np.concatenate([table.series[1].known[-5:, 0], table.series[1].future_known[:, 0]])
    expected = np.zeros((7, 3))
    expected[4, 0] = (y[-1] - y.mean()) * 2 / 2
    expected[0, 1] = 5 / 2
    expected[6, 2] = (price[-1] - price.mean()) * 4 / 2
    np.testing.assert_allclose(result.attributions, expected, atol=1e-5)
    np.testing.assert_allclose(result.values[:, 2], price)
    assert [row["value"] for row in result.rows()[5:7]] == [None, None]  # y of the forecast steps
    assert result.samples == 2 * 26


def test_blocks_of_steps_cover_the_horizon_once() -> None:
    blocks = explain_series.Blocks.of(100)
    assert len(blocks.steps) == 12
    covered = [step for first, last in blocks.steps for step in range(first, last + 1)]
    assert covered == list(range(1, 101))
    values = torch.arange(200.0).reshape(2, 100)
    weighted = blocks.means(values).double().numpy() @ blocks.weights
    assert weighted == pytest.approx(values.mean(1).numpy())


def small_result() -> Explained:
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    attributions = np.array([[0.0, -3.0], [1.0, 0.0]])
    return Explained(
        "sample 1", "score", "method", ["a", "b"], [1, 2, 3], "step", [], values, attributions, np.ones((3, 2)), 9, "sequences"
    )


def test_the_table_has_a_row_per_channel_and_step_and_no_value_after_the_end_of_the_sequence(tmp_path: Path) -> None:
    small_result().write_table(tmp_path)
    with (tmp_path / "attribution.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["channel"], row["step"]) for row in rows] == [(name, step) for name in "ab" for step in "123"]
    assert [row["value"] for row in rows] == ["1.0", "3.0", "", "2.0", "4.0", ""]
    assert [row["attribution"] for row in rows] == ["0.0", "1.0", "", "-3.0", "0.0", ""]


def test_the_summary_names_the_most_important_channel_and_steps_first(capsys: pytest.CaptureFixture[str]) -> None:
    explain_view.show(small_result(), Path("out"), Console(width=120))
    printed = capsys.readouterr().out
    assert "b        75.0 %  step 1" in printed
    assert "Largest segments: b step 1 (75.0 %), a step 2 (25.0 %)." in printed
    described = small_result().described()
    assert described["channels"][0] == {"channel": "b", "share": 0.75, "half_of_it": {"from": 1, "to": 1}}
    assert replace(small_result(), step="lag").rows()[0]["lag"] == 1


def test_samples_are_evenly_spaced_with_the_first_and_the_last() -> None:
    assert evenly_spaced(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(101, 3).tolist() == [0, 50, 100]
