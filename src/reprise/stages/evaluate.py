"""evaluate: the only stage that evaluates on the test split. Logs metrics and figures in the run of the training."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from reprise import terminal
from reprise.config import Config, check, surroundings, tracking_config
from reprise.data import store
from reprise.data.datasets import Dataset, targets_of
from reprise.data.windows import Windows, open_windows
from reprise.distributed import is_rank_zero, launched
from reprise.errors import UserError
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import windows_as_trained
from reprise.project_paths import ProjectPaths
from reprise.stages import verdict
from reprise.stages.evaluator import make_evaluator
from reprise.stages.published import read_as_trained
from reprise.stages.summary import Summary, Values, over_seeds, spread
from reprise.tasks.task import Baseline, Task
from reprise.tracking import event_log, groups, lineage
from reprise.tracking import run as tracking
from reprise.tracking.published_weights import TRAINING, calibration_file, history_file, read_published, weights_file
from reprise.tracking.trained import WEIGHTS, Trained, read_trained
from reprise.training.devices import leave_process_group

Metrics = dict[str, float]
BASELINE_VALUES = 2**22
"""Number of values that baselines predict at once."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an evaluated run. Metrics in `undefined` appear in none of the others."""

    val: Metrics
    test: Metrics
    baselines: Mapping[str, Metrics]
    units: Mapping[str, str]
    undefined: Mapping[str, str]
    """The reason why a metric has no value, by metric."""

    @property
    def parts(self) -> dict[str, Metrics]:
        """The metrics of each split, and of each baseline on test."""
        return {"val": self.val, "test": self.test, **self.baselines}

    @property
    def points(self) -> Metrics:
        """The metrics that are logged: `test/…` and `baseline_…/…`."""
        logged = {"test": self.test, **{f"baseline_{name}": metrics for name, metrics in self.baselines.items()}}
        return {f"{part}/{name}": value for part, metrics in logged.items() for name, value in metrics.items()}

    def described(self) -> dict[str, Any]:
        """Return the evaluation as JSON data. An undefined metric is None."""
        parts = {part: metrics | dict.fromkeys(self.undefined) for part, metrics in self.parts.items()}
        return {**parts, "units": dict(self.units), "undefined": dict(self.undefined)}

    def show(self, console: Console) -> None:
        """Print a row per metric, and the reason for each undefined metric."""
        table = Table("", "unit", *(part.replace("_", " ") for part in self.parts))
        for name in [*self.test, *(name for name in self.undefined if name not in self.test)]:
            values = ("–" if (value := metrics.get(name)) is None else f"{value:.4f}" for metrics in self.parts.values())
            table.add_row(name, self.units.get(name, ""), *values)
        console.print(table)
        for name, reason in self.undefined.items():
            console.print(f"{name} is undefined: {reason}", markup=False, highlight=False, soft_wrap=True)


def pipeline(config: Config, paths: ProjectPaths, console: Console) -> Path:
    """Evaluate the published weights of an experiment on one device and write data/results/<experiment>/.

    metrics.json: means over seeds of test and val metrics, their standard deviations, baselines, sha256 of the weights.
    curves.csv: the metrics of every epoch. predictions/: the test predictions and the calibration that `draw` needs. Only name
    and tracking of `config` are used; all other settings are those of the training.
    """
    models, trained = paths.models(config.name), read_published(paths, config.name)
    config = read_as_trained(paths, config)
    folder, results, runs = paths.results(config.name), [], []
    with store.publish(paths.predictions(config.name)) as draft:
        for one in trained:
            result = evaluate_one(config, one, weights_file(models, one.seed), paths, console)
            store.write_array(draft / f"seed{one.seed}.npy", result.kept.cpu().numpy())
            store.write_json(draft / f"seed{one.seed}.json", result.evaluation.test)
            if result.calibration is not None:
                store.write_array(draft / calibration_file(one.seed), result.calibration.numpy())
            results.append(result.evaluation)
            if result.run:
                _log(result.run, config, result.predictor.task, result.evaluation, describe_dataset=one is trained[-1])
                runs.append(result.run.id)
        groups.update_parents(config.tracking, paths.store, *runs)
    curves = {one.seed: event_log.read_history(history_file(models, one.seed)) for one in trained}
    store.write_atomically(folder / "curves.csv", _curves(curves).encode())
    summary = _summary(config, trained, results, store.read_json(models / TRAINING))
    store.write_atomically(folder / "metrics.json", store.as_json(summary.model_dump()).encode())
    return folder


