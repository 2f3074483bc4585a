"""The configured Lightning Trainer, and the launcher of distributed runs."""

import contextlib
import logging
import math
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from reprise import distributed
from reprise.config import CheckpointConfig, TrainerConfig
from reprise.errors import Stopped, UserError
from reprise.tasks.task import Task
from reprise.training import determinism, precision
from reprise.training.accumulation import parts_of
from reprise.training.checkpoint import AtomicIO
from reprise.training.devices import accelerator, check_devices, threads
from reprise.training.lightning_internals import AccumulatingEpochLoop, DirectEpochLoop
from reprise.training.sharding import FullySharded, SameBuffers, backend


def relaunch(config: TrainerConfig, checkpoint: CheckpointConfig) -> NoReturn:
    """Run the current command once per device of this node, as torchrun does, and exit as the process that failed first.

    The user starts a multi-node run with torchrun or srun on each node.

    Raises:
        UserError: with the error of the failed process, or the signal that killed it.
        Stopped: on a signal, which was forwarded to the processes.

    """
    if config.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={config.num_nodes}: each node starts its own processes",
            f"on each, run `torchrun --nnodes {config.num_nodes} --nproc-per-node {config.devices} … -m reprise …`",
        )
    check_devices(config)
    logging.disable()  # suppress torch's long report on a failed process; `_exit_as` reports it
    os.environ["OMP_NUM_THREADS"] = str(threads(config))
    with tempfile.TemporaryDirectory() as reports:
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.devices,
            max_restarts=0,
            monitor_interval=0.1,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id=distributed.new_group(),
            logs_specs=DefaultLogsSpecs(reports),
            shutdown_timeout=math.ceil(checkpoint.patience),
        )
        try:
            # -P: a file of the project named like a standard module must not replace it, see `PluginFinder`
            elastic_launch(launch, sys.executable)("-P", "-m", "reprise", *sys.argv[1:])
        except ChildFailedError as error:
            _exit_as(error)
        except SignalException as signalled:
            raise Stopped(signalled.sigval) from None
    raise SystemExit(0)


def _exit_as(error: ChildFailedError) -> NoReturn:
    """Exit as the process that caused the failure.

    When one process is killed or exits, the others lose their connection, and the agent stops the remaining ones with SIGTERM.
    """
    first = min(
        error.failures.values(),
        key=lambda one: (one.exitcode == -signal.SIGTERM, one.exitcode > 0, one.exitcode != 2, one.exitcode),
    )
    if first.exitcode == 2:
        raise UserError(first.message) from None
    if first.exitcode > 0:
        raise SystemExit(first.exitcode)
    killer = signal.Signals(-first.exitcode).name
    raise UserError(f"process {first.local_rank} was killed by {killer}", "is there memory enough?") from None


class NoOpProfiler(PassThroughProfiler):
    """A profiler that does nothing. Lightning's pass-through profiler creates a generator about thirty times a step."""

    _NULL_CONTEXT = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return self._NULL_CONTEXT


class Trainer(pl.Trainer):
    """Lightning's Trainer without its signal handling: `Checkpoints` handles signals and saves a checkpoint first."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.fit_loop.epoch_loop = DirectEpochLoop(self)
        self.nondeterministic: set[str] = set()
        """Operations without a deterministic implementation that have run."""

    def fit(self, *arguments: Any, **settings: Any) -> None:
        """Train.

        Raises:
            UserError: if an operation has no deterministic implementation and `trainer.deterministic=true`.

        """
        with determinism.record_nondeterministic(self.nondeterministic):
            super().fit(*arguments, **settings)

    def validate(self, *arguments: Any, **settings: Any) -> Any:
        """Validate. Raises the same errors as `fit`."""
        with determinism.record_nondeterministic(self.nondeterministic):
            return super().validate(*arguments, **settings)

    @property
    def received_sigterm(self) -> bool:
        """False, because Lightning would otherwise leave a validation with `SystemExit(None)` and lose the epoch before it."""
        return False


def make_trainer(config: TrainerConfig, task: Task, callbacks: Sequence[pl.Callback] = ()) -> Trainer:
    """Return a Trainer with its device set and its process group joined. It writes no logs and no checkpoints itself.

    Raises:
        UserError: if the requested devices are not available.

    """
    quiet_lightning()
    torch.set_num_threads(threads(config))
    check_devices(config)
    kind = torch.device("cuda" if accelerator(config) == "gpu" else "cpu")
    number_format = precision.resolve(config.precision, kind, task.tolerates_bf16)
    precision.set_tf32(number_format == "tf32")
    own: list[pl.Callback] = []
    if config.patience is not None:
        own.append(EarlyStopping(f"val/{task.monitor}", mode=task.mode, patience=config.patience))
    if config.strategy == "fsdp":
        own.append(SameBuffers())
    trainer = Trainer(
        accelerator=accelerator(config),
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(config, kind),
        precision=precision.LIGHTNING[number_format],
        max_epochs=config.max_epochs,
        gradient_clip_val=config.gradient_clip,
        callbacks=[*callbacks, *own],
        plugins=[AtomicIO()],
        profiler=NoOpProfiler(),
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10**9,
        inference_mode=config.strategy != "fsdp",  # weights gathered in inference mode cannot be trained afterwards
    )
    if config.accumulate > 1:
        split = partial(parts_of, count=config.accumulate, full=config.batch_size // config.world_size)
        trainer.fit_loop.epoch_loop = AccumulatingEpochLoop(trainer, split)
    determinism.configure(config.deterministic)
    trainer.strategy.setup_environment()
    return trainer


def _strategy(config: TrainerConfig, kind: torch.device) -> str | DDPStrategy | FullySharded:
    if config.strategy == "ddp":
        return DDPStrategy(process_group_backend=backend(kind))
    if config.strategy == "fsdp":
        return FullySharded(config.world_size, backend(kind))
    return "auto"


def quiet_lightning() -> None:
    """Suppress tips, and warnings that do not apply: the loaders need no workers, metrics are gathered before logging."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # the view is not modified in place
    warnings.filterwarnings("ignore", message=r".*FSDP(LSTM|GRU|RNN)\) returned a view tensor.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning's own use of PyTorch
