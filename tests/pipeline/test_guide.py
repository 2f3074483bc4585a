"""The example of the guide for logged models runs as printed."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from reprise.data.modalities.images.tensors import describe_inputs
from tests.metas import image_meta
from tests.pipeline.conftest import ROOT

PAGE = ROOT / "docs" / "guides" / "models.md"


def snippet() -> str:
    (code,) = (code for code in re.findall(r"```python\n(.+?)```", PAGE.read_text(), re.DOTALL) if "pyfunc" in code)
    return code


def test_the_snippet_of_the_guide_runs_as_printed(
    pipeline_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pipeline_project)
    before, uri = set(pipeline_project.iterdir()), mlflow.get_tracking_uri()
    variables: dict[str, object] = {}
    try:
        exec(compile(snippet(), str(PAGE), "exec"), variables)
    finally:
        mlflow.set_tracking_uri(uri)
    assert set(pipeline_project.iterdir()) == before  # no new mlflow.db
    printed = capsys.readouterr().out.split()

    model, pixels = variables["model"], np.asarray(variables["pixels"])
    assert isinstance(model, mlflow.pyfunc.PyFuncModel)
    metadata = model.metadata.metadata
    assert metadata["classes"] == [str(digit) for digit in range(10)]
    assert printed == [metadata["classes"][number] for number in model.predict(pixels).argmax(1)]
    assert metadata["inputs"] == {"pixels": {"dtype": "uint8", "shape": [8, 8, 1]}}
    assert metadata["pixels"] == "grey, 0 to 255, channels last"
    np.testing.assert_array_equal(model.predict(pixels.astype(np.int64)), model.predict(pixels))  # integers, as parsed from JSON
    for wrong in (pixels / 255, pixels[0], pixels.astype(np.int64) + 1000, pixels > 0, pixels[:0]):
        with pytest.raises(ValueError, match=r"^pixels .*; this model takes uint8 \[B, 8, 8, 1\]") as refused:
            model.predict(wrong)
        assert len(str(refused.value)) < 130
        assert "\n" not in str(refused.value)


def test_a_logged_forecasting_model_describes_its_channels_units_and_lookback(pipeline_project: Path) -> None:
    (folder,) = (
        file.parent for file in pipeline_project.glob("mlruns/runs/*/model/MLmodel") if "kind: series" in file.read_text()
    )
    model = mlflow.pyfunc.load_model(str(folder))
    metadata = model.metadata.metadata
    assert metadata["targets"] == ["temp_max"]
    assert metadata["units"] == {"temp_max": "°C"}
    shape = metadata["inputs"]["values"]["shape"]
    assert shape == [metadata["lookback"], len(metadata["channels"])]
    days = np.datetime64("2016-01-01") + np.arange(metadata["lookback"])
    example = {"values": np.ones((2, *shape)), "time": np.stack([days, days])}
    assert model.predict(example).shape == (2, metadata["horizon"], 1)  # float64 and datetime64 are accepted too
    example["values"][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"^values has values that are not finite; this model takes float32 \[B, "):
        model.predict(example)
    with pytest.raises(ValueError, match=r"^this model takes a dict of arrays: values, time$"):
        model.predict(example["values"])


def test_unusual_class_names_are_stored_unchanged() -> None:
    meta = image_meta([r"$\frac$", "猫"], [8, 8, 3])
    assert describe_inputs(meta) == {"kind": "images", "classes": [r"$\frac$", "猫"], "pixels": "RGB, 0 to 255, channels last"}
