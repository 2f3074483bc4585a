"""The same bytes give the same answer from the training code, `predict`, the exported and the logged model, and the server."""

import csv
import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

from reprise.inference import forecast, predict
from reprise.inference.export.graphs import write_onnx
from reprise.inference.export.runners import onnx_runner, raw_inputs, scale_of
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun, open_run
from reprise.project_paths import ProjectPaths
from reprise.serving.server import bind
from tests.pipeline.conftest import pipeline_project
from tests.serving.running import TOLERANCE, Running, serving

__all__ = ["pipeline_project"]
Values = npt.NDArray[Any]
COUNT, CLIENTS = 8, 32
QUIET = Console(quiet=True)


def opened(project: Path, name: str) -> tuple[TrainedRun, Predictor]:
    run = open_run(ProjectPaths(project), name)
    return run, Predictor.from_run(run)


def logged(project: Path, run: TrainedRun) -> Callable[[Any], pd.DataFrame]:
    return mlflow.pyfunc.load_model(str(project / "mlruns" / "runs" / run.trained.run_id / "model")).predict  # type: ignore[no-any-return]


def validated(run: TrainedRun, predictor: Predictor, rows: torch.Tensor) -> Values:
    """Return the answers for rows of val as training computes them, from the inputs of its loader."""
    batch = run.windows.val().gather(rows)
    with torch.inference_mode():
        return predictor.task.postprocess(predictor.task.decode(predictor.network(batch.inputs), batch.inputs)).numpy()


def onnx(predictor: Predictor, run: TrainedRun, rows: torch.Tensor, file: Path) -> Values:
    inputs = raw_inputs(predictor, run.windows.val(), rows)
    write_onnx(predictor, {name: part[:2] for name, part in inputs.items()}, file)
    return onnx_runner(file)(inputs)


@pytest.fixture(scope="module")
def digits(pipeline_project: Path) -> tuple[TrainedRun, Predictor, list[bytes], Values]:
    """The run, pictures of its val split as PNG files, and what training says of them."""
    run, predictor = opened(pipeline_project, "digits_cnn")
    rows = torch.arange(COUNT)
    contents = []
    for pixels in run.windows.val().raw(rows)[0].numpy():
        stream = io.BytesIO()
        Image.fromarray(pixels[:, :, 0]).save(stream, "PNG")
        contents.append(stream.getvalue())
    return run, predictor, contents, validated(run, predictor, rows)


@pytest.fixture(scope="module")
def pictures(pipeline_project: Path) -> Iterator[Running]:
    with serving(pipeline_project, "digits_cnn") as server:
        yield server


def probabilities(rows: list[dict[str, Any]]) -> Values:
    return np.array([list(row["probabilities"].values()) for row in rows])


def test_pictures(
    pipeline_project: Path, digits: tuple[TrainedRun, Predictor, list[bytes], Values], pictures: Running, tmp_path: Path
) -> None:
    run, _, contents, expected = digits
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    answers = {
        "predict": probabilities(predict.run(run, tmp_path, tmp_path / "out", QUIET).rows()),
        "logged": logged(pipeline_project, run)(contents).filter(like="p_").to_numpy(),
        "logged, of arrays": logged(pipeline_project, run)(run.windows.val().raw(torch.arange(COUNT))[0].numpy()),
        "server": np.concatenate([probabilities(pictures.predict(content, "image/png")) for content in contents]),
    }
    for name, found in answers.items():
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=name)


