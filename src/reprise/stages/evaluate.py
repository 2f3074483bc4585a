"""evaluate: the one stage that opens the test split. Metrics and figures go into the run that was trained."""

import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from reprise.config import Config, check, surroundings, tracking_config
from reprise.data import store
from reprise.data.examples import REMAKE_WINDOWS, Examples, Windows, open_windows
from reprise.data.loader import EvalLoader, place
from reprise.errors import UserError
from reprise.learning.checkpoint import WEIGHTS, load_weights
from reprise.learning.learner import Learner
from reprise.learning.trainer import disband, make_trainer, relaunch
from reprise.ranks import is_first, launched
from reprise.stages import report
from reprise.stages.places import Places
from reprise.stages.train import build_parts
from reprise.stages.trained import TRAINING, Trained, history_file, read_published, read_trained, weights_file
from reprise.tracking import groups, spool
from reprise.tracking import run as tracking

Metrics = dict[str, float]


def pipeline(config: Config, places: Places, console: Console) -> Path:
    """Evaluate what the pipeline trained for an experiment, on one device, and make data/results/<experiment>/.

    metrics.json: means over seeds of test and val metrics, their standard deviations, baselines, sha256 of the weights. Of
    `config`, name and tracking are used; the rest is as it was trained.
    """
    models, trained = places.models(config.name), read_published(places, config.name)
    as_trained = store.read_json(models / "config.json")
    as_trained["trainer"] |= {"strategy": "single", "devices": 1, "num_nodes": 1}
    config = check({**as_trained, "tracking": config.tracking.model_dump()}, str(models / "config.json"))
    folder = places.results(config.name)
    with store.publish(folder) as draft:
        results = []
        for one in trained:
            figures_folder = draft if one is trained[0] else None
            weights, history = weights_file(models, one.seed), history_file(models, one.seed)
            results.append(evaluate_one(config, one, weights, history, places, console, figures_folder))
        entries = store.read_json(models / TRAINING)
        hashes = {f"seed{entry['outcome']['seed']}": entry["sha256"] for entry in entries}
        trained_by = {"weights": hashes, "machine": entries[0]["machine"]}
        store.write_json(draft / "metrics.json", _summary(config, trained, results) | trained_by)
    return folder


def recorded(places: Places, wanted: str, overrides: Sequence[str]) -> tuple[str, Config]:
    """A run's id and the config it was trained with; of the overrides, those of trainer and tracking are taken over."""
    run_id = tracking.find(places.store, wanted)
    config = store.read_json(places.home(run_id) / "config.json")
    if others := [item for item in overrides if item.split("=")[0].split(".")[0] not in {"trainer", "tracking"}]:
        raise UserError(f"{others[0]}: a run is evaluated as it was trained", "only trainer and tracking may be set")
    trainer, tracked = config["trainer"], tracking_config(places.root).model_dump()
    if overrides:
        now = surroundings(places.root, [f"experiment={config['name']}", *overrides])
        trainer, tracked = now.trainer.model_dump(), now.tracking.model_dump()
    return run_id, check({**config, "trainer": trainer, "tracking": tracked}, "the run's config")


def by_hand(config: Config, run_id: str, places: Places, console: Console, as_json: bool = False) -> None:
    """Evaluate one run from its home; its metrics go to the console and into its MLflow run."""
    if config.trainer.world_size > 1 and not launched():
        relaunch(config.trainer)
    home = places.home(run_id)
    trained = read_trained(home)
    quiet = Console(quiet=True) if as_json else console
    outcome = evaluate_one(config, trained, home / WEIGHTS, home / spool.FILE, places, quiet, None)
    disband()
    if not is_first():
        return
    if as_json:
        console.print_json(data=outcome)
        return
    table = Table("", *outcome["test"])
    for part, metrics in outcome.items():
        table.add_row(part.replace("_", " "), *(f"{value:.4f}" for value in metrics.values()))
    console.print(table)


