"""The functions of `reprise predict` for each modality."""

import importlib
from collections.abc import Callable
from typing import Any

from reprise.errors import UserError

MODULES = {
    "images": ("predict", "predict_view"),
    "sequences": ("predict_sequences", "predict_view"),
    "series": ("forecast", "forecast_view"),
}
"""By modality, the module whose `run` predicts on a path, and the module whose `show` prints the result."""


def predict_on(kind: str) -> tuple[Callable[..., Any], Callable[..., None]]:
    """Return the function that predicts on a path, `run(run, path, out, console)`, and the one that prints what it returns.

    Raises:
        UserError: if there is none for this kind of data.

    """
    if kind not in MODULES:
        raise UserError(f"`reprise predict` does not read {kind}", f"it reads {', '.join(MODULES)}")
    predict, view = (importlib.import_module(f"reprise.inference.{name}") for name in MODULES[kind])
    return predict.run, view.show
