"""train: one run a seed; the weights of the epoch that is best on val. Opens no test split."""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from rich.console import Console

from reprise.config import Config, build
from reprise.config.targets import takes
from reprise.data import store
from reprise.data.examples import Windows, lock_test_split, open_windows
from reprise.data.loader import EvalLoader, TrainLoader, place
from reprise.errors import UserError
from reprise.learning.checkpoint import BestWeights, load_weights, save_weights
from reprise.learning.learner import Learner
from reprise.learning.predictor import Predictor
from reprise.learning.progress import EpochProgress
from reprise.learning.tasks import Task
from reprise.learning.trainer import disband, make_trainer, relaunch, threads
from reprise.ranks import is_first, launched
from reprise.stages import download, preprocess, window
from reprise.stages.places import Places
from reprise.tracking import run as tracking
from reprise.tracking.spool import read_history


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


def run(config: Config, places: Places, console: Console, publish: bool = False) -> list[Trained]:
    """Train every seed; with `publish`, put weights, run.json and history into data/models/<experiment>/ as the pipeline does.

    Without it nothing that the pipeline made is touched. A run of several devices on this machine starts its own processes.
    """
    with FileLock(_made(places.store) / "prepare.lock"):  # several ranks, or trials, of one machine prepare once
        windows = prepare(config, places, console)
    network, task = build_parts(config, windows)  # what is wrong with the config shows here, before a run is opened
    if config.trainer.world_size > 1 and not launched():
        relaunch(config.trainer)
    lock_test_split()
    del network, task
    tags = {"origin": "pipeline" if publish else "by hand"}
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
    if store.read_json(arrays / "meta.json") != preprocess.meta(config.data):
        raise UserError(
            f"{arrays} holds other data than data={config.data.name} describes",
            f"run `reprise preprocess data={config.data.name}`",
        )
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


def train_one(config: Config, windows: Windows, places: Places, console: Console, tags: dict[str, Any]) -> Trained:
    """One training, one MLflow run. Its home then holds best.pt, metrics.jsonl, config.json and run.json."""
    network, task = build_parts(config, windows)
    probe = BestWeights(Path(), task.monitor, task.mode)
    bar = (
        [EpochProgress(console, f"{config.name} seed {config.seed}", task.monitor)]
        if config.trainer.progress and is_first()
        else []
    )
    trainer = make_trainer(config.trainer, task, [probe, *bar])
    device, rank, world = trainer.strategy.root_device, trainer.global_rank, trainer.world_size
    train, val = (place(split, device, config.trainer.resident) for split in windows.learning())
    with contextlib.ExitStack() as stack:
        opened = None
        if rank == 0:
            facts = tags | {
                "device": _device_name(device),
                "devices": world,
                "threads": threads(config.trainer),
                "precision": trainer.precision,
            }
            inputs = {"processed": windows.arrays, "windows": windows.folder}
            opened = stack.enter_context(tracking.closing(tracking.start(config, places.store, facts, inputs, places.root)))
        home = places.home(trainer.strategy.broadcast(opened.id if opened else ""))
        probe.file = home / "best.pt"
        optimizer = lambda weights: build(config.optimizer, "optimizer", config.plugins, weights)  # noqa: E731
        learner = Learner(
            network,
            task,
            optimizer,
            lambda made, steps: _schedule(config, made, steps),
            config.seed,
            opened.log if opened else _nowhere,
        )
        trainer.fit(
            learner,
            TrainLoader(train, config.trainer.batch_size, config.seed, device, rank, world),
            EvalLoader(val, config.trainer.eval_batch_size, device, rank, world),
        )
        trained = Trained(
            run_id=home.name,
            name=opened.name if opened else "",
            seed=config.seed,
            best_epoch=probe.epoch,
            epochs=trainer.current_epoch,
            parameters=sum(weight.numel() for weight in network.parameters()),
            train_seconds=round(sum(value for _, value in read_history(home / "metrics.jsonl")["train/seconds"]), 3)
            if opened
            else 0.0,
            windows=str(windows.folder.relative_to(places.root)),
        )
        if opened:
            store.write_json(home / "run.json", asdict(trained))
            opened.tag({"best_epoch": probe.epoch, "parameters": trained.parameters, "train_seconds": trained.train_seconds})
            if config.tracking.log_model:
                _log_model(opened, config, windows, task, home / "best.pt")
            console.print(
                f"train  {trained.name}: best epoch {trained.best_epoch} of {trained.epochs}, {trained.train_seconds:.1f} s",
                soft_wrap=True,
            )
        return trained


def _schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """The scheduler, told how many steps there are in all."""
    if not takes(config.scheduler, "total_steps", config.plugins):
        raise UserError(f"scheduler._target_={config.scheduler.target}: takes no total_steps", "take one of conf/scheduler/")
    return build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=steps)


def _log_model(opened: tracking.Run, config: Config, windows: Windows, task: Task, weights: Path) -> None:
    network: torch.nn.Module = build(config.model, "model", config.plugins, input_shape=windows.input_shape, outputs=task.outputs)
    network.load_state_dict(load_weights(weights))
    predictor = Predictor(network, task, windows.meta["statistics"])
    example = windows.val().raw(torch.arange(2))
    with torch.inference_mode():
        answer = predictor(example)
    opened.model(predictor, example.numpy(), answer.numpy())


def _publish(config: Config, trained: list[Trained], places: Places) -> None:
    with store.publish(places.models(config.name)) as draft:
        for one in trained:
            home = places.home(one.run_id)
            save_weights(draft / f"seed{one.seed}.pt", load_weights(home / "best.pt"))
            (draft / f"seed{one.seed}.history.jsonl").write_bytes((home / "metrics.jsonl").read_bytes())
        store.write_json(draft / "config.json", tracking.recorded(config))
        store.write_json(draft / "run.json", [asdict(one) for one in trained])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _nowhere(metrics: dict[str, float], step: int) -> None:
    """Ranks but the first write nothing."""
