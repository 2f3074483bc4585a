"""Adapter of DVC's undocumented Python interface: the only module that asks DVC about the stages of a project."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.errors import UserError


@dataclass(frozen=True)
class StagePaths:
    """The files and folders that a stage reads and writes."""

    reads: Set[Path]
    writes: Set[Path]


@dataclass(frozen=True)
class Stages:
    """Stages of a project by name, as DVC has read them."""

    repository: Any
    by_name: Mapping[str, Any]

    @property
    def paths(self) -> dict[str, StagePaths]:
        """The absolute paths of each stage, by its name."""
        return {
            name: StagePaths({Path(one.fs_path) for one in stage.deps}, {Path(one.fs_path) for one in stage.outs})
            for name, stage in self.by_name.items()
        }

    def any_out_of_date(self, names: Iterable[str]) -> bool:
        """Return whether one of these stages has to run. If DVC fails, return True: running the stage prints the reason."""
        from dvc.exceptions import DvcException

        try:
            with self.repository.lock:
                return any(self.by_name[name].changed() for name in names)
        except DvcException:
            return True


def read(root: Path, long: bool) -> Stages:
    """Read the stages of dvc.yaml, and with `long` those of every dvc.yaml of the project.

    Raises:
        UserError: if DVC cannot read its files.

    """
    from dvc.exceptions import DvcException  # late: DVC takes a second to import
    from dvc.repo import Repo

    try:
        repository = Repo(str(root))
        stages = repository.index.stages if long else repository.stage.collect("dvc.yaml")
        return Stages(repository, {stage.addressing: stage for stage in stages})
    except DvcException as error:
        raise UserError(f"dvc: {error}", "see `dvc status`") from error
