"""The reference of the config, made from its schema (types and ranges) and from conf/ (defaults and comments)."""

import ast
import functools
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe
import yaml
from pydantic import BaseModel

from reprise.config import own_tables, schema, sections, space, sweep, trainer
from reprise.config.modalities import images, sequences, series
from reprise.config.sections import Section

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"

INTRODUCTION = """# Config

Made from the schema and from `conf/` when this site is built. `reprise compose experiment=NAME` prints all keys of an
experiment with their values. A key is set on the command line as `key=value`, or in a file of `conf/experiment/`. A group
(`data`, `model`, `optimizer` and others) is chosen as `model=lstm`; its keys are set as `model.hidden=64`.

Keys with a dash as their default have to be set. Types are checked strictly, and unknown keys are refused.
"""

Row = tuple[str, str, str, str]
REQUIRED = object()
MISSING = "???"
TITLES: Row = ("key", "type", "default", "meaning")


class Part(typing.NamedTuple):
    """A table of the page: the keys of a section of the schema, with the file of conf/ that explains them."""

    title: str
    prefix: str
    section: type[Section]
    file: str | None = None


PARTS = (
    Part("Top level", "", schema.Config, "config.yaml"),
    Part("checkpoint", "checkpoint.", schema.CheckpointConfig, "config.yaml"),
    Part("published", "published.", schema.Published),
    Part("task", "task.", sections.TaskConfig, "task/classification.yaml"),
    Part("model, scheduler", "model.", sections.Target),
    Part("trainer", "trainer.", trainer.TrainerConfig, "trainer/auto.yaml"),
    Part("optimizer", "optimizer.", schema.OptimizerConfig, "optimizer/adam.yaml"),
    Part("augment", "augment.", schema.AugmentConfig, "augment/none.yaml"),
    Part("tracking", "tracking.", schema.TrackingConfig, "tracking/local.yaml"),
    Part("data: your own pictures", "data.", images.FolderData, "data/image_folder.yaml"),
    Part("data: your own series", "data.", own_tables.TableData, "data/csv.yaml"),
    Part("data: your own labelled sequences", "data.", sequences.OwnSequences, "data/ucr.yaml"),
    Part("data: published images", "data.", images.ImageData),
    Part("data: published series", "data.", series.SeriesData),
    Part("data: published sequences", "data.", sequences.PublishedSequences),
    Part("data: files", "data.files[].", sections.RawFile),
    Part("data: channels of published series", "data.channels[].", series.Channel),
    Part("window: images", "window.", images.ImageWindow, "window/images.yaml"),
    Part("window: series", "window.", series.SeriesWindow, "window/series.yaml"),
    Part("window: borders of a series", "window.borders.", series.SplitBorders),
    Part("window: sequences", "window.", sequences.SequenceWindow, "window/sequences.yaml"),
)
GROUPS = ("task", "model", "optimizer", "scheduler")
"""Groups whose keys are the arguments of what a file names: one table for each file."""
SWEEP = (
    Part("Sweeps", "", sweep.Sweep),
    Part("sampler", "sampler.", sweep.Sampler),
    Part("pruner", "pruner.", sweep.Pruner),
    Part("objectives", "objectives[].", sweep.Objective),
    Part("limits", "limits[].", sweep.Limit),
    Part("space: numbers", "space.KEY.", space.FloatRange),
    Part("space: integers", "space.KEY.", space.IntRange),
    Part("space: choices", "space.KEY.", space.Choice),
)
PIPELINE = Part("Pipeline", "", schema.Pipeline)


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION, "## Keys\n", *map(table_of, PARTS)]
    for group in GROUPS:
        parts.append(f"## Choices of {group}\n")
        parts += [choice(file) for file in sorted((CONF / group).glob("*.yaml"))]
    parts += ["## Sweeps\n", "A file of `conf/sweep/`.\n", *map(table_of, SWEEP)]
    parts += ["## Pipeline\n", "`conf/pipeline.yaml`.\n", table_of(PIPELINE)]
    return "\n".join(parts)


def table_of(part: Part) -> str:
    """Return the heading and table of a section of the schema."""
    return f"### {part.title}\n\n{first_paragraph(part.section)}\n\n{table(rows(part))}"


def rows(part: Part) -> Iterator[Row]:
    """Yield a row for each key of a section: name, type, default, meaning."""
    tree = _tree(part.file, part.prefix.rstrip(".")) if part.file else {}
    meanings = documented(part.section) | (_comments(part.file) if part.file else {})
    for name, node in part.section.model_json_schema(by_alias=True)["properties"].items():
        shown = tree[name] if name in tree else node.get("default", REQUIRED)
        yield f"{part.prefix}{name}", kind(node), _value(shown), meanings.get(name, "")


def choice(file: Path) -> str:
    """Return the heading and table of one file of a group whose keys are the arguments of what it names."""
    target = yaml.safe_load(file.read_text())["_target_"]
    text = f"### {file.parent.name}={file.stem}\n\n{' '.join(filter(None, [_header(file), f'`{target}`.']))}\n"
    lines = arguments_of(file)
    return f"{text}\n{table(lines)}" if lines else text


