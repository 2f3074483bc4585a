"""`init_from`: a training starts from another run's weights, says so, and can be repeated without that run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from reprise.analysis import lineage
from reprise.config import compose
from reprise.data import store
from reprise.data.contracts import WindowsMeta
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import compose as compose_stage
from reprise.stages import initial_weights
from reprise.tracking import record
from reprise.tracking.published_weights import read_published
from reprise.tracking.weights import load_weights
from tests.metas import image_meta, series_meta
from tests.pipeline.conftest import run_in

SPLITS = ("train", "val", "test")


def run_dir(project: Path, name: str) -> Path:
    [found] = [
        file.parent
        for file in (project / "mlruns" / "runs").glob("*/run.json")
        if store.read_json(file)["name"].startswith(f"{name}-")
    ]
    return found


@pytest.mark.long
def test_a_run_starts_from_another_says_so_and_is_reproduced_when_that_one_is_gone(project: Path) -> None:
    def train(name: str, *overrides: str) -> Any:
        return run_in(project, "reprise", "train", "experiment=digits_cnn", f"name={name}", "trainer.threads=1", *overrides)

    assert train("source").returncode == 0
    source = run_dir(project, "source")
    done = train("tuned", f"init_from={source.name[:12]}", 'freeze=["features.*"]', "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    tuned = run_dir(project, "tuned")
    first, second = load_weights(source / "best.safetensors"), load_weights(tuned / "best.safetensors")
    for name in first:
        assert torch.equal(first[name], second[name]) == name.startswith("features."), name

    recorded, sha256 = record.from_run_dir(tuned), store.sha256(source / "best.safetensors")
    name = record.from_run_dir(source).name
    assert recorded.config["init_from"] == f"{name}@sha256:{sha256}"
    assert lineage.describe(recorded)["initial weights"] == {"from": name, "run": source.name, "sha256": sha256}
    assert store.sha256(tuned / "lineage" / "initial.safetensors") == sha256

    other_split = train("tuned", f"init_from={name}", "window.seed=1")
    assert other_split.returncode == 2
    assert f"{name} was trained on" in other_split.stderr
    assert "samples that are in the test split here; split the data as it did" in other_split.stderr
    other_weights = train("tuned", f"init_from={name}@sha256:{'0' * 64}")
    assert other_weights.returncode == 2
    assert f"init_from={name}: its weights are others now (sha256 {sha256[:12]}…, not 000000000000…)" in other_weights.stderr

    shutil.rmtree(source)
    reproduced = run_in(project, "reprise", "reproduce", tuned.name)
    assert "identical: weights bit for bit, every metric exactly" in reproduced.stdout, reproduced.stderr
    gone = train("tuned", f"init_from={name}")
    assert gone.returncode == 2
    assert (
        gone.stderr.strip().splitlines()[-1].startswith(f"reprise: init_from={name}: 0 runs are called {name}; there are tuned-")
    )


def test_an_experiment_of_the_pipeline_gives_the_weights_of_its_first_seed(pipeline_project: Path) -> None:
    paths = ProjectPaths(pipeline_project)
    config = compose(pipeline_project, ["experiment=digits_cnn", "init_from=digits_cnn"])
    windows = open_windows(paths.windows("digits_cnn"), paths.processed("digits"))
    pinned, initial = initial_weights.find(config, windows, paths, Console(quiet=True))
    [trained] = read_published(paths, "digits_cnn")
    assert initial is not None
    assert initial.file == paths.models("digits_cnn") / "seed0.safetensors"
    assert (initial.source.run_id, initial.source.val_overlap) == (trained.run_id, 0)  # the same split
    assert initial.source.labels == [str(digit) for digit in range(10)]
    assert pinned.init_from == f"digits_cnn@sha256:{store.sha256(initial.file)}"


def split(folder: Path, meta: WindowsMeta, data: str = "digits", **indices: list[int]) -> Windows:
    """Write splits to a folder."""
    with store.publish(folder) as draft:
        for name in SPLITS:
            store.write_array(draft / f"{name}.npy", np.array(indices.get(name, []), np.int64))
    return Windows(folder, Path("processed") / data, meta)


def trained_on(windows: Windows) -> Any:
    """Return what `_overlap` reads of a run."""
    names = {"config": SimpleNamespace(data=SimpleNamespace(name=windows.arrays.name)), "trained": SimpleNamespace(name="run")}
    return SimpleNamespace(windows=windows, **names)


ASSIGNED = st.lists(st.sampled_from(SPLITS), min_size=1, max_size=20)


@given(theirs=ASSIGNED, ours=ASSIGNED)
@settings(max_examples=15, deadline=None)
def test_the_overlap_counts_each_sample_of_val_and_test_that_the_other_run_learned_from(
    tmp_path_factory: pytest.TempPathFactory, theirs: list[str], ours: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("splits")
    meta = image_meta(parts=dict.fromkeys(SPLITS, "train"), arrays="hash")
    made = [
        split(folder / name, meta, **{one: [i for i, at in enumerate(assigned) if at == one] for one in SPLITS})
        for name, assigned in (("theirs", theirs), ("ours", ours))
    ]
    pairs = list(zip(theirs, ours, strict=False))
    expected = pairs.count(("train", "val")), pairs.count(("train", "test")) + pairs.count(("val", "test"))
    assert initial_weights._overlap(trained_on(made[0]), made[1], "run") == expected


def test_a_published_test_set_shares_no_sample_with_the_training_set(tmp_path: Path) -> None:
    theirs, ours = (split(tmp_path / name, image_meta(arrays="hash"), train=[0, 1], val=[2], test=[0, 1, 2]) for name in "ab")
    assert initial_weights._overlap(trained_on(theirs), ours, "run") == (0, 0)


@pytest.mark.parametrize(
    ("borders", "expected"), [((70, 85), (0, 0)), ((80, 85), (10, 0)), ((70, 90), (0, 5)), ((60, 80), (0, 0))]
)
def test_rows_of_a_series_overlap_from_the_border_of_the_earlier_split(
    tmp_path: Path, borders: tuple[int, int], expected: tuple[int, int]
) -> None:
    theirs = split(tmp_path / "a", series_meta(borders={"train": borders[0], "val": borders[1], "test": 100}, arrays="hash"))
    ours = split(tmp_path / "b", series_meta(arrays="hash"))
    assert initial_weights._overlap(trained_on(theirs), ours, "run") == expected


def test_data_that_have_changed_since_are_refused_and_other_data_are_not(tmp_path: Path) -> None:
    theirs, ours = split(tmp_path / "a", image_meta(arrays="old")), split(tmp_path / "b", image_meta(arrays="new"))
    with pytest.raises(UserError, match=r"^init_from=run: data/processed/digits has changed since, so the test split may hold "):
        initial_weights._overlap(trained_on(theirs), ours, "run")
    other = split(tmp_path / "c", image_meta(arrays="new"), data="mnist")
    assert initial_weights._overlap(trained_on(theirs), other, "run") == (0, 0)


def test_the_pipeline_takes_published_weights_which_stages_depend_on_and_refuses_those_of_runs(project: Path) -> None:
    def sources(*overrides: str) -> str:
        config = compose(project, ["experiment=digits_cnn", *overrides])
        return compose_stage._plugin_sources("digits_cnn", config, SimpleNamespace(plugins={}))  # type: ignore[arg-type]

    published = "init_from=imagenet/efficientnet_lite0"
    texts = {sources(), sources(published), sources(published, 'freeze=["stem.*"]'), sources(published[:-1] + "1")}
    assert len(texts) == 4
    with pytest.raises(UserError, match=r"^conf/pipeline.yaml: digits_cnn has init_from=a-run, and DVC would not notice "):
        sources("init_from=a-run")
    config = compose(project, ["experiment=digits_cnn"])
    assert not {"init_from", "freeze"} & config.model_dump().keys()  # so that configs without them keep their hash
    with pytest.raises(UserError, match="freeze needs init_from"):
        compose(project, ["experiment=digits_cnn", 'freeze=["stem.*"]'])
    assert json.loads(sources(published, 'freeze=["a", "b"]').partition(" ")[2].partition(" ")[2]) == ["a", "b"]
