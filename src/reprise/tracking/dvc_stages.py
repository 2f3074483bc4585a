"""Adapter of DVC's undocumented Python interface: the only module that asks DVC about the stages of a project."""

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
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
            with self.repository.lock, _parameters_parsed_once():
                return any(_is_out_of_date(self.by_name[name]) for name in names)
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


def _is_out_of_date(stage: Any) -> bool:
    """Return `stage.changed()`, which also locks every path of the stage: this takes longer than to compare the paths."""
    if stage.changed_stage() or any(output.status() for output in stage.outs):
        return True
    always = stage.is_callback or stage.always_changed
    return not stage.frozen and (always or any(dependency.status() for dependency in stage.deps))


@contextmanager
def _parameters_parsed_once() -> Iterator[None]:
    """Let DVC parse a file of parameters once, not for each stage that depends on it: it takes 30 ms."""
    from dvc.dependency import param as module  # late: as above

    param: Any = module
    load = param.load_path
    parsed: dict[str, Any] = {}

    def load_once(path: str, *arguments: Any, **options: Any) -> Any:
        if path not in parsed:
            parsed[path] = load(path, *arguments, **options)
        return parsed[path]

    param.load_path = load_once
    try:
        yield
    finally:
        param.load_path = load
