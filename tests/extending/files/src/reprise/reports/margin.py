"""Table of an evaluated margin task."""

from pathlib import Path

from reprise.reports.evaluated import Evaluated
from reprise.tasks.task import Task


def write(folder: Path, run: Evaluated, task: Task) -> None:
    predicted, true = run.predictions.T.long().tolist()
    lines = [f"{one},{other}" for one, other in zip(predicted, true, strict=True)]
    (folder / "classes.csv").write_text("\n".join(["predicted,true", *lines]))
