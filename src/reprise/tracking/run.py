"""A run: one training in MLflow, and its home on disk."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag
from mlflow.exceptions import MlflowException
from torch import nn

from reprise.config.compose import leaves
from reprise.config.schema import Config
from reprise.data import store
from reprise.errors import Stopped, UserError, without_login
from reprise.tracking import backend, lineage
from reprise.tracking.spool import Spool

PARAMS_A_CALL = 100
PARAM_LENGTH = 6000


@dataclass
class Run:
    """A run that is open for writing. `id` is MLflow's."""

    id: str
    name: str
    home: Path
    client: MlflowClient
    spool: Spool

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of a step: an epoch, counted from 1, or 0 for what stands after training. Never ends a training."""
        self.spool.append(metrics, step)

    def log_once(self, metrics: Mapping[str, float]) -> None:
        """Metrics that have one value a run (`test/…`): what the run already says is not said again."""
        with self._answering():
            known = self.client.get_run(self.id).data.metrics
        self.spool.append({key: value for key, value in metrics.items() if known.get(key) != value}, step=0)
        self.spool.deliver()

    def artifacts(self, folder: Path, place: str) -> None:
        """Every file of a folder, under `place`."""
        with self._answering():
            self.client.log_artifacts(self.id, str(folder), place)

    def text(self, content: str, file: str) -> None:
        """A text as an artifact."""
        with self._answering():
            self.client.log_text(self.id, content, file)

    def tag(self, tags: Mapping[str, Any]) -> None:
        """Facts about the run."""
        with self._answering():
            self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def model(self, network: nn.Module, example: npt.NDArray[np.generic], answer: npt.NDArray[np.generic]) -> None:
        """The model with signature and example, as a torch.export graph: `mlflow.pyfunc.load_model` runs it without reprise.

        Nothing in it is pickled. The batch size is free.
        """
        import mlflow  # late: its PyTorch part takes seconds to import
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        taken, given = (Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))]) for array in (example, answer))
        mlflow.set_tracking_uri(self.client.tracking_uri)
        with self._answering(), mlflow.start_run(run_id=self.id), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*were assigned during export.*")  # an LSTM's flat weights: views
            mlflow.pytorch.log_model(
                network,
                name="model",
                signature=ModelSignature(taken, given),
                input_example=example,
                serialization_format="pt2",
                pip_requirements=[f"torch=={lineage.versions()['version.torch'].split('+')[0]}", "numpy"],
            )
        with self._answering():  # `start_run` has closed it
            self.client.update_run(self.id, status="RUNNING")

    def _answering(self) -> AbstractContextManager[None]:
        return backend.answering(str(self.client.tracking_uri))


@contextmanager
def started(config: Config, folder: Path, tags: Mapping[str, Any], inputs: Mapping[str, Path], root: Path) -> Iterator[Run]:
    """A new run in the store and its home under `folder`/runs; it ends as the block does.

    FINISHED, KILLED by a signal, or FAILED with the reason. Written at once: the resolved config (as params and as an artifact),
    commit and patch, package versions, machine, and the hashes of `inputs` (published folders by name). The tracking address is
    no part of it, nor is anything of the environment. The user's own error is never hidden by one of tracking.
    """
    git, patch = lineage.code(root)
    run = _create(config, folder, {**tags, **git, **_facts(config, inputs)})
    try:
        resolved = recorded(config)
        store.write_json(run.home / "config.json", resolved)
        store.write_json(run.home / "run.json", {"run_id": run.id, "name": run.name})
        _log_params(run, resolved)
        run.text(json.dumps(resolved, indent=2, ensure_ascii=False), "lineage/config.json")
        run.text(lineage.packages(), "lineage/packages.txt")
        if patch:
            run.text(patch, "lineage/uncommitted.patch")
        run.client.log_inputs(run.id, [_input(name, place, config) for name, place in inputs.items()])
        yield run
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | Stopped)
        _end(run, "KILLED" if killed else "FAILED", {"error": without_login(str(error)) or type(error).__name__})
        raise
    _end(run, "FINISHED", {})


def _create(config: Config, folder: Path, tags: Mapping[str, Any]) -> Run:
    uri = backend.address(config.tracking, folder)
    client = backend.connect(uri, folder)
    experiment = backend.experiment_id(client, config.tracking.experiment, folder, local=uri.startswith("sqlite:"))
    run_id = client.create_run(experiment, tags={key: str(value) for key, value in tags.items()}).info.run_id
    name = f"{config.name}-seed{config.seed}-{run_id[:4]}"
    client.update_run(run_id, name=name)
    home = folder / "runs" / run_id
    home.mkdir(parents=True)
    return Run(run_id, name, home, client, Spool(home, client, run_id))


def _facts(config: Config, inputs: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "experiment": config.name,
        "data": config.data.name,
        "seed": config.seed,
        "processor": lineage.processor(),
        **lineage.versions(),
        **{f"sha256.{name}": store.digest(place) for name, place in inputs.items()},
    }


def reopen(config: Config, folder: Path, run_id: str) -> Run:
    """A run that was started before, open for writing; its status stays."""
    uri = backend.address(config.tracking, folder)
    client = backend.connect(uri, folder)
    try:
        found = client.get_run(run_id)
    except MlflowException:
        raise UserError(f"the tracking store {uri} has no run {run_id}", "train again, or set tracking.uri") from None
    home = folder / "runs" / run_id
    home.mkdir(parents=True, exist_ok=True)
    return Run(run_id, found.info.run_name, home, client, Spool(home, client, run_id))


def find(places: Path, wanted: str) -> str:
    """The id of the run whose id begins with `wanted`, or whose name it is; from the homes of runs.

    Raises:
        UserError: when there is none, or more than one.

    """
    homes = [store.read_json(file) for file in sorted((places / "runs").glob("*/run.json"))]
    hits = [home for home in homes if home["run_id"].startswith(wanted) or home["name"] == wanted]
    if len(hits) == 1:
        return str(hits[0]["run_id"])
    names = ", ".join(home["name"] for home in (hits or homes)[-5:])
    raise UserError(f"{len(hits)} runs are called {wanted}", f"there are {names}" if names else "no run was made yet")


def recorded(config: Config) -> dict[str, Any]:
    """The config as it is written down: what decides the run. Where it is written (an address can hold a password) does not."""
    return config.model_dump(by_alias=True, exclude={"tracking", "published"})


def _end(run: Run, status: str, tags: dict[str, str]) -> None:
    """Deliver, tag and close; a store that is dead by now gets a warning, not an exception."""
    try:
        failure = run.spool.deliver()
        if tags:
            run.tag(tags)
        run.client.set_terminated(run.id, status)
    except (MlflowException, UserError, OSError) as error:
        failure = str(error).split("\n")[0]
    if failure:
        warnings.warn(
            f"{len(run.spool.pending)} metric points of run {run.name} wait in {run.spool.file}: {failure}",
            stacklevel=2,
        )


def _log_params(run: Run, resolved: dict[str, Any]) -> None:
    params = [Param(key, _param(value)) for key, value in leaves(resolved)]
    long = [param for param in params if len(param.value) > PARAM_LENGTH]
    if long:
        raise UserError(f"{long[0].key} has {len(long[0].value)} characters", f"MLflow keeps at most {PARAM_LENGTH}")
    for begin in range(0, len(params), PARAMS_A_CALL):
        run.client.log_batch(run.id, params=params[begin : begin + PARAMS_A_CALL])


def _param(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _input(name: str, place: Path, config: Config) -> DatasetInput:
    source = json.dumps({"homepage": config.data.homepage, "licence": config.data.licence})
    found = Dataset(f"{config.data.name} ({name})", store.digest(place)[:36], "reprise", source)
    return DatasetInput(found, [InputTag("mlflow.data.context", name)])
