"""A user's series, from its file to a forecast: two commands and no YAML."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from reprise.inference import explain_series
from reprise.inference.trained_run import open_run
from reprise.project_paths import ProjectPaths
from reprise.serving.limits import Limits
from tests.pipeline.conftest import run_in
from tests.serving.running import serving

PASSENGERS = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140 145 150 178 163 172 178 199 199
184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194 196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227
234 264 302 293 259 229 203 229 242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337 360 342 406 396 420 472 548 559
463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""
"""Monthly airline passengers in thousands, 1949 to 1960 (Box and Jenkins 1976, series G)."""
SETTINGS = ["trainer.threads=1", "tracking.log_model=false"]


def train(project: Path, file: Path, *overrides: str) -> tuple[str, str]:
    """Train on a file. Return the name of the run and the output."""
    done = run_in(project, "reprise", "train", "experiment=forecast_csv", f"data.path={file}", *SETTINGS, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "entries of run" not in done.stderr  # MLflow took all of them
    name = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("train  "))
    return name.rstrip(":"), done.stdout


def verdict(output: str) -> str:
    """Return the comparison with the best baseline on val that `train` prints."""
    return next(line for line in output.splitlines() if ", best baseline " in line).split(": ", 1)[1]


def predict(project: Path, run: str, file: Path) -> list[dict[str, str]]:
    """Return the rows of predictions.csv."""
    out = project / "answers" / run
    done = run_in(project, "reprise", "predict", run, str(file), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "predictions.png").stat().st_size > 10_000
    with (out / "predictions.csv").open() as stream:
        return list(csv.DictReader(stream))


def metrics(project: Path, run: str) -> dict[str, dict[str, float]]:
    done = run_in(project, "reprise", "evaluate", run, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def passengers(project: Path) -> Path:
    months = [f"{year}-{month:02}" for year in range(1949, 1961) for month in range(1, 13)]
    rows = [f"{month},{number}" for month, number in zip(months, PASSENGERS.split(), strict=True)]
    (project / "passengers.csv").write_text("\n".join(["Month,Passengers", *rows]) + "\n")
    return project / "passengers.csv"


@pytest.fixture(scope="module")
def passengers_run(project: Path, passengers: Path) -> str:
    return train(project, passengers, "data.name=passengers", "data.time=Month", "data.target=Passengers", "data.units=thousand")[
        0
    ]


def test_airline_passengers_beat_the_seasonal_naive_forecast(project: Path, passengers: Path, passengers_run: str) -> None:
    rows = predict(project, passengers_run, passengers)
    assert [row["time"] for row in rows] == [f"1961-{month:02}-01T00:00:00" for month in range(1, 13)]
    assert {row["unit"] for row in rows} == {"thousand"}
    assert max(rows, key=lambda row: float(row["forecast"]))["time"][:7] in {"1961-07", "1961-08"}
    assert all(float(row["lower"]) < float(row["forecast"]) < float(row["upper"]) for row in rows)
    found = metrics(project, passengers_run)
    assert found["test"]["mae"] < found["seasonal_naive"]["mae"] < found["repeat_last"]["mae"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda text: "\n".join(text.splitlines()[:20]),
            "19 time steps, and .* forecasts from the last 24; name a file with more",
        ),
        (lambda text: text.replace("Passengers", "Guests"), "has no column 'Passengers'; its columns are Month, Guests"),
        (
            lambda text: text.replace("1955-05,270\n", ""),
            r"row 78, column Month: '1955-06' comes after the missing time step 1955-05-01",
        ),
    ],
)
def test_what_a_newer_file_lacks_is_one_line(
    project: Path, passengers: Path, passengers_run: str, content: Callable[[str], str], message: str
) -> None:
    newer = project / "newer.csv"
    newer.write_text(content(passengers.read_text()))
    done = run_in(project, "reprise", "predict", passengers_run, str(newer), "--out", str(project / "nothing"))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr), done.stderr
    assert not (project / "nothing").exists()


def test_another_frequency_is_refused(project: Path, passengers_run: str) -> None:
    days = pd.date_range("1961-01-01", periods=40, freq="D")
    pd.DataFrame({"Month": days, "Passengers": np.arange(40)}).to_csv(project / "days.csv", index=False)
    done = run_in(project, "reprise", "predict", passengers_run, str(project / "days.csv"))
    assert done.returncode == 2
    assert "days.csv: its time steps are D, and those of the run MS; name a file with the time steps of the run" in done.stderr


def test_half_hours_with_semicolons_decimal_commas_and_gaps(project: Path) -> None:
    stamps = pd.date_range("2024-03-01", periods=48 * 40, freq="30min")
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 0.3, len(stamps))
    load = 20 + 5 * np.sin(2 * np.pi * np.arange(len(stamps)) / 48) + noise
    cells = (f"{value:.2f}".replace(".", ",") for value in load)
    rows = [f"{stamp:%d.%m.%Y %H:%M};{cell}" for stamp, cell in zip(stamps, cells, strict=True)]
    del rows[700:702], rows[100]
    file = project / "last.csv"
    file.write_text("\n".join(["Zeitpunkt;Last (MW)", *rows]) + "\n")
    refused = run_in(project, "reprise", "train", "experiment=forecast_csv", f"data.path={file}", "data.name=last", *SETTINGS)
    assert refused.returncode == 2
    assert "row 102, column Zeitpunkt: '03.03.2024 02:30' comes after the missing time step 2024-03-03 02:00" in refused.stderr
    run, output = train(project, file, "data.name=last", "data.gaps=forward_fill", "data.units=MW")
    assert "3 of 1,920 values of Last (MW) are filled." in output
    assert "window.lookback=336, window.horizon=48, window.season=48: by the frequency 30min" in output
    rows_ahead = predict(project, run, file)
    assert [row["time"] for row in rows_ahead[:2]] == ["2024-04-10T00:00:00", "2024-04-10T00:30:00"]
    assert len(rows_ahead) == 48
    assert re.fullmatch(r"val mae 0\.\d+ MW, best baseline seasonal mean 0\.\d+ MW", verdict(output))
    found = metrics(project, run)
    assert found["test"]["mae"] < min(found["seasonal_naive"]["mae"], found["repeat_last"]["mae"])


def test_a_sensor_with_epoch_times_at_5_hz_and_json_output(project: Path) -> None:
    time = 1_700_000_000_000 + 200 * np.arange(1500)
    noise = np.random.Generator(np.random.PCG64(2)).normal(0, 0.1, len(time))
    pd.DataFrame({"epoch": time, "acceleration": np.sin(np.arange(1500) / 9) + noise}).to_csv(project / "s.csv", index=False)
    run, output = train(project, project / "s.csv", "data.name=sensor")
    assert re.fullmatch(r"val mae 0\.\d+, best baseline repeat last 0\.\d+", verdict(output))
    done = run_in(project, "reprise", "predict", run, str(project / "s.csv"), "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["time"] for row in rows[:2]] == ["2023-11-14T22:18:20", "2023-11-14T22:18:20.2"]
    found = metrics(project, run)
    assert found["test"]["mae"] < found["repeat_last"]["mae"]


def test_a_forecast_that_does_not_beat_the_best_baseline_says_so(project: Path) -> None:
    noise = np.random.Generator(np.random.PCG64(5)).normal(size=300)
    stamps = pd.date_range("2023-01-01", periods=300).strftime("%Y-%m-%d")
    pd.DataFrame({"day": stamps, "price": (100 + noise.cumsum()).round(3)}).to_csv(project / "walk.csv", index=False)
    _, output = train(project, project / "walk.csv", "data.name=walk", "data.units=EUR")
    assert re.fullmatch(r"val mae 1\.\d+ EUR, best baseline repeat last 1\.\d+ EUR: the model does not beat it", verdict(output))


def check_served(project: Path, run: str, predicted: list[dict[str, str]]) -> None:
    """The server answers a table of several series, and of one, as `predict` does, and refuses what names no series."""
    header, *lines = (project / "shops.csv").read_text().splitlines()
    one = [header, *(line for line in lines if ",Shop 03," in line)]
    with serving(project, run, Limits(batch=20)) as server:
        assert server.ask("/model")[1]["id"] == "shop"
        for body, expected in ((lines, predicted), (one[1:], [row for row in predicted if row["series"] == "Shop 03"])):
            rows = server.predict("\n".join([header, *body]).encode(), "text/csv")
            assert [(row["series"], row["time"]) for row in rows] == [(row["series"], row["time"]) for row in expected]
            assert [row["forecast"] for row in rows] == pytest.approx([float(row["forecast"]) for row in expected], abs=1e-3)
        for body, status, message in (
            ([line.replace("shop,", "").replace(",Shop 03", "") for line in one], 422, "no column 'shop'"),
            ([line.replace("Shop 03", "") for line in one], 422, "names no series"),
            (one[:20], 422, "of series Shop 03"),
            ([header, *lines, "2022-01-01,Shop 20,1"], 413, "21 series, and a request may have 20"),
        ):
            answer = server.ask("/predict", "\n".join(body).encode(), "text/csv")
            assert answer[0] == status
            assert message in answer[1]["error"]


def test_twenty_shops_in_long_format_are_forecast_by_one_model(project: Path) -> None:
    draws = np.random.Generator(np.random.PCG64(4))
    frames = []
    for shop in range(20):
        days = np.arange(200 - 2 * shop)
        sales = (50 + 20 * shop) * (1 + 0.3 * np.sin(2 * np.pi * days / 7 + shop)) + draws.normal(0, 3, len(days))
        dates = pd.Timestamp("2022-01-01") + pd.to_timedelta(days, "D")
        frames.append(pd.DataFrame({"date": dates, "shop": f"Shop {shop:02}", "sales": sales.round(2)}))
    pd.concat(frames).sort_values("date", kind="stable").to_csv(project / "shops.csv", index=False)
    run, output = train(project, project / "shops.csv", "data.name=shops", "data.id=shop", "data.units=EUR")
    assert "20 series of 162 to 200 time steps, frequency D" in output
    rows = predict(project, run, project / "shops.csv")
    assert len(rows) == 20 * 7
    first = {row["series"]: row["time"] for row in rows if row["step"] == "1"}
    assert (first["Shop 00"], first["Shop 19"]) == ("2022-07-20T00:00:00", "2022-06-12T00:00:00")
    found = metrics(project, run)
    assert found["test"]["mae"] < min(found["seasonal_naive"]["mae"], found["repeat_last"]["mae"])
    opened = open_run(ProjectPaths(project), run)
    with (opened.output_folder / "figures" / "errors_by_series.csv").open() as stream:
        errors = [row for row in csv.DictReader(stream) if row["method"] == "forecast"]
    assert [row["series"] for row in errors] == [f"Shop {shop:02}" for shop in range(20)]
    windows = [int(row["windows"]) for row in errors]
    assert np.average([float(row["mae"]) for row in errors], weights=windows) == pytest.approx(found["test"]["mae"])
    check_served(project, run, rows)
    out = project / "explained"
    result = explain_series.run(opened, project / "shops.csv", out, Console(quiet=True), "Shop 03", None)
    assert result.sample.startswith("shops.csv, series Shop 03: sales after 2022-07-13")
    drawn = {"attribution.csv", "attribution.png", "importance.png", "importance_by_step.png"}
    assert {file.name for file in out.iterdir()} == drawn
