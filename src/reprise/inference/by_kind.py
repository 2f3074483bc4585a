"""The functions of `reprise predict` and `reprise explain` for each modality."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from reprise.errors import UserError

Functions = tuple[Callable[..., Any], Callable[..., None]]
PREDICT = {
    "images": ("predict", "predict_view"),
    "sequences": ("predict_sequences", "predict_view"),
    "series": ("forecast", "forecast_view"),
}
"""By modality, the module whose `run` predicts on a path, and the module whose `show` prints the result."""
EXPLAIN = {
    "images": ("explain", "explain"),
    "sequences": ("explain_sequences", "explain_view"),
    "series": ("explain_series", "explain_view"),
}
"""By modality, the module whose `run` explains predictions on a path, and the module whose `show` prints the result."""


def predict_on(kind: str) -> Functions:
    """Return the function that predicts on a path, `run(run, path, out, console)`, and the one that prints what it returns.

    Raises:
        UserError: if there is none for this kind of data.

    """
    return _functions("predict", PREDICT, kind)


def explain_on(kind: str) -> Functions:
    """Return the function that explains, `run(run, path, out, console, sample, target)`, and the one that prints the result.

    Raises:
        UserError: if there is none for this kind of data.

    """
    return _functions("explain", EXPLAIN, kind)


def _functions(command: str, modules: Mapping[str, tuple[str, str]], kind: str) -> Functions:
    if kind not in modules:
        raise UserError(f"`reprise {command}` does not read {kind}", f"it reads {', '.join(modules)}")
    work, view = (importlib.import_module(f"reprise.inference.{name}") for name in modules[kind])
    return work.run, view.show
