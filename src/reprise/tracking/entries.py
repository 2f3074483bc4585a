"""The kinds of entries in an event log, and their JSON Lines format.

Each line of `events.jsonl` is a JSON object with the fields of one class. Fields that a class does not have are ignored: a newer
version adds a field only if older ones can do without it. Entries of an unknown kind are refused, as they would be lost for the
tracking store.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from reprise.errors import UserError

CONFIG = ConfigDict(extra="ignore", frozen=True)


@dataclass(config=CONFIG, slots=True)
class MetricEntry:
    """One point of a metric."""

    key: str
    value: float
    step: int
    """The epoch, counted from 1; 0 for a metric with one value per run."""
    timestamp: int = 0
    """Milliseconds since 1970. Published histories (data/models/) have none, as they are the same for every repetition."""


@dataclass(config=CONFIG, slots=True)
class TagsEntry:
    """Tags that are set."""

    tags: dict[str, str]


@dataclass(config=CONFIG, slots=True)
class TagRemovalEntry:
    """Tags that are removed."""

    remove_tags: list[str]


@dataclass(config=CONFIG, slots=True)
class ParamsEntry:
    """The resolved config, by dotted key."""

    params: dict[str, str]


@dataclass(config=CONFIG, slots=True)
class Input:
    """A data set that the run reads."""

    name: str
    digest: str
    source: dict[str, str]
    context: str
    """`processed` or `windows`."""


@dataclass(config=CONFIG, slots=True)
class InputsEntry:
    """The data that the run reads."""

    inputs: list[Input]


@dataclass(config=CONFIG, slots=True)
class FileEntry:
    """An artifact."""

    file: str
    """Its path in the run directory."""


@dataclass(config=CONFIG, slots=True)
class ModelEntry:
    """A model in MLflow's format."""

    model: str
    """Its folder in the run directory."""


@dataclass(config=CONFIG, slots=True)
class DatasetInfo:
    """What the description of a data set on the dashboard needs."""

    title: str
    homepage: str
    citation: str
    licence: str
    monitor: str
    """The metric that ranks its runs, such as `best/val/accuracy`."""
    mode: str
    """`max` or `min`: which value of `monitor` is best."""


@dataclass(config=CONFIG, slots=True)
class DatasetEntry:
    """The data set of the run, described after training and evaluation."""

    dataset: DatasetInfo


@dataclass(config=CONFIG, slots=True)
class StatusEntry:
    """A change of status. RUNNING has no timestamp."""

    status: str
    """MLflow's name of the status: RUNNING, FINISHED, FAILED, KILLED."""
    timestamp: int | None = None
    """Milliseconds since 1970."""


Entry = (
    MetricEntry | TagsEntry | TagRemovalEntry | ParamsEntry | InputsEntry | FileEntry | ModelEntry | DatasetEntry | StatusEntry
)
KINDS = tuple(next(iter(dataclasses.fields(kind))).name for kind in Entry.__args__)
"""The field that identifies each kind, in the order of `Entry`."""
# The first kind that fits wins, and nearly all entries are metrics.
ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(union_mode="left_to_right")])
ENTRIES: TypeAdapter[list[Entry]] = TypeAdapter(list[Annotated[Entry, Field(union_mode="left_to_right")]])


def to_lines(entries: Sequence[Entry]) -> bytes:
    """Return entries as JSON Lines."""
    return "".join(json.dumps(dataclasses.asdict(entry)) + "\n" for entry in entries).encode()


def from_lines(file: Path, lines: Sequence[bytes], before: int) -> list[Entry]:
    """Return the entries in complete lines of `file`, of which `before` lines precede them.

    All lines are parsed in one call, which is twice as fast as one call per line.

    Raises:
        UserError: if a line is damaged or holds an entry of an unknown kind. It names the line.

    """
    try:
        entries = ENTRIES.validate_json(b"[" + b",".join(lines) + b"]")
        if len(entries) == len(lines):
            return entries
    except ValidationError:  # find the line
        pass
    return [_from_line(f"{file}: line {number}", line) for number, line in enumerate(lines, before + 1)]


def _from_line(where: str, line: bytes) -> Entry:
    try:
        content = json.loads(line)  # unlike Pydantic's parser, it takes file names that are not UTF-8 (lone surrogates)
        return ENTRY.validate_python(content)
    except ValidationError:
        if isinstance(content, dict) and not content.keys() & set(KINDS):
            kind = next(iter(content), "nothing")
            raise UserError(f"{where} holds {kind!r}, which this version does not know", "install the newer reprise") from None
    except ValueError:
        pass
    raise UserError(f"{where} is damaged", "delete that line") from None
