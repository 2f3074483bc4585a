"""What the guide prints about logged models runs as it is printed."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from reprise.training.predictor import description
from tests.pipeline.conftest import ROOT


def snippet() -> str:
    (code,) = (
        code
        for code in re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "guide.md").read_text(), re.DOTALL)
        if "pyfunc" in code
    )
    return code


def test_the_snippet_of_the_guide_runs_as_printed(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    before, uri = set(made.iterdir()), mlflow.get_tracking_uri()
    variables: dict[str, object] = {}
    try:
        exec(compile(snippet(), "docs/guide.md", "exec"), variables)
    finally:
        mlflow.set_tracking_uri(uri)
    assert set(made.iterdir()) == before  # no mlflow.db of its own
    printed = capsys.readouterr().out.split()

    model, pixels = variables["model"], np.asarray(variables["pixels"])
    assert isinstance(model, mlflow.pyfunc.PyFuncModel)
    metadata = model.metadata.metadata
    assert metadata["classes"] == [str(digit) for digit in range(10)]
    assert printed == [metadata["classes"][number] for number in model.predict(pixels).argmax(1)]
    assert metadata["input"] == {"dtype": "uint8", "shape": [8, 8, 1]}
    assert metadata["pixels"] == "grey, 0 to 255, channels last"
    np.testing.assert_array_equal(model.predict(pixels.astype(np.int64)), model.predict(pixels))  # as JSON is parsed
    for wrong in (pixels / 255, pixels[0], pixels.astype(np.int64) + 1000, pixels > 0, pixels[:0]):
        with pytest.raises(ValueError, match=r"^the input .*; this model takes uint8 \[B, 8, 8, 1\]") as refused:
            model.predict(wrong)
        assert len(str(refused.value)) < 130
        assert "\n" not in str(refused.value)


def test_a_forecaster_tells_its_channels_units_and_lookback(made: Path) -> None:
    (folder,) = (file.parent for file in made.glob("mlruns/runs/*/model/MLmodel") if "kind: series" in file.read_text())
    model = mlflow.pyfunc.load_model(str(folder))
    metadata = model.metadata.metadata
    assert metadata["targets"] == ["temp_max"]
    assert metadata["units"] == {"temp_max": "°C"}
    assert metadata["lookback"] == metadata["input"]["shape"][0]
    assert len(metadata["channels"]) == metadata["input"]["shape"][1]
    example = np.ones((2, *metadata["input"]["shape"]))
    assert model.predict(example).shape == (2, metadata["horizon"], 1)  # float64 is as good as float32
    example[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"^the input has values that are not finite; this model takes float32 \[B, "):
        model.predict(example)


def test_any_class_name_is_kept_as_it_is() -> None:
    meta = {"kind": "images", "classes": [r"$\frac$", "猫"], "input_shape": [8, 8, 3]}
    assert description(meta) == {"kind": "images", "classes": [r"$\frac$", "猫"], "pixels": "RGB, 0 to 255, channels last"}