def test_a_series(pipeline_project: Path, tmp_path: Path) -> None:
    run, predictor = opened(pipeline_project, "temperature_lstm")
    rows = torch.tensor([0, 100])
    expected = validated(run, predictor, rows)
    table = pd.read_csv(pipeline_project / "data" / "raw" / "seattle_weather" / "seattle-weather.csv")
    stamps = run.windows.val().raw(rows)[1][:, -1].numpy().astype("datetime64[ns]").astype("datetime64[D]").astype(str)
    model, scale = logged(pipeline_project, run), float(scale_of(predictor)[0])
    with serving(pipeline_project, "temperature_lstm") as server:
        for stamp, point in zip(stamps, expected, strict=True):
            until = table[table["date"].str.slice(0, 10).str.replace("/", "-") <= stamp]
            file = tmp_path / f"{stamp}.csv"
            until.to_csv(file, index=False)
            parquet, text = io.BytesIO(), file.read_bytes()
            until.to_parquet(parquet)
            cells = list(csv.DictReader(io.StringIO(text.decode())))
            answers = {
                "predict": forecast.run(run, file, tmp_path / "out", QUIET).rows(),
                "logged": model(until).to_dict("records"),
                "server": server.predict(text, "text/csv"),
                "server, Parquet": server.predict(parquet.getvalue(), "application/vnd.apache.parquet"),
                "server, JSON": server.ask("/predict", json_of(cells), "application/json")[1]["predictions"],
            }
            for name, found in answers.items():
                assert [row["forecast"] for row in found] == pytest.approx(point[:, 0], abs=TOLERANCE * scale), name
                for bound in ("lower", "upper"):
                    assert found[0][bound] == pytest.approx(answers["predict"][0][bound], abs=TOLERANCE * scale), name
                assert pd.Timestamp(found[0]["time"]) == pd.Timestamp(stamp) + pd.Timedelta(days=1), name


def json_of(rows: list[dict[str, str]]) -> bytes:
    import json

    return json.dumps({"rows": rows}).encode()


@pytest.mark.long
def test_the_exported_models(
    pipeline_project: Path, digits: tuple[TrainedRun, Predictor, list[bytes], Values], tmp_path: Path
) -> None:
    run, predictor, _, expected = digits
    found = onnx(predictor, run, torch.arange(COUNT), tmp_path / "digits.onnx")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    run, predictor = opened(pipeline_project, "temperature_lstm")
    rows = torch.arange(COUNT)
    found = onnx(predictor, run, rows, tmp_path / "temperature.onnx")
    np.testing.assert_allclose(found, validated(run, predictor, rows), rtol=0, atol=TOLERANCE * scale_of(predictor)[0])


def test_many_clients_at_once_get_the_answers_of_their_own_pictures(
    pictures: Running, digits: tuple[TrainedRun, Predictor, list[bytes], Values]
) -> None:
    _, _, contents, expected = digits

    def ask(client: int) -> float:
        differences = []
        for number in range(client, client + 4):
            one = number % COUNT
            found = probabilities(pictures.predict(contents[one], "image/png"))
            differences.append(np.abs(found - expected[one]).max())
        return float(max(differences))

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert max(pool.map(ask, range(CLIENTS))) < TOLERANCE


def test_status_model_metrics_and_pages(pictures: Running) -> None:
    identity = pictures.holder.current.identity
    assert pictures.ask("/health") == (200, {"status": "ok"})
    assert pictures.ask("/ready") == (200, {"status": "ready", "model": identity.as_dict()})
    status, described = pictures.ask("/model")
    assert (status, described["kind"], described["classes"]) == (200, "images", [str(digit) for digit in range(10)])
    for page in ("/", "/docs"):
        status, content = pictures.ask(page)
        assert status == 200
        assert "https://" not in content  # nothing is loaded from elsewhere
    status, schema = pictures.ask("/openapi.json")
    assert status == 200
    assert set(schema["paths"]["/predict"]["post"]["requestBody"]["content"]) == set(pictures.holder.current.answerer.types)
    _, text = pictures.ask("/metrics")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['reprise_requests_total{path="/health",status="200"}']) >= 1
    buckets = [float(value) for name, value in values.items() if name.startswith('reprise_request_seconds_bucket{path="/health"')]
    assert buckets == sorted(buckets)
    assert buckets[-1] == float(values['reprise_request_seconds_count{path="/health"}'])
    assert float(values["reprise_resident_memory_bytes"]) > 1e7


def test_answers_are_sent_without_delay() -> None:
    """Each part of an answer at once, and not after the client has acknowledged the part before."""
    with bind("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # asyncio then sets TCP_NODELAY
