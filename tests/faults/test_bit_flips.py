"""A single flipped bit, anywhere, is noticed before anything is computed from it, named, and mended by the stage that makes it."""

import random
import shutil
from pathlib import Path

import pytest

from reprise.data import store
from tests.faults.bit_flips import KINDS, OUTPUTS, Made, complaint, evaluation, flipped, publish_model
from tests.pipeline.conftest import run_in

FLIPS = {"raw": 4, "processed": 14, "windows": 16, "cache": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made") / "clone", seed=0)


def test_what_is_sound_is_used_without_a_word(made: Made) -> None:
    made.use()
    assert {made.output(file)[1] for file in made.before} == set(OUTPUTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_noticed_named_and_mended(kind: str, made: Made) -> None:
    bit_flips = [made.flip(kind) for _ in range(FLIPS[kind])]
    assert [flip for flip in bit_flips if not flip.well] == []
    assert not (made.paths.store / "windows").exists()  # nothing was quietly made elsewhere instead


def test_a_flipped_bit_of_a_config_is_noticed_named_and_mended(made: Made) -> None:
    assert [flip for flip in (made.flip("config") for _ in range(5)) if not flip.well] == []


def test_configs_are_not_used_without_their_manifest(made: Made) -> None:
    """DVC checks it out under another name when a bit of its list of files is flipped."""
    manifest = made.paths.config("").with_name(store.MANIFEST)
    elsewhere = manifest.rename(manifest.with_name("manifesu.json"))
    assert complaint(made.use).startswith(f"no {manifest}; run `reprise compose`")
    elsewhere.rename(manifest)
    assert complaint(made.use) == ""


def test_a_flipped_bit_of_trained_weights_is_noticed_before_they_are_evaluated(made: Made) -> None:
    folder, generator = publish_model(made), random.Random(0)
    for file in sorted(folder.iterdir()):
        for _ in range(3):
            with flipped(file, generator) as place:
                said = evaluation(made)
            assert str(folder) in said, (file, place)
            assert "dvc repro" in said
            assert file.name in said or file.name == store.MANIFEST
            assert "\n" not in said
    assert list(made.paths.results("").iterdir()) == [] if made.paths.results("").is_dir() else True


def test_a_damaged_cache_is_mended_when_dvc_is_made_to_look_at_it(made: Made) -> None:
    """As the guide says: write-protected objects are taken for sound, others are hashed."""
    array = made.paths.processed("digits") / "train" / "images.npy"
    content, cache = array.read_bytes(), made.paths.root / ".dvc" / "cache" / "files" / "md5"
    (file,) = (one for one in cache.rglob("*/*") if one.read_bytes() == content)
    with flipped(file, random.Random(1)):
        shutil.rmtree(made.paths.processed("digits"))
        assert made.in_cache(["dvc", "repro", "-q", "-s", "preprocess@digits"]) == ""
        assert array.read_bytes() != content  # DVC has restored the damage, and calls it up to date
        for one in cache.rglob("*/*"):
            one.chmod(0o644)
        shutil.rmtree(made.paths.processed("digits"))
        done = run_in(Path(made.paths.root), "dvc", "repro", "-s", "preprocess@digits")
        assert "Running stage 'preprocess@digits'" in done.stdout
        assert array.read_bytes() == file.read_bytes() == content