def evaluate_one(
    config: Config, trained: Trained, weights: Path, history: Path, places: Places, console: Console, keep: Path | None
) -> dict[str, Metrics]:
    """Metrics of val and test, computed in float32, and the baselines; figures are logged, and kept in `keep`.

    The config is that of the run; only its trainer (devices) and tracking may be another.
    """
    folder = windows_of(config, trained, places).folder
    windows = open_windows(folder, places.processed(config.data.name))
    network, task = build_parts(config, windows)
    network.load_state_dict(load_weights(weights))
    trainer = make_trainer(config.trainer.model_copy(update={"precision": "float32"}), task)
    learner = Learner(network, task, _never, _never, config.seed, _never)

    def predict(split: Examples) -> tuple[Tensor, Tensor]:
        device = trainer.strategy.root_device
        loader = EvalLoader(
            place(split, device, config.trainer.resident),
            config.trainer.eval_batch_size,
            device,
            trainer.global_rank,
            trainer.world_size,
        )
        trainer.validate(learner, loader, verbose=False)
        assert learner.whole is not None
        return learner.whole

    outcome = {"val": task.metrics(*predict(windows.val()))}
    predictions, targets = predict(windows.test())
    outcome["test"] = task.metrics(predictions, targets)
    baselines = forecast_baselines(windows, targets) if windows.meta["kind"] == "series" else {}
    outcome |= {name: task.metrics(forecast, targets.double()) for name, forecast in baselines.items()}
    if trainer.is_global_zero:
        opened = tracking.reopen(config.tracking, places.store, trained.run_id) if trained.run_id else None
        said = {"test": outcome["test"], **{f"baseline_{name}": outcome[name] for name in baselines}}
        if opened:
            opened.log_once({f"{part}/{name}": value for part, metrics in said.items() for name, value in metrics.items()})
        with contextlib.ExitStack() as stack:
            folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            evaluated = report.Evaluated(
                name=f"{config.name} seed {trained.seed}",
                best_epoch=trained.best_epoch,
                history=spool.read_history(history),
                network=network.cpu(),
                task=task,
                windows=windows,
                predictions=predictions,
                targets=targets,
                baselines=baselines,
            )
            report.write(folder, evaluated)
            if opened:
                opened.artifacts(folder, "figures")
        if opened:
            tracking.conclude(opened, config, f"val/{task.monitor}", task.mode)
            opened.settle()
            groups.heard(config.tracking, places.store, trained.run_id)
        main = task.monitor
        console.print(
            f"evaluate  {trained.name}: val {main} {outcome['val'][main]:.4f}, test {main} {outcome['test'][main]:.4f}",
            soft_wrap=True,
        )
    return outcome


def windows_of(config: Config, trained: Trained, places: Places) -> Windows:
    """The windows that a run was trained on; its arrays may be gone.

    Raises:
        UserError: when they are gone, or others lie in their place: those would let it see what it has learned by heart.

    """
    folder = places.root / trained.windows
    store.manifest(folder, REMAKE_WINDOWS)
    meta = store.read_json(store.check(folder, "windows.json", REMAKE_WINDOWS))
    if meta["made_by"]["settings"] != config.window.model_dump():
        raise UserError(f"{folder} holds other windows by now than {trained.name} was trained on", "train again")
    return Windows(folder, places.processed(config.data.name), meta)


def forecast_baselines(windows: Windows, targets: Tensor) -> dict[str, Tensor]:
    """Naive forecasts of the test windows, standardised `float64 [N, S, Y]`.

    repeat_last: every step as the last one read. seasonal_naive: as one season before (left out where the series does not
    reach back so far). Source: Hyndman and Athanasopoulos 2021, section 5.2.
    """
    meta, history = windows.meta, windows.history().astype(np.float64)
    mean, std = (np.array([meta["statistics"][key][p] for p in meta["target_positions"]]) for key in ("mean", "std"))
    scaled = (history - mean) / std
    first = windows.chosen("test") + meta["lookback"]  # row of the first step to forecast
    steps = first[:, None] + np.arange(meta["horizon"])
    made = {"repeat_last": scaled[first - 1][:, None].repeat(meta["horizon"], axis=1)}
    back = steps - meta["season"] * (1 + np.arange(meta["horizon"]) // meta["season"])
    if back.min() >= 0:
        made["seasonal_naive"] = scaled[back]
    assert all(forecast.shape == tuple(targets.shape) for forecast in made.values())
    return {name: torch.from_numpy(forecast) for name, forecast in made.items()}


def _summary(config: Config, trained: list[Trained], results: list[dict[str, Metrics]]) -> dict[str, Any]:
    def over_seeds(split: str, reduce: Any) -> Metrics:
        return {name: reduce([result[split][name] for result in results]) for name in results[0][split]}

    def spread(values: list[float]) -> float:
        return statistics.stdev(values) if len(values) > 1 else 0.0

    summary = {
        f"{split}{suffix}": over_seeds(split, reduce)
        for split in ("test", "val")
        for suffix, reduce in (("", statistics.fmean), ("_std", spread))
    }
    baselines = {name: results[0][name] for name in results[0] if name not in {"test", "val"}}
    return summary | {
        "baselines": baselines,
        "data": config.data.name,
        "seeds": [one.seed for one in trained],
        "parameters": trained[0].parameters,
        "epochs": statistics.fmean(one.epochs for one in trained),
    }


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("evaluation optimises and records nothing")
