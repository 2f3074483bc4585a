"""Large pictures of imbalanced classes, some of them broken, from files to heat maps: trained on tiles, measured per picture."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import run_in

PROGRAM = """
import io, json, subprocess, sys
from pathlib import Path
import numpy as np
import torch
from rich.console import Console
import reprise
from reprise import errors
from reprise.data.modalities.images.decoding import cut
from reprise.inference import explain
from reprise.inference.export import folder as export
from reprise.project_paths import ProjectPaths
from reprise.serving.limits import Limits, RequestError
from reprise.serving.model import load
from PIL import Image

pictures = Path(sys.argv[1])
run = reprise.train(
    "image_folder", f"data.path={pictures}", "data.name=large", "data.shape=[16,16,1]", "data.resize=tiles", "data.broken=leave_out",
    "task.class_weights=balanced", "task.monitor=balanced_accuracy", "model.blocks=[{filters: 8, padding: same, pool: 2}]",
    "trainer.max_epochs=6", "trainer.threads=1", "trainer.progress=false", "tracking.log_model=false", "optimizer.lr=0.01",
)
evaluated = subprocess.run([sys.executable, "-P", "-m", "reprise", "evaluate", run.id], capture_output=True, text=True, check=True)
table = run.predict(pictures)
rows = []
for row in table.to_dict("records")[:5]:
    tiles = cut(np.asarray(Image.open(row["file"]))[..., None], 16, 16, 0.25).pixels
    with torch.inference_mode():
        rows.append([row["probabilities.checks"], run.model(torch.from_numpy(tiles)).double().mean(0)[0].item(), len(tiles)])
model = load(ProjectPaths(Path.cwd()), run.id, Limits())
served = [model.answerer.answer(Path(file).read_bytes(), False, False)["predictions"][0]["probabilities"] for file in table["file"][:5]]
stream = io.BytesIO()
Image.new("L", (1000, 1000)).save(stream, "PNG")
try:
    model.answerer.answer(stream.getvalue(), False, False)
except RequestError as error:
    too_large = [error.status, str(error)]
model.batcher.close()
out = Path("explained")
explained = explain.run(run._opened, Path(table["file"][0]), out, Console(quiet=True), None, None)
try:
    export.run(run._opened, "onnx", False, Path("exported"), Console(quiet=True))
except errors.UserError as error:
    refused = str(error)
right = table[table["split"] == "test"]
print(json.dumps({
    "served": [one["checks"] for one in served], "too_large": too_large,
    "test": run.metrics, "tags": run.tags, "rows": rows, "explained": [explained.predicted, explained.probability],
    "first": [table["class"][0], table["confidence"][0]], "drawn": sorted(file.name for file in out.iterdir()), "refused": refused,
    "accuracy": float((right["class"] == right["true"]).mean()), "tested": len(right), "pictures": len(table),
    "heat": [str(file.parent.name) for file in Path("mlruns").rglob("tiles.png")],
    "said": " ".join(evaluated.stdout.split()),
}))
"""


@pytest.fixture(scope="module")
def pictures(project: Path) -> Path:
    """Write 64 striped and 8 chequered pictures of 20 to 40 pixels a side, and 20 broken files."""
    rng, folder = np.random.default_rng(0), project / "large"
    for number in range(72):
        checks = number % 9 == 0
        rows, columns = np.indices(rng.integers(20, 41, 2))
        pattern = (rows // 3 + columns // 3) % 2 if checks else rows // 3 % 2
        pixels = (120 * pattern + rng.integers(0, 100, pattern.shape)).astype(np.uint8)
        file = folder / ("checks" if checks else "stripes") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    intact = (folder / "stripes" / "1.png").read_bytes()
    for number in range(20):
        content = [b"", b"text", intact[: len(intact) // 2], b"\x89PNG\r\n\x1a\n"][number % 4]
        (folder / "stripes" / f"broken{number}.png").write_bytes(content)
    return folder


@pytest.mark.long
def test_pictures_in_tiles_are_trained_evaluated_predicted_and_explained(project: Path, pictures: Path) -> None:
    done = run_in(project, sys.executable, "-c", PROGRAM, str(pictures))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["pictures"], found["tested"]) == (72, 11)
    assert found["accuracy"] == pytest.approx(found["test"]["test/accuracy"])  # per picture, not per tile
    assert found["test"]["test/balanced_accuracy"] > 0.9
    assert {tiles for *_, tiles in found["rows"]} != {1}
    for predicted, mean, _ in found["rows"]:
        assert predicted == pytest.approx(mean, abs=1e-6)
    assert found["served"] == pytest.approx([predicted for predicted, *_ in found["rows"]], abs=1e-6)
    assert found["too_large"] == [413, "1,000 x 1,000 pixels are 6,889 tiles, and a picture may have 4,096"]
    assert found["explained"][0] == found["first"][0]
    assert found["explained"][1] == pytest.approx(found["first"][1], abs=1e-6)
    assert "tiles.png" in found["drawn"]
    assert found["heat"]
    assert "export does not cut pictures into tiles" in found["refused"]
    weights = dict(item.rsplit(" ", 1) for item in found["tags"]["class_weights"].split(", "))
    assert float(weights["checks"]) > 3 * float(weights["stripes"])
    for number in range(20):
        assert f"broken: stripes/broken{number}.png: " in done.stdout + done.stderr
    assert "test is imbalanced: 91 % are stripes (10), checks has 1: accuracy hides" in found["said"]
