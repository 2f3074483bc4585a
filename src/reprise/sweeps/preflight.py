"""Preflight of a sweep: find configs that cannot be built and metrics that no training logs before the first trial."""

import torch
from rich.console import Console

from reprise.config import Config
from reprise.config.sweep import Objective, Sweep
from reprise.config.targets import nearest
from reprise.data.windows import Windows, lock_test_split
from reprise.errors import UserError
from reprise.models.closed_form import is_closed_form
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task
from reprise.training.optimizers import make_optimizer, make_scheduler


def run(sweep: Sweep, paths: ProjectPaths, console: Console) -> Sweep:
    """Build model, task, optimizer and scheduler at each end of each part of the space. Return the sweep with its objectives.

    Parsing the sweep has validated the configs already. Trials with other data or windows than the base config are not checked.

    Raises:
        UserError: if building fails or a metric is unknown; its message names the key.

    """
    base = sweep.config(paths.root, {})
    windows = prepare(base, paths, console)
    lock_test_split()
    if not sweep.objectives:
        task = build_task(base, windows.meta)
        direction = "maximize" if task.mode == "max" else "minimize"
        objective = Objective.model_validate({"metric": f"val/{task.monitor}", "direction": direction})
        sweep = sweep.model_copy(update={"objectives": [objective]})
    for key, chosen in [("", {}), *sweep.ends()]:
        config = sweep.config(paths.root, chosen)
        if config.trainer.stacked:
            raise UserError(f"trainer.stacked={config.trainer.stacked}: a trial trains one network at a time", "leave it out")
        if (config.data, config.window) != (base.data, base.window):
            continue
        try:
            metrics = _metrics(config, windows)
        except UserError as error:
            raise UserError(f"space.{key}: {error}" if key else str(error)) from None
        except RuntimeError:  # for example out of memory: only such trials fail, with their reason
            continue
        for metric in [goal.metric for goal in sweep.objectives] + [limit.metric for limit in sweep.limits]:
            if metric.startswith("val/") and metric not in metrics:
                raise UserError(f"{metric}: no training of {base.name} logs it", nearest(metric, metrics))
    return sweep


def _metrics(config: Config, windows: Windows) -> list[str]:
    """Return the names of the val metrics that a training logs."""
    task = build_task(config, windows.meta)
    network = build_network(config, windows.meta, task)
    if not is_closed_form(network):
        make_scheduler(config, make_optimizer(config, network), 100)
    batch = windows.val().gather(torch.arange(2))
    with torch.inference_mode():
        predictions = task.decode(network.eval()(batch.inputs), batch.inputs)
    metrics = task.new_metrics()
    metrics.update(predictions, batch.targets.nan_to_num())  # missing targets have no metrics
    return [f"val/{name}" for name in metrics.compute()]