def _curves(histories: Mapping[int, Mapping[str, event_log.Points]]) -> str:
    """Return a CSV table with a row per seed and epoch, and a column per metric."""
    names = sorted({name for history in histories.values() for name in history})
    lines = [",".join(["seed", "epoch", *names])]
    for seed, history in histories.items():
        points = {name: dict(history.get(name, [])) for name in names}
        epochs = sorted({step for values in points.values() for step in values})
        lines += [",".join([str(seed), str(epoch), *(str(points[name].get(epoch, "")) for name in names)]) for epoch in epochs]
    return "\n".join(lines) + "\n"


def recorded(paths: ProjectPaths, name: str, overrides: Sequence[str]) -> tuple[str, Config]:
    """Return the id of a run and its config, with the overrides of trainer and tracking applied."""
    run_id = tracking.find(paths.store, name)
    config = store.read_json(paths.run_dir(run_id) / "config.json")
    if invalid := [item for item in overrides if item.split("=")[0].split(".")[0] not in {"trainer", "tracking"}]:
        raise UserError(f"{invalid[0]}: a run is evaluated as it was trained", "only trainer and tracking may be set")
    trainer, tracked = config["trainer"], tracking_config(paths.root).model_dump()
    if overrides:
        current = surroundings(paths.root, [f"experiment={config['name']}", *overrides])
        trainer, tracked = current.trainer.model_dump(), current.tracking.model_dump()
    return run_id, check({**config, "trainer": trainer, "tracking": tracked}, "the run's config")


def by_hand(config: Config, run_id: str, paths: ProjectPaths, console: Console, as_json: bool = False) -> None:
    """Evaluate one run from its run directory: log its metrics in its MLflow run and print them, then draw its figures."""
    measure(config, run_id, paths, console, as_json)()


def measure(config: Config, run_id: str, paths: ProjectPaths, console: Console, as_json: bool = False) -> Callable[[], None]:
    """Evaluate one run as `by_hand` does, up to its figures. Return the function that draws and logs them."""
    if config.trainer.world_size > 1 and not launched():
        from reprise.training.trainer import relaunch  # late: Lightning, which one device does not need

        relaunch(config.trainer, config.checkpoint)
    run_dir = paths.run_dir(run_id)
    trained = read_trained(run_dir)
    quiet = Console(quiet=True) if as_json else console
    result = evaluate_one(config, trained, run_dir / WEIGHTS, paths, quiet)
    leave_process_group()
    if not is_rank_zero():
        return lambda: None
    if result.run:
        _log(result.run, config, result.predictor.task, result.evaluation)
        groups.update_parents(config.tracking, paths.store, result.run.id)
    if as_json:
        console.print_json(data=result.evaluation.described(), ensure_ascii=not terminal.shows_unicode())
    else:
        result.evaluation.show(console)
    notes = Console(stderr=True) if as_json else console
    return lambda: _draw(config, trained, run_dir, result, notes)


def _draw(config: Config, trained: Trained, run_dir: Path, result: "Result", console: Console) -> None:
    """Draw the figures of an evaluated run and log them in it."""
    if not result.run:
        return
    from reprise.stages import draw  # late: matplotlib takes a second to import, and the pipeline draws in another stage

    console.print(f"draw  {trained.name}: drawing figures", highlight=False, markup=False, soft_wrap=True)
    shown = draw.evaluated(
        config, trained, run_dir / event_log.FILE, result.predictor, result.windows, result.evaluation.test, result.kept
    )
    draw.write(result.predictor, shown, result.run, None)
    result.run.flush()


@dataclass(frozen=True)
class Result:
    """An evaluation with its predictor and windows, and the test predictions that are kept."""

    evaluation: Evaluation
    kept: Tensor
    calibration: Tensor | None
    """What `Task.calibrate` computed on val, if anything; the task of the predictor has it."""
    predictor: Predictor
    windows: Windows
    run: tracking.Run | None
    """The run to log in; None on other ranks than the first, and for weights whose run is unknown."""


