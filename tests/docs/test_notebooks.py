"""The notebooks run from top to bottom, and are stored with what they show."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs.generate import notebooks


def outputs(notebook: notebooks.Notebook) -> Iterator[dict[str, Any]]:
    for cell in notebook["cells"]:
        yield from cell.get("outputs", [])


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_a_stored_notebook_was_executed_in_order_and_shows_figures(name: str) -> None:
    notebook = notebooks.read(name)
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert {output["output_type"] for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    text, pictures = notebooks.page(name, notebook)
    assert len(pictures) >= 3
    assert all(content.startswith(b"\x89PNG") and f"]({file})" in text for file, content in pictures.items())
    assert "site-packages" not in text
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < 1_000_000


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_a_training_leaves_one_line_of_its_last_epoch(name: str) -> None:
    texts = ["".join(output["data"]["text/plain"]) for output in outputs(notebooks.read(name)) if "data" in output]
    epochs = [line for text in texts for line in text.splitlines() if "  epoch " in line]
    trained = [line for text in texts for line in text.splitlines() if "best epoch" in line]
    assert len(epochs) == len(trained) > 1
    assert all(done == total for done, total in (line.split("  epoch ")[1].split()[0].split("/") for line in epochs))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return notebooks.make_project(tmp_path_factory.mktemp("notebooks"))


@pytest.mark.long
@pytest.mark.parametrize("name", notebooks.NAMES)
def test_a_notebook_runs_and_shows_what_is_stored(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [one for one in os.environ if one.startswith(("MLFLOW_", "PYTEST_"))]:
        monkeypatch.delenv(variable)
    stored, executed = notebooks.read(name), notebooks.execute(notebooks.read(name), project)
    kinds = [[(one["output_type"], sorted(one.get("data", ()))) for one in outputs(each)] for each in (stored, executed)]
    assert kinds[0] == kinds[1]
