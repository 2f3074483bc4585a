"""Register a model under the name of its data set and move an alias to it.

A model takes the alias from its holder if it is better, or if it is smaller and shown not to be inferior.
"""

import re
from dataclasses import dataclass

from rich.console import Console

from reprise.analysis import compare, significance
from reprise.analysis.compare import ComparisonQuery, Group, PairwiseTest, Table
from reprise.config import tracking_config
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import descriptions, listing, registry, run_info
from reprise.tracking.listing import Row

FORCE = "--force REASON registers it anyway"
MARGIN = 0.05
"""How much larger the error of a smaller model may be, as a share of the holder's error. See `margin_of`."""


@dataclass(frozen=True)
class Verdict:
    """Whether a run may take an alias from its holder."""

    passes: bool
    reason: str
    """The reason, with the metrics."""
    hint: str = FORCE


def run(paths: ProjectPaths, run_name: str, alias: str, force: str | None, console: Console, margin: float | None = None) -> str:
    """Register the model of a run under the name of its data set, set the alias if `judge` allows it, and return its URI.

    Raises:
        UserError: when it may not take the alias (nothing is changed), has no model, or cannot be judged.

    """
    if not re.fullmatch(r"(?!v\d+$|latest$)[A-Za-z][\w-]*", alias):
        raise UserError(f"--alias {alias}: not an alias that MLflow accepts", "letters, digits and _, beginning with a letter")
    tracking = tracking_config(paths.root)
    rows = listing.read(paths.store, tracking, [], None)
    newest = run_info.newest_trained(paths.store, run_name)
    row = _find_run(newest[0].name if newest else run_name, rows)
    name = row.tags["data"]
    held = registry.version_with_alias(paths.store, tracking, name, alias)
    if held and held.run_id == row.id:
        console.print(f"register  {row.name} is the {alias} of {name} already: version {held.version}", highlight=False)
        return f"models:/{name}@{alias}"
    old = next((other for other in rows if held and other.id == held.run_id), None)
    if held and old is None and not force:
        raise UserError(f"the run of the present {alias}, version {held.version} of {name}, is gone", FORCE)
    try:
        verdict = judge(paths, row, old, alias, rows, margin) if old else Verdict(True, f"the first {alias} of {name}")
    except UserError as error:
        if not force:
            raise
        verdict = Verdict(False, str(error))
    if not verdict.passes and not force:
        raise UserError(f"{row.name}: {verdict.reason}", verdict.hint)
    tags = {f"judged.{alias}": verdict.reason, f"forced.{alias}": force or "no"}
    note = f"Run {row.name}. {verdict.reason}\n\n```\nreprise reproduce {row.name}\n```"
    version = registry.register(paths.store, tracking, row.id, name, alias, tags, note)
    forced = f", forced: {force}" if force else ""
    console.print(f"register  {row.name}: {verdict.reason}{forced}", highlight=False, soft_wrap=True)
    console.print(f"register  models:/{name}@{alias} is version {version}", highlight=False, soft_wrap=True)
    return f"models:/{name}@{alias}"


def judge(paths: ProjectPaths, row: Row, old: Row, alias: str, rows: list[Row], margin: float | None = None) -> Verdict:
    """Compare a run with the holder of an alias, two of all `rows`, by the val metric over all seeds of their configs.

    Raises:
        UserError: when one of them is not compared, for example because it did not finish.

    """
    comparison = compare.compare(paths, ComparisonQuery())
    located = [compare.find_group(comparison, one, rows) for one in (row, old)]
    for one, group in zip((row, old), located, strict=True):
        if group is None:
            reason = next((run.reason for run in comparison.excluded if run.id == one.id), "no training")
            raise UserError(f"{one.name} cannot be judged: {reason}", "name another run")
    ((table, new_group), (other_table, old_group)) = (group for group in located if group)
    if table is not other_table:
        return Verdict(False, f"it was measured on {table.data}, the {alias} {old.name} on {other_table.data}: not comparable")
    sizes = int(row.tags.get("parameters", 0)), int(old.tags.get("parameters", 0))
    accepted = margin_of(table, old_group, margin)
    return _verdict(table, new_group, old_group, f"the {alias} {old.name}", sizes, accepted)


def margin_of(table: Table, old: Group, margin: float | None) -> float:
    """Return the largest loss that is accepted: `margin` if given, else `MARGIN` times the error of the holder.

    The error of an accuracy or another score in [0, 1] is 1 - score; that of any other metric is its absolute value.
    """
    if margin is not None:
        return margin
    error = 1 - old.mean if table.higher_is_better and 0 <= old.mean <= 1 else abs(old.mean)
    return MARGIN * error


def _verdict(table: Table, new: Group, old: Group, holder: str, sizes: tuple[int, int], margin: float) -> Verdict:
    """Accept a group that is better than that of the holder, or smaller and not inferior by more than the margin."""
    result = compare.test_of(new, old, table.higher_is_better)
    word = result.verdict if result else "not comparable"
    preposition = "than" if word in {"better", "worse"} else "from"
    new_text, old_text = (f"{_figures(group)}, {count:,} parameters" for group, count in zip((new, old), sizes, strict=True))
    reason = f"{table.metric} {new_text}, is {word}{_p(result)} {preposition} that of {holder}, {old_text}"
    if word == "better":
        return Verdict(True, reason)
    if word == "worse":
        return Verdict(False, reason)
    if result is None:
        single = " and ".join(f"of {name}" for name, group in (("it", new), ("the holder", old)) if len(group.runs) < 2)
        return Verdict(False, f"{reason}: a single seed {single}", f"train more seeds of both: seeds=5; {FORCE}")
    if sizes[0] >= sizes[1]:
        more = f"{result.more_seeds} more seeds would be enough; " if result.more_seeds else ""
        return Verdict(False, reason, f"it is not smaller; {more}{FORCE}")
    a, b, is_paired = compare.samples(new, old)
    loss, test = significance.largest_loss(a, b, is_paired, table.higher_is_better)
    if loss <= margin:
        return Verdict(True, f"{reason}; it loses at most {max(0.0, loss):.2g}, the margin is {margin:.2g}")
    enough = test and significance.seeds_to_pass(test, a, b, margin, table.higher_is_better)
    more = f"some {enough} seeds of each would show whether it loses less; " if enough else ""
    explanation = f"{reason}; it may lose {loss:.2g}, more than the margin of {margin:.2g}"
    return Verdict(False, explanation, f"{more}--margin sets another; {FORCE}")


def _figures(group: Group) -> str:
    seeds = len(group.runs)
    spread = "" if group.std is None else f" ± {group.std:.4f}"
    return f"{group.mean:.4f}{spread} ({seeds} seed{'s' if seeds > 1 else ''})"


def _p(result: PairwiseTest | None) -> str:
    return f" (p {result.p_holm:.2g})" if result and result.p_holm is not None else ""


def _find_run(name: str, rows: list[Row]) -> Row:
    """Return the run with this name, or whose id starts with it."""
    matches = [row for row in rows if name == row.name or any(run_id.startswith(name) for run_id in _ids(row))]
    if len(matches) != 1:
        raise UserError(f"{len(matches)} runs of the store are called {name}", "`reprise runs` lists them; `reprise sync` sends")
    if descriptions.GROUP in matches[0].tags or "data" not in matches[0].tags:
        raise UserError(f"{matches[0].name} is no training", "name one of the runs under it")
    return matches[0]


def _ids(row: Row) -> tuple[str, str]:
    return row.id, row.tags.get("reprise.token", row.id)
