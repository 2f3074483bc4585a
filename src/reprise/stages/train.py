"""train: one run a seed; the weights of the epoch that is best on val. Opens no test split."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock
from rich.console import Console

from reprise.config import Config, build
from reprise.data import store
from reprise.data.augment import Augment
from reprise.data.examples import Windows, lock_test_split, open_windows
from reprise.data.loader import EvalLoader, TrainLoader, place
from reprise.learning.checkpoint import BestWeights, load_weights, save_weights
from reprise.learning.learner import Learner, Record
from reprise.learning.predictor import Predictor
from reprise.learning.progress import EpochProgress
from reprise.learning.tasks import Task
from reprise.learning.trainer import disband, make_trainer, relaunch, threads
from reprise.ranks import is_first, launched
from reprise.stages import download, preprocess, window
from reprise.stages.places import Places
from reprise.tracking import lineage
from reprise.tracking import run as tracking


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind, beside its weights."""

    run_id: str
    name: str
    seed: int
    best_epoch: int
    epochs: int
    parameters: int
    train_seconds: float
    windows: str
    """Relative to the project's root."""


def run(config: Config, places: Places, console: Console, command: str, publish: bool = False) -> list[Trained]:
    """Train every seed; with `publish`, put weights, run.json and history into data/models/<experiment>/ as the pipeline does.

    Without it nothing that the pipeline made is touched. `command` is what the dashboard shows to repeat the run. A run
    of several devices on this machine starts its own processes.
    """
    with FileLock(_made(places.store) / "prepare.lock"):  # several ranks, or trials, of one machine prepare once
        windows = prepare(config, places, console)
    _try_out(config, windows)
    if config.trainer.world_size > 1 and not launched():
        relaunch(config.trainer)
    lock_test_split()
    tags = {"origin": "pipeline" if publish else "by hand", "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    if publish:  # in a stage of DVC's, which has just checked its inputs
        known = lineage.dvc_hashes(places.root)
        folders = (places.processed(config.data.name), places.windows(config.name))
        tags |= {f"dvc.{path}": known[path] for folder in folders if (path := str(folder.relative_to(places.root))) in known}
    trained = [
        train_one(config.model_copy(update={"seed": config.seed + turn, "seeds": 1}), windows, places, console, tags)
        for turn in range(config.seeds)
    ]
    if publish and is_first():
        _publish(config, trained, places)
    disband()
    return trained


def prepare(config: Config, places: Places, console: Console) -> Windows:
    """The windows for this config: the pipeline's where they fit, else ones made for it; data is fetched if it is not there."""
    arrays = places.processed(config.data.name)
    if not arrays.is_dir():
        download.run(config.data, places, console)
        preprocess.run(config.data, places, console)
    preprocess.demand_made_from(config.data, arrays)
    folder = window.folder_for(config, places)
    if not window.are_for(folder, config, arrays):
        window.run(config, places, console, folder)
    return open_windows(folder, arrays)


def build_parts(config: Config, windows: Windows) -> tuple[torch.nn.Module, Task]:
    """The network, its weights drawn from the seed, and the task."""
    task: Task = build(config.task, "task", config.plugins, meta=windows.meta)
    torch.manual_seed(config.seed)
    network: torch.nn.Module = build(config.model, "model", config.plugins, input_shape=windows.input_shape, outputs=task.outputs)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, task


def _try_out(config: Config, windows: Windows) -> None:
    """Build everything once: what is wrong with the config is said before a run is opened."""
    network, task = build_parts(config, windows)
    learner = _learner(config, network, task, _nowhere)
    learner.make_scheduler(learner.make_optimizer(network.parameters()), 100)


def train_one(config: Config, windows: Windows, places: Places, console: Console, tags: dict[str, Any]) -> Trained:
    """One training, one MLflow run. Its home then holds best.pt, metrics.jsonl, config.json and run.json."""
    network, task = build_parts(config, windows)
    best = BestWeights(Path(), task.monitor, task.mode)
    bar = EpochProgress(console, f"{config.name} seed {config.seed}", task.monitor)
    trainer = make_trainer(config.trainer, task, [best, bar] if config.trainer.progress and is_first() else [best])
    loaders = _loaders(config, windows, trainer)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(_open_run(config, windows, places, trainer, tags)) if trainer.is_global_zero else None
        home = places.home(trainer.strategy.broadcast(run.id if run else ""))
        best.file = home / "best.pt"
        learner = _learner(config, network, task, run.log if run else _nowhere)
        began = time.perf_counter()
        trainer.fit(learner, *loaders)
        trained = Trained(
            run_id=home.name,
            name=run.name if run else "",
            seed=config.seed,
            best_epoch=best.epoch,
            epochs=trainer.current_epoch,
            parameters=sum(weight.numel() for weight in network.parameters()),
            train_seconds=round(time.perf_counter() - began, 3),
            windows=str(windows.folder.relative_to(places.root)),
        )
        if run:
            _close_books(run, trained, config, windows, task)
            done = f"best epoch {trained.best_epoch} of {trained.epochs}, {trained.train_seconds:.1f} s"
            console.print(f"train  {trained.name}: {done}", highlight=False, soft_wrap=True)
        return trained


def _loaders(config: Config, windows: Windows, trainer: pl.Trainer) -> tuple[TrainLoader, EvalLoader]:
    device, share = trainer.strategy.root_device, (trainer.global_rank, trainer.world_size)
    train, val = (place(split, device, config.trainer.resident) for split in windows.learning())
    augment = None if config.augment.does_nothing else Augment(config.augment, config.seed)
    return (
        TrainLoader(train, config.trainer.batch_size, config.seed, device, *share, augment),
        EvalLoader(val, config.trainer.eval_batch_size, device, *share),
    )


def _open_run(
    config: Config, windows: Windows, places: Places, trainer: pl.Trainer, tags: dict[str, Any]
) -> contextlib.AbstractContextManager[tracking.Run]:
    device = trainer.strategy.root_device
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "devices": trainer.world_size,
        "threads": threads(config.trainer),
        "precision": trainer.precision,
    }
    inputs = {"processed": windows.arrays, "windows": windows.folder}
    return tracking.started(config, places.store, tags | facts, inputs, places.root)


