"""A project with an empty tracking store, which MLflow takes seconds to make."""

import shutil
from pathlib import Path

import pytest

from reprise.tracking import backend
from tests.pipeline.conftest import make_project


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    backend.connect(backend.local_address(folder), folder)
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    root = make_project(tmp_path / "clone")
    (root / "mlruns").mkdir()
    shutil.copy(empty_store, root / "mlruns")
    return root
