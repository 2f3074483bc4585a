"""A sweep is tried out before its first trial: what nobody can build, and what no training says, shows at once."""

import torch
from rich.console import Console

from reprise.config import Config, build
from reprise.config.sweep import Sweep
from reprise.config.targets import nearest
from reprise.data.datasets import Windows, lock_test_split
from reprise.errors import UserError
from reprise.stages import train
from reprise.stages.project_paths import ProjectPaths


def run(sweep: Sweep, paths: ProjectPaths, console: Console) -> None:
    """Build what trials would train, at each end of each part of the space.

    Configs alone were looked at when the sweep was read. Where a trial reads other data or windows, it finds out itself.

    Raises:
        UserError: naming the key.

    """
    base = sweep.config(paths.root, {})
    windows = train.prepare(base, paths, console)
    lock_test_split()
    for key, chosen in [("", {}), *sweep.ends()]:
        config = sweep.config(paths.root, chosen)
        if (config.data, config.window) != (base.data, base.window):
            continue
        try:
            said = _metrics(config, windows)
        except UserError as error:
            raise UserError(f"space.{key}: {error}" if key else str(error)) from None
        except RuntimeError:  # too little memory, say: such a trial fails alone, with its reason
            continue
        for metric in [goal.metric for goal in sweep.objectives] + [limit.metric for limit in sweep.limits]:
            if metric.startswith("val/") and metric not in said:
                raise UserError(f"{metric}: no training of {base.name} says it", nearest(metric, said))


def _metrics(config: Config, windows: Windows) -> list[str]:
    """The names of what a training would say of val."""
    network, task = train.build_parts(config, windows)
    optimizer = build(config.optimizer, "optimizer", config.plugins, network.parameters())
    build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=100)
    batch = windows.val().gather(torch.arange(2))
    with torch.inference_mode():
        predictions = task.decode(network.eval()(batch.inputs), batch.inputs)
    metrics = task.new_metrics()
    metrics.update(predictions, batch.targets)
    return [f"val/{name}" for name in metrics.compute()]
