"""The channels of a series that are inputs, targets and known in advance."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from reprise.config.modalities.series import SeriesWindow
from reprise.errors import UserError


def choose(
    window: SeriesWindow, names: Sequence[str], known_channels: Sequence[str], static: Sequence[str], data: str
) -> tuple[list[str], list[str], list[str]]:
    """Return the input channels, the targets, and the inputs that are known in advance.

    Static channels are always inputs. The order of the inputs is: channels of the past, static ones, those known in advance.

    Args:
        window: names inputs and targets; `None` for all.
        names: all channels of the series.
        known_channels: those known in advance.
        static: those of static columns.
        data: name of the data set.

    Raises:
        UserError: if the series lacks a channel, or a target cannot be forecast. The config is checked before, but it need not
            name the columns of an own table.

    """
    choices = [name for name in names if name not in static]
    for key, chosen in (("inputs", window.inputs or []), ("targets", window.targets or [])):
        for channel in chosen:
            if channel not in choices:
                raise UserError(f"window.{key} names {channel!r}", f"data={data} has {', '.join(choices)}")
    inputs = window.inputs or choices
    known = [name for name in inputs if name in known_channels]
    past = [name for name in inputs if name not in known]
    targets = window.targets or past
    for target in targets:
        if target in known_channels:
            raise UserError(f"window.targets={target}: known in advance (data.known)", "name a channel to forecast")
        if target not in past:
            hint = "a forecast starts from the past of its own channel"
            raise UserError(f"window.targets={target}: not among window.inputs", hint)
    if not targets:
        raise UserError(f"window.inputs={','.join(inputs)}: all are known in advance (data.known)", "name a channel to forecast")
    return [*past, *static, *known], list(targets), known


def check_targets_vary(targets: Sequence[str], names: Sequence[str], values: npt.NDArray[Any]) -> None:
    """Check that no target has the same value at every time step.

    Raises:
        UserError: when one has. It names the target.

    """
    for target in targets:
        series = values[:, names.index(target)]
        if series.min() == series.max():
            raise UserError(f"window.targets={target}: all its values are {series[0]:g}", "name a channel that varies")
