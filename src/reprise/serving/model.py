"""The model that the server answers with: loaded from a run, and replaced while requests are answered."""

import contextlib
import importlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

from reprise.errors import UserError
from reprise.inference import intervals
from reprise.inference.compute import classifier, forecaster
from reprise.inference.device import on_device
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun, open_run
from reprise.project_paths import ProjectPaths
from reprise.serving.answerer import Answerer
from reprise.serving.batcher import Batcher
from reprise.serving.limits import Limits
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.task import Task

ANSWERERS: dict[str, tuple[type[Task], str, str]] = {
    "images": (Classification, "pictures", "Pictures"),
    "sequences": (Classification, "sequences", "LabelledSequences"),
    "series": (Forecasting, "series", "Series"),
}
"""By modality: the task whose answers are for users, and the module and class that answer."""


@dataclass(frozen=True)
class Identity:
    """Which model answered."""

    run: str
    """Name of the run."""
    weights: str
    """The first 12 digits of the sha256 of its weights."""
    model: str | None = None
    """The registered model, `NAME@ALIAS`; None if a run is served."""
    version: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Return the entries that are known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class ServedModel:
    """A loaded model."""

    def __init__(self, identity: Identity, answerer: Answerer, batcher: Batcher, device: str) -> None:
        self.identity, self.answerer, self.batcher, self.device = identity, answerer, batcher, device

    def describe(self) -> dict[str, Any]:
        """Return what the model is, takes and returns."""
        return {"model": self.identity.as_dict(), "kind": self.answerer.kind, **self.answerer.describe()}


def load(
    paths: ProjectPaths, name: str, limits: Limits, device: str = "cpu", model: str | None = None, version: str | None = None
) -> ServedModel:
    """Return the model of a run, which has computed an answer once.

    Args:
        paths: the project.
        name: the run, as `open_run` takes it.
        limits: limits of a request.
        device: `cpu`, `gpu`, or `auto`, a GPU if there is one.
        model: the registered model `NAME@ALIAS` whose run it is.
        version: its version.

    Raises:
        UserError: if there is no such run or device, its weights are damaged, or its task has no answers for users.

    """
    run = on_device(open_run(paths, name), device)
    predictor = Predictor.from_run(run)
    is_forecast = isinstance(predictor.task, Forecasting)
    compute = forecaster(predictor, intervals.read(run.intervals)) if is_forecast else classifier(predictor)
    batcher = Batcher(compute, limits.batch)
    try:
        answerer = _answerer(run, predictor, batcher, limits)
        batcher(answerer.example())
        digest = run.weights.with_suffix(".sha256").read_text()[:12]
    except BaseException:
        batcher.close()
        raise
    return ServedModel(Identity(run.trained.name, digest, model, version), answerer, batcher, device)


def _answerer(run: TrainedRun, predictor: Predictor, compute: Batcher, limits: Limits) -> Answerer:
    kind = run.windows.meta.kind
    task, module, name = ANSWERERS.get(kind, (None, "", ""))
    if task is None or not isinstance(predictor.task, task):
        raise UserError(f"{run.trained.name}: {kind} with this task cannot be served", "name a run that `reprise predict` takes")
    answerer = getattr(
        importlib.import_module(f"reprise.serving.{module}"), name
    )  # late: pictures need no pyarrow and matplotlib
    return cast(Answerer, answerer(run, predictor, compute, limits))


class ModelHolder:
    """The current model. A request keeps the model it began with; a replaced model is closed after its last request."""

    def __init__(self, model: ServedModel) -> None:
        self._lock = threading.Lock()
        self._current = model
        self._uses: dict[ServedModel, int] = {model: 0}

    @property
    def current(self) -> ServedModel:
        """The model that new requests get."""
        return self._current

    @contextlib.contextmanager
    def use(self) -> Iterator[ServedModel]:
        """Yield the current model, which stays open until the end of the block."""
        with self._lock:
            model = self._current
            self._uses[model] += 1
        try:
            yield model
        finally:
            with self._lock:
                self._uses[model] -= 1
                unused = self._remove_unused()
            for old in unused:
                old.batcher.close()

    def replace(self, model: ServedModel) -> None:
        """Give new requests another model."""
        with self._lock:
            self._uses[model] = 0
            self._current = model
            unused = self._remove_unused()
        for old in unused:
            old.batcher.close()

    def _remove_unused(self) -> list[ServedModel]:
        unused = [model for model, uses in self._uses.items() if not uses and model is not self._current]
        for model in unused:
            del self._uses[model]
        return unused
