"""Cut series by time into splits, and splits into windows. Several series lie one after the other in the arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import splits
from reprise.data.modalities.series import splitting
from reprise.data.modalities.series.defaults import ResolvedWindow
from reprise.data.splits import Borders, Indices
from reprise.errors import UserError


@dataclass(frozen=True)
class Member:
    """The rows of one series, and its splits."""

    name: str
    """Empty if there is one series."""
    start: int
    """Its first row in the arrays."""
    borders: Borders
    """Counted from its first row."""

    def own(self, starts: Indices) -> Indices:
        """Return the windows of this series, counted from its first row."""
        return starts[(starts >= self.start) & (starts < self.start + self.borders.test)] - self.start

    def windows(self, window: ResolvedWindow) -> dict[str, Indices]:
        """Return the first row of each window of train, val and test, counted from the start of the arrays.

        Raises:
            UserError: if a split has none.

        """
        reach = window.lookback if window.lookback_crosses else 0
        size = window.lookback + window.horizon
        stride = {"train": window.stride, "val": 1, "test": 1}  # evaluate on every window
        parts = {name: splits.window_starts(self.borders.span(name, reach), size, stride[name]) for name in splits.SPLITS}
        if empty := [name for name, starts in parts.items() if not len(starts)]:
            raise self._too_short(empty[0], window)
        return {name: starts + self.start if self.start else starts for name, starts in parts.items()}

    def _too_short(self, split: str, window: ResolvedWindow) -> UserError:
        """Return the error for a split that is shorter than one window. It names the settings to change."""
        start, stop = self.borders.span(split)
        crosses = window.lookback_crosses and split != "train"
        keys = ("horizon",) if crosses else ("horizon", "lookback")
        too_long = [key for key in keys if getattr(window, key) >= stop - start + crosses]
        smaller = f"window.{too_long[0]}" if too_long else " or ".join(f"window.{key}" for key in reversed(keys))
        if window.borders:
            larger = f"window.borders.{split} later"
        else:
            larger = "make window.val_size or window.test_size smaller" if split == "train" else f"window.{split}_size larger"
        if split == "test" and window.folds:
            larger = f"window.folds smaller, {larger}"
        if self.name:
            larger += ", or leave the series out"
        needed = window.horizon if crosses else window.lookback + window.horizon
        return UserError(
            f"{f'series {self.name!r}: ' if self.name else ''}the {split} split has {stop - start} time steps, no room for a "
            f"window of {needed}: window.lookback={window.lookback} and window.horizon={window.horizon}",
            f"make {smaller} smaller, or {larger}",
        )


def members_of(window: ResolvedWindow, rows: Mapping[str, int], time: npt.NDArray[np.int64]) -> list[Member]:
    """Return the series with their splits. `rows` is the length of each by name; `time` holds the timestamps of all."""
    members, start = [], 0
    for name, length in rows.items():
        if window.borders:
            borders = splitting.borders_at(window.borders, time[start : start + length])
        else:
            borders = splits.time_borders(length, window.val_size, window.test_size)
        if window.folds is not None and window.fold is not None:
            borders = splits.fold_borders(borders, window.folds, window.fold)
        members.append(Member(name, start, borders))
        start += length
    return members


def cut(window: ResolvedWindow, members: Sequence[Member]) -> dict[str, Indices]:
    """Return the first row of each window of train, val and test.

    A limit keeps the last windows of train, and of several series evenly spaced ones.
    """
    each = [member.windows(window) for member in members]
    parts = each[0] if len(each) == 1 else {name: np.concatenate([one[name] for one in each]) for name in splits.SPLITS}
    train = parts["train"]
    if window.limit and len(members) == 1:
        parts["train"] = train[-window.limit :]
    elif window.limit and window.limit < len(train):
        parts["train"] = train[np.linspace(0, len(train) - 1, window.limit).round().astype(np.int64)]
    return parts


def train_spans(train: Indices, borders: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the rows `[start, stop)` of the train split of each series, from its first window.

    `borders` holds the first row of each series, and the row after its train split.
    """
    inside = [(train[(train >= start) & (train < stop)], stop) for start, stop in borders]
    return [(int(own[0]), stop) for own, stop in inside if len(own)]


def audit(parts: Mapping[str, Indices], members: Sequence[Member], window: ResolvedWindow) -> dict[str, Any]:
    """Audit the split of each series, and that no window is in two splits. Findings are listed by series if there are several."""
    size, reach = window.lookback + window.horizon, window.lookback if window.lookback_crosses else 0
    if len(members) == 1:
        return splitting.audit_series(parts, members[0].borders, size, reach)
    found = {
        member.name: splitting.audit_series(
            {split: member.own(starts) for split, starts in parts.items()}, member.borders, size, reach
        )
        for member in members
    }
    rules = next(iter(found.values())).keys() - {"splits are disjoint"}
    by_rule = {rule: {name: checks[rule] for name, checks in found.items()} for rule in sorted(rules)}
    return {
        **{rule: {"passed": all(check["passed"] for check in by.values()), "series": by} for rule, by in by_rule.items()},
        "splits are disjoint": splits.disjoint(parts),
    }
