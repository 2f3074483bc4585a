"""Config errors are one line: the full key, the reason, and the nearest valid key."""

import re
from pathlib import Path

import pytest

from reprise.config import Config, build, check, choices, compose, compose_dataset, load, pipeline, project_root
from reprise.errors import UserError
from tests.config.conftest import build_parts


def error_message(root: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        compose(root, overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


ERRORS = {
    "optimizer.lrr=1": "optimizer.lrr: no such key; the nearest is optimizer.lr; to add an argument: +optimizer.lrr=1",
    "epochs=3": "epochs: no such key; the nearest is trainer.max_epochs",
    "+trainer.max_epoch=3": "trainer.max_epoch: no such key; the nearest is trainer.max_epochs",
    "~trainer.max_epoch": "trainer.max_epoch: no such key; the nearest is trainer.max_epochs",
    "model.blocks.0.kernl=3": "model.blocks.0.kernl: no such key; the nearest is model.blocks.0.kernel; to add an argument: +model.blocks.0.kernl=3",
    "+qqqqq=1": "qqqqq: no such key; `reprise compose experiment=NAME` prints them all",
    "optimizer=adm": "optimizer=adm: no conf/optimizer/adm.yaml; the nearest is adam",
    "optimizer=null": "optimizer=null: no conf/optimizer/null.yaml; there are adam, adamw, sgd",
    "experiment=digts_cnn": "experiment=digts_cnn: no conf/experiment/digts_cnn.yaml; the nearest is digits_cnn",
    "optimizer.lr=fast": "optimizer.lr=fast: should be a valid number",
    "optimizer.lr=0": "optimizer.lr=0: should be greater than 0",
    "optimizer.lr=nan": "optimizer.lr=nan: should be a finite number",
    "trainer.max_epochs=-1": "trainer.max_epochs=-1: should be greater than 0",
    "trainer.max_epochs=3.5": "trainer.max_epochs=3.5: should be a valid integer",
    "trainer.max_epochs='3'": "trainer.max_epochs=3: should be a valid integer",
    "trainer.precision=bf61": "trainer.precision=bf61: should be 'auto', 'float32', 'tf32', 'bf16' or 'fp16'",
    "trainer.preload_to_device=maybe": "trainer.preload_to_device=maybe: should be a valid boolean or 'auto'",
    "trainer.average=mean": "trainer.average=mean: should be 'ema' or 'swa'",
    "trainer.average_decay=0.9": "trainer: average_decay=0.9: average=null has no such setting",
    "trainer.devices=2": "trainer: strategy=single trains on one device, not 2; use trainer=ddp",
    "window.val_size=1.5": "window.val_size=1.5: should be a count of at least 1, or a share between 0 and 1",
    "window.val_size=0": "window.val_size=0: should be a count of at least 1, or a share between 0 and 1",
    "window.test_size=few": "window.test_size=few: should be a count of at least 1, or a share between 0 and 1",
    "data.files.0.sha256=abc": "data.files.0.sha256=abc: should match pattern '^[0-9a-f]{64}$'",
    "seeds=0": "seeds=0: should be a count of at least 1, or a list of different seeds",
    "name=a/b": "name=a/b: should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$'",
    "plugins=['']": "plugins.0=: should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$'",
    "name=???": "name: is missing; set name=…",
    "model.activation=???": "model.activation: is missing; set model.activation=…",
    "~trainer.max_epochs": "trainer.max_epochs: is missing; set trainer.max_epochs=…",
    "name=${nam}": "name: Interpolation key 'nam' not found",
    "max_epochs": "max_epochs: not of the form key=value",
    "=3": "=3: not of the form key=value",
    "seed=[1,2": "seed=[1,2: the value cannot be read; if it is a text, quote it twice, for the shell and for Hydra: 'seed=\"[1,2\"'",
    "+optimizer.lr=3": "Could not append to config. An item is already at 'optimizer.lr'.",
    "augment.flip=2": "augment.flip=2: should be less than or equal to 1",
    "augment.shift=0.5": "augment.shift=0.5: should be a valid integer",
    "augment=cloths": "augment=cloths: no conf/augment/cloths.yaml; the nearest is clothes",
    "published={value:0.9}": "published.note: is missing; set published.note=…",
    "data=image_folder": "data.path: is missing; set data.path=…",
    "data=seattle_weather": "window=images cannot cut data=seattle_weather, which holds series",
    "window=series": "window=series cannot cut data=digits, which holds images",
}


@pytest.mark.parametrize("override", ERRORS)
def test_an_invalid_override_is_reported_with_its_key_and_the_nearest_one(root: Path, override: str) -> None:
    assert error_message(root, "experiment=digits_cnn", override) == ERRORS[override]


def test_a_window_must_fit_the_kind_of_data_and_its_channels(root: Path) -> None:
    assert error_message(root, "experiment=temperature_lstm", "window=images").startswith(
        "window=images cannot cut data=seattle_weather"
    )
    for key in ("inputs", "targets"):
        message = error_message(root, "experiment=temperature_lstm", f"window.{key}=[tmp_max]")
        assert message == f"window.{key} names 'tmp_max'; data=seattle_weather has temp_max, temp_min, precipitation, wind"


def test_invalid_combinations_of_trainer_settings_are_refused(root: Path) -> None:
    fsdp = error_message(root, "experiment=digits_cnn", "trainer=fsdp", "trainer.precision=fp16")
    assert fsdp == "trainer: strategy=fsdp does not scale the loss, which precision=fp16 needs; use bf16"
    average = error_message(root, "experiment=digits_cnn", "trainer=fsdp", "trainer.average=ema")
    assert average == "trainer: strategy=fsdp shards the weights, which average=ema does not support; use trainer=ddp"
    batch = error_message(root, "experiment=digits_cnn", "trainer=ddp_cpu", "trainer.devices=64")
    assert batch == "trainer: batch_size=32 cannot be split over 64 devices"


def test_fp16_with_gradient_clipping_needs_an_unfused_optimizer(root: Path) -> None:
    overrides = ["experiment=digits_cnn", "trainer.precision=fp16", "trainer.gradient_clip=1"]
    assert "needs optimizer.fused=false" in error_message(root, *overrides)
    assert compose(root, [*overrides, "optimizer.fused=false"]).trainer.gradient_clip == 1


def test_without_an_experiment_the_error_lists_all_experiments(root: Path) -> None:
    available = ", ".join(choices(root, "experiment"))
    assert "digits_cnn, " in available
    assert error_message(root, "optimizer.lr=1") == f"no experiment named; add experiment=NAME, one of {available}"


ARGUMENTS = {
    "+model.hiden=3": "model.hiden: no such key; the nearest is model.dense",
    "+model.dense.0.unts=3": "model.dense.0.unts: no such key; the nearest is model.dense.0.units",
    "+model.outputs=3": "model.outputs: is given by reprise itself; omit it",
    "model.dense.0.dropout=2": "model.dense.0.dropout=2.0: must be at least 0 and below 1; its input is 64; it is built by reprise.models.convnet.ConvNet",
    "model.dense=[{dropout: 0.1}]": "model.dense.0.units: is missing",
    "model.blocks=3": "model.blocks=3: should be a valid list",
    "model.blocks.0.filters=many": "model.blocks.0.filters=many: should be a valid integer, unable to parse string as an integer",
    "~model.blocks": "model.blocks: is missing",
    "model.activation=relo": "model.blocks.0: activation=relo: there are relu, gelu, silu, tanh, elu; its input is 8 x 8 x 16; it is built by reprise.models.convnet.ConvNet",
    "+task.smoothing=0.1": "task.smoothing: no such key; the nearest is task.label_smoothing",
    "task.label_smoothing=1": "task.label_smoothing=1.0: must be at least 0 and below 1; it is built by reprise.tasks.classification.Classification",
}


@pytest.mark.parametrize("override", ARGUMENTS)
def test_an_invalid_argument_of_a_network_or_task_is_reported_with_its_key(root: Path, override: str) -> None:
    config = compose(root, ["experiment=digits_cnn", override])
    with pytest.raises(UserError) as refused:
        build_parts(config)
    assert str(refused.value) == ARGUMENTS[override]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+optimizer.amsgrat=true", "optimizer.amsgrat: no such key; the nearest is optimizer.amsgrad"),
        ("optimizer.weight_decay=-1", "optimizer: Invalid weight_decay value: -1.0; it is built by torch.optim.Adam"),
        ("+optimizer.params=[]", "optimizer.params: is given by reprise itself; omit it"),
    ],
)
def test_an_invalid_argument_of_an_optimizer_is_reported_with_its_key(root: Path, override: str, message: str) -> None:
    config = compose(root, ["experiment=digits_cnn", override])
    network, _ = build_parts(config)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build(config.optimizer, "optimizer", config.plugins, network.parameters())


