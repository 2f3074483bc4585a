"""A single flipped bit, anywhere, is detected before anything is computed from it, named, and repaired by the stage that makes it."""

import random
import shutil
from pathlib import Path

import pytest

from reprise.data import store
from tests.faults.bit_flips import KINDS, OUTPUTS, PipelineProject, error_message, evaluate_error, flipped, publish_model
from tests.pipeline.conftest import run_in

FLIPS = {"raw": 4, "processed": 14, "windows": 16, "cache": 4}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    return PipelineProject(tmp_path_factory.mktemp("project") / "clone", seed=0)


def test_undamaged_outputs_are_accepted(project: PipelineProject) -> None:
    project.use()
    assert {project.output(file)[1] for file in project.original} == set(OUTPUTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_detected_named_and_repaired(kind: str, project: PipelineProject) -> None:
    bit_flips = [project.flip(kind) for _ in range(FLIPS[kind])]
    assert [flip for flip in bit_flips if not flip.handled] == []
    assert not (project.paths.store / "windows").exists()  # no stage silently wrote elsewhere


def test_a_flipped_bit_of_a_config_is_detected_named_and_repaired(project: PipelineProject) -> None:
    assert [flip for flip in (project.flip("config") for _ in range(5)) if not flip.handled] == []


def test_configs_are_not_used_without_their_manifest(project: PipelineProject) -> None:
    """DVC checks the manifest out under another name if a bit of its list of files is flipped."""
    manifest = project.paths.config("").with_name(store.MANIFEST)
    elsewhere = manifest.rename(manifest.with_name("manifesu.json"))
    assert error_message(project.use).startswith(f"no {manifest}; run `reprise compose`")
    elsewhere.rename(manifest)
    assert error_message(project.use) == ""


def test_a_flipped_bit_of_trained_weights_is_detected_before_they_are_evaluated(project: PipelineProject) -> None:
    folder, generator = publish_model(project), random.Random(0)
    for file in sorted(folder.iterdir()):
        for _ in range(3):
            with flipped(file, generator) as offset:
                message = evaluate_error(project)
            assert str(folder) in message, (file, offset)
            assert "dvc repro" in message
            assert file.name in message or file.name == store.MANIFEST
            assert "\n" not in message
    assert list(project.paths.results("").iterdir()) == [] if project.paths.results("").is_dir() else True


def test_a_damaged_cache_is_repaired_when_dvc_hashes_it_again(project: PipelineProject) -> None:
    """As documented in the guide: DVC trusts write-protected objects and hashes others."""
    array = project.paths.processed("digits") / "train" / "images.npy"
    content, cache = array.read_bytes(), project.paths.root / ".dvc" / "cache" / "files" / "md5"
    (file,) = (one for one in cache.rglob("*/*") if one.read_bytes() == content)
    with flipped(file, random.Random(1)):
        shutil.rmtree(project.paths.processed("digits"))
        assert project.run_dvc(["dvc", "repro", "-q", "-s", "preprocess@digits"]) == ""
        assert array.read_bytes() != content  # DVC restored the damaged file and reports it as up to date
        for one in cache.rglob("*/*"):
            one.chmod(0o644)
        shutil.rmtree(project.paths.processed("digits"))
        process = run_in(Path(project.paths.root), "dvc", "repro", "-s", "preprocess@digits")
        assert "Running stage 'preprocess@digits'" in process.stdout
        assert array.read_bytes() == file.read_bytes() == content