def _learner(config: Config, network: torch.nn.Module, task: Task, record: Record) -> Learner:
    def optimizer(weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return build(config.optimizer, "optimizer", config.plugins, weights)  # type: ignore[no-any-return]

    def scheduler(made: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        return build(config.scheduler, "scheduler", config.plugins, made, total_steps=steps)  # type: ignore[no-any-return]

    return Learner(network, task, optimizer, scheduler, config.seed, record)


def _close_books(run: tracking.Run, trained: Trained, config: Config, windows: Windows, task: Task) -> None:
    """What is known once training is over: facts, and the model that answers by itself."""
    store.write_json(run.home / "run.json", asdict(trained))
    run.tag({key: getattr(trained, key) for key in ("best_epoch", "parameters", "train_seconds")})
    if not config.tracking.log_model:
        return
    network: torch.nn.Module = build(config.model, "model", config.plugins, input_shape=windows.input_shape, outputs=task.outputs)
    network.load_state_dict(load_weights(run.home / "best.pt"))
    predictor = Predictor(network, task, windows.meta["statistics"])
    example = windows.val().raw(torch.arange(2))
    with torch.inference_mode():
        answer = predictor(example)
    run.model(predictor, example.numpy(), answer.numpy())


def _publish(config: Config, trained: list[Trained], places: Places) -> None:
    with store.publish(places.models(config.name)) as draft:
        for one in trained:
            home = places.home(one.run_id)
            save_weights(draft / f"seed{one.seed}.pt", load_weights(home / "best.pt"))
            (draft / f"seed{one.seed}.history.jsonl").write_bytes((home / "metrics.jsonl").read_bytes())
        store.write_json(draft / "config.json", tracking.recorded(config))
        store.write_json(draft / "run.json", [asdict(one) for one in trained])


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _nowhere(metrics: dict[str, float], step: int) -> None:
    """Ranks but the first write nothing."""