@pytest.mark.parametrize(
    "hidden", ["${oc.env:HOME}", "a ${oc.env:HOME} b", "${oc.decode:'1'}", "${${name}:HOME}", "${oc.env:${name}}"]
)
def test_a_config_cannot_call_a_resolver(clone: Path, hidden: str) -> None:
    """A resolver could read the environment. One whose name is an interpolation is refused as well."""
    experiment = clone / "conf" / "experiment" / "bare_images.yaml"
    experiment.write_text(
        experiment.read_text().replace("name: bare_images", f'name: oc.env\ntracking:\n  experiment: "{hidden}"')
    )
    message = error_message(clone, "experiment=bare_images")
    assert message == f"tracking.experiment={hidden}: calls a resolver; only ${{key.of.the.config}} is allowed"


def test_a_config_can_refer_to_its_own_keys(root: Path) -> None:
    config = compose(root, ["experiment=digits_cnn", "tracking.experiment=of ${data.name} by ${optimizer.lr}"])
    assert config.tracking.experiment == "of digits by 0.001"


def test_a_yaml_error_is_reported_with_file_and_line(clone: Path) -> None:
    for folder, name in (("data", "digits"), ("optimizer", "adam"), ("experiment", "digits_cnn")):
        file = clone / "conf" / folder / f"{name}.yaml"
        content = file.read_text()
        file.write_text(content + "\n  a: [1\nb: : 2\n")
        assert re.search(rf"conf/{folder}/{name}.yaml.*line \d+", error_message(clone, "experiment=digits_cnn"))
        file.write_text(content)
    (clone / "conf" / "pipeline.yaml").write_text("a: b: c")
    with pytest.raises(UserError, match=r"conf/pipeline.yaml.*line 1"):
        pipeline(clone)
    (clone / "conf" / "pipeline.yaml").unlink()
    with pytest.raises(UserError, match=r"^no .*conf/pipeline.yaml$"):
        pipeline(clone)


