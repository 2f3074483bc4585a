"""Serve a registered model: find the run behind its alias, and load the new one when the alias moves."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from reprise import config as configs
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.serving.limits import Limits
from reprise.serving.metrics import Metrics
from reprise.serving.model import ModelHolder, ServedModel, load

Report = Callable[[str], None]


@dataclass(frozen=True)
class Alias:
    """The alias of a registered model."""

    name: str
    alias: str

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}"


def parse_alias(text: str) -> Alias | None:
    """Return the alias that `NAME@ALIAS` or `models:/NAME@ALIAS` names; None for the name of a run."""
    match = re.fullmatch(r"(?:models:/)?(?P<name>[^@/]+)@(?P<alias>[^@/]+)", text)
    return Alias(match["name"], match["alias"]) if match else None


def load_alias(paths: ProjectPaths, alias: Alias, limits: Limits, device: str = "cpu") -> ServedModel:
    """Return the model that an alias names now.

    Raises:
        UserError: if there is no such model, or its run is not in this project.

    """
    from reprise.tracking import registry  # late: MLflow, which takes seconds to import

    tracking = configs.tracking_config(paths.root)
    found = registry.version_with_alias(paths.store, tracking, alias.name, alias.alias)
    if found is None:
        registry.run_id_of_model(paths.store, tracking, f"models:/{alias}")  # raises, and names the models that exist
        raise UserError(f"models:/{alias}: not registered", "`reprise register RUN` registers one")
    return load(paths, found.run_id, limits, device, str(alias), found.version)


class AliasWatch:
    """A thread that asks the registry for the version behind an alias, and replaces the model when it changes.

    If the registry does not answer or the new model cannot be loaded, the present one stays, the reason is reported once, and the
    thread tries again.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        alias: Alias,
        holder: ModelHolder,
        limits: Limits,
        seconds: float,
        metrics: Metrics,
        report: Report,
    ) -> None:
        self._paths, self._alias, self._holder, self._limits = paths, alias, holder, limits
        self._seconds, self._metrics, self._report = seconds, metrics, report
        self._stopped = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._watch, name="alias", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._reload()
                self._problem = ""
            except Exception as error:  # the server goes on with the model it has, whatever is wrong with the other one
                self._metrics.failed_reloads += 1
                problem = " ".join(str(error).split())
                if problem != self._problem:
                    self._report(f"{self._alias}: {problem}; {self._holder.current.identity.run} is still served")
                self._problem = problem

    def _reload(self) -> None:
        from reprise.tracking import registry  # late, as above

        found = registry.version_with_alias(
            self._paths.store, configs.tracking_config(self._paths.root), self._alias.name, self._alias.alias
        )
        present = self._holder.current
        if found is None:
            raise UserError("the alias is gone")
        if found.version == present.identity.version:
            return
        model = load(self._paths, found.run_id, self._limits, present.device, str(self._alias), found.version)
        if model.answerer.kind != present.answerer.kind:
            model.batcher.close()
            raise UserError(f"version {found.version} is for {model.answerer.kind}", "start a server for it")
        self._holder.replace(model)
        self._metrics.reloads += 1
        self._report(f"{self._alias} is now version {found.version}, {model.identity.run}")