def arguments_of(file: Path) -> list[Row]:
    """Return a row for each argument of what a file names: name, type, value in the file or default, meaning."""
    name, tree = f"{file.parent.name}/{file.name}", yaml.safe_load(file.read_text())
    target = tree.pop("_target_")
    arguments, comments = dict(_arguments(target)), _comments(name)
    keys = dict.fromkeys([*tree, *arguments])
    lines = []
    for key in keys:
        argument = arguments.get(key, Argument())
        shown = tree.get(key, argument.default)
        lines.append((f"{file.parent.name}.{key}", argument.type, _value(shown), comments.get(key, argument.meaning)))
    return lines


class Argument(typing.NamedTuple):
    """An argument of a class or function of reprise."""

    type: str = ""
    default: Any = REQUIRED
    meaning: str = ""


def _arguments(target: str) -> Iterator[tuple[str, Argument]]:
    """Yield the arguments with a default of a class or function of reprise, read from its source without importing it."""
    module, _, name = target.rpartition(".")
    file = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    if not file.is_file():  # of PyTorch
        return
    found = griffe.visit(module, file, file.read_text())[name]
    texts = _documented_arguments(found)
    for parameter in found.parameters:
        if parameter.name in texts and parameter.name not in FILLED_IN:
            type_ = "" if parameter.annotation is None else f"`{parameter.annotation}`"
            yield (
                parameter.name,
                Argument(
                    type_, yaml.safe_load(PYTHON.get(str(parameter.default), str(parameter.default))), texts[parameter.name]
                ),
            )


FILLED_IN = {"input_shape", "outputs", "output_shape", "meta", "masked", "target_positions", "season", "optimizer", "steps_total"}
"""Arguments that follow from the data."""
PYTHON = {"None": "null", "()": "[]"}


def _documented_arguments(found: griffe.Object | griffe.Alias) -> dict[str, str]:
    sections = found.docstring.parse("google") if found.docstring else []
    return {
        item.name: item.description.replace("\n", " ")
        for section in sections
        if section.kind is griffe.DocstringSectionKind.parameters
        for item in section.value
    }


def table(lines: Iterable[Row]) -> str:
    """Return a Markdown table. The first column is set as code."""
    shown = [(f"`{key}`", kind, default, sentence(meaning)) for key, kind, default, meaning in lines]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in (TITLES, ("---",) * len(TITLES), *shown))


VALUES = ("null", "true", "false", "auto", "none", "mse", "lstm", "relu", "float32", "single")
"""Words that stay in lower case at the beginning of a sentence, because they are values."""


def sentence(text: str) -> str:
    """Return a comment as a sentence."""
    first = text.split(" ")[0].strip(",:;")
    start = text[:1] if first in VALUES else text[:1].upper()
    return start + text[1:] + ("" if text.endswith(".") else ".")


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def kind(node: Mapping[str, Any]) -> str:
    """Return the type of a value in words, from its JSON schema."""
    if "$ref" in node:
        return "section"
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "anyOf" in node or "oneOf" in node:
        kinds = dict.fromkeys(kind(one) for one in node.get("anyOf", node.get("oneOf")))
        return " or ".join(kinds)
    if node.get("type") == "array":
        return f"list of {kind(node['items'])}" if "items" in node else "list"
    if node.get("type") == "object":
        return "section"
    return " ".join([WORDS.get(str(node.get("type")), "value"), *_bounds(node)])


WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true`, `false`", "null": "`null`"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds(node: Mapping[str, Any]) -> list[str]:
    found = [f"{sign} {node[key]:g}" for key, sign in BOUNDS.items() if key in node]
    return [" and ".join(found)] if found else []


def _value(value: Any) -> str:
    if value is REQUIRED or value == MISSING:
        return "–"
    if isinstance(value, str) and not value:
        return '`""`'
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip().removesuffix("...").strip()
    return f"`{text}`"


def _tree(file: str, section: str) -> dict[str, Any]:
    """Return the defaults in a file of conf/: all of it, or a section of the root config."""
    tree = yaml.safe_load((CONF / file).read_text())
    tree.pop("defaults", None)
    if file != "config.yaml":
        return dict(tree)
    if section:
        return dict(tree[section])
    return {key: value for key, value in tree.items() if not isinstance(value, dict)}


@functools.cache
def _comments(file: str) -> dict[str, str]:
    """Return the comment of each key of a file of conf/ that has one."""
    return dict(re.findall(r"^ *([\w]+):[^#\n]*(?<=\s)# (.+)$", (CONF / file).read_text(), re.MULTILINE))


def _header(file: Path) -> str:
    """Return the comment at the top of a file of conf/."""
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def first_paragraph(section: type[BaseModel]) -> str:
    """Return the first paragraph of the docstring of a section."""
    return inspect.cleandoc(section.__doc__ or "").split("\n\n")[0].replace("\n", " ")


@functools.cache
def documented(section: type[BaseModel]) -> dict[str, str]:
    """Return the text beneath each field in the source of a section and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if not (isinstance(base, type) and issubclass(base, Section) and base is not Section):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        declared = [part for one in body.body for part in (one.body if isinstance(one, ast.If) else [one])]
        for field, text in itertools.pairwise(declared):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                assert isinstance(text, ast.Expr)
                found[field.target.id] = ast.literal_eval(text.value).replace("\n", " ")
    return {_alias(section, name): text for name, text in found.items()}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _alias(section: type[BaseModel], name: str) -> str:
    return (section.model_fields[name].alias or name) if name in section.model_fields else name