def test_a_series_is_not_augmented(root: Path) -> None:
    message = error_message(root, "experiment=temperature_lstm", "augment=digits")
    assert message == "augment alters images, and data=seattle_weather holds series; use augment=none"


def test_keys_of_a_data_set_composed_alone_are_checked(root: Path) -> None:
    assert compose_dataset(root, "image_folder", ["data.path=a", "data.shape=[8,8,3]"]).shape == [8, 8, 3]  # type: ignore[union-attr]
    for overrides, message in (
        ([], "data.path: is missing; set data.path=…"),
        (["data.pth=a"], "data.pth: no such key; the nearest is data.path"),
        (["data.path=a", "data.resize=fill"], "data.resize=fill: should be 'stretch', 'crop', 'pad' or 'tiles'"),
        (["data.path=a", "data.shape=[8,8,2]"], "data: shape=[8, 8, 2]: height, width, and 1 channel (grey) or 3 (colour)"),
    ):
        with pytest.raises(UserError) as refused:
            compose_dataset(root, "image_folder", overrides)
        assert str(refused.value) == message


def test_an_unknown_or_invalid_data_set_is_reported(clone: Path) -> None:
    with pytest.raises(UserError, match=r"^no data set named digit; the nearest is digits$"):
        compose_dataset(clone, "digit")
    with pytest.raises(UserError, match="no data set named"):
        compose_dataset(clone, "../data/digits")
    file = clone / "conf" / "data" / "digits.yaml"
    file.write_text(file.read_text().replace("shape: [8, 8, 1]", "shape: [8, 8]\nclases: [a, b]"))
    with pytest.raises(UserError, match=r"^data.shape=\[8, 8\]: should have at least 3 items .*; in .*digits.yaml$"):
        compose_dataset(clone, "digits")


def test_an_invalid_written_config_is_refused_with_its_file(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits_cnn.yaml"
    with pytest.raises(UserError, match="run `reprise compose` first"):
        load(file)
    tree = compose(root, ["experiment=digits_cnn"]).model_dump(by_alias=True)
    with pytest.raises(UserError, match=r"^seeds=0: should be a count of at least 1, or a list of different seeds; in here$"):
        check(tree | {"seeds": 0}, "here")
    with pytest.raises(UserError, match=r"^seedz: no such key; the nearest is seed"):
        check(tree | {"seedz": 0})
    file.write_text("")
    with pytest.raises(UserError, match=f"in {file}"):
        load(file)


def test_a_config_is_frozen(root: Path) -> None:
    config: Config = compose(root, ["experiment=digits_cnn"])
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def test_the_project_root_is_found_from_subfolders_and_not_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^no project in .* or above it; .*conf/pipeline.yaml"):
        project_root()
    monkeypatch.chdir(root / "src" / "reprise")
    assert project_root() == root


def test_the_misspelt_name_of_a_required_key_is_reported_and_not_the_missing_one(root: Path) -> None:
    tree = compose(root, ["experiment=digits_cnn"]).model_dump(by_alias=True)
    tree["trainer"]["max_epohcs"] = tree["trainer"].pop("max_epochs")
    with pytest.raises(UserError, match=r"^trainer.max_epohcs: no such key; the nearest is trainer.max_epochs"):
        check(tree)