def evaluate_one(config: Config, trained: Trained, weights: Path, paths: ProjectPaths, console: Console) -> Result:
    """Compute the metrics of val, test and the baselines in float32.

    `config` is that of the run; only trainer (devices) and tracking may differ. The run's count of test evaluations is increased
    before the test split is read; metrics are not logged.
    """
    windows = open_windows(windows_as_trained(config, trained, paths).folder, paths.processed(config.data.name))
    lineage.warn_of_edited_plugins(config.plugins, event_log.EventLog(paths.run_dir(trained.run_id)).tags, trained.name)
    predictor = Predictor.from_weights(config, windows.meta, weights, trained.name)
    task = predictor.task
    evaluator = make_evaluator(config, task)
    first = evaluator.is_global_zero
    run = tracking.reopen(config.tracking, paths.store, trained.run_id) if first and trained.run_id else None
    val_split, test, size = windows.val(), windows.test(), config.trainer.eval_batch_size
    keep_to_calibrate = task.keep_to_calibrate(len(val_split), size)
    val, kept_of_val = evaluator.evaluate(predictor.network, task, val_split, keep_to_calibrate)
    calibration = task.calibrate(kept_of_val.cpu()) if keep_to_calibrate else None
    calibrated = task if calibration is None else task.calibrated(calibration, len(val_split))
    if run:
        tracking.count_test_evaluation(run)
    metrics, kept = evaluator.evaluate(predictor.network, calibrated, test, task.keep(len(test), size))
    task.cpu()
    baselines = {name: _of_baseline(baseline, task, test) for name, baseline in task.baselines(windows).items()}
    if config.trainer.strategy == "fsdp":  # each rank holds a shard of the network; figures need the whole
        predictor = Predictor.from_weights(config, windows.meta, weights, trained.name)
    predictor.task = calibrated.cpu()
    if first:
        by_split = {"val": val, "test": metrics}
        scores = ", ".join(f"{split} {task.monitor} {values[task.monitor]:.4f}" for split, values in by_split.items())
        console.print(f"evaluate  {trained.name}: {scores}", highlight=False, soft_wrap=True)
        comparison = verdict.sentences("test", task, metrics, baselines)
        for sentence in (*comparison, *verdict.on_classes("test", task, kept, len(test))):
            console.print(f"evaluate  {trained.name}: {sentence}", highlight=False, markup=False, soft_wrap=True)
    evaluation = Evaluation(val, metrics, baselines, calibrated.units, calibrated.undefined)
    return Result(evaluation, kept, calibration, predictor, windows, run)


def _log(run: tracking.Run, config: Config, task: Task, evaluation: Evaluation, describe_dataset: bool = True) -> None:
    """Log the metrics of an evaluation in its run."""
    run.log_summary(evaluation.points)
    tracking.log_results(run, config, task.facts(), describe_dataset)
    run.flush()


def _of_baseline(baseline: Baseline, task: Task, test: Dataset) -> Metrics:
    """Return the metrics of a baseline on the test split."""
    metrics = task.new_metrics()
    for rows in torch.split(torch.arange(len(test)), max(1, BASELINE_VALUES // task.outputs)):
        metrics.update(baseline(rows), targets_of(test, rows))
    return metrics.compute()


def _summary(config: Config, trained: list[Trained], results: list[Evaluation], entries: list[dict[str, Any]]) -> Summary:
    """Return the content of metrics.json. `entries` is the content of training.json."""
    first = results[0]
    reduced: dict[str, Values] = {
        f"{split}{suffix}": over_seeds([getattr(result, split) for result in results], first.undefined, reduce)
        for split in ("test", "val")
        for suffix, reduce in (("", statistics.fmean), ("_std", spread))
    }
    return Summary(
        **reduced,
        baselines={name: metrics | dict.fromkeys(first.undefined) for name, metrics in first.baselines.items()},
        units=dict(first.units),
        undefined=dict(first.undefined),
        data=config.data.name,
        seeds=[one.seed for one in trained],
        parameters=trained[0].parameters,
        epochs=statistics.fmean(one.epochs for one in trained),
        weights={f"seed{entry['outcome']['seed']}": entry["sha256"] for entry in entries},
        machine=entries[0]["machine"],
    )
