"""The config schema of every modality: one module each, named as its `kind`.

A module defines `DATA`, the classes of its data sets (with different `reader`s if there are several), and `WINDOW`, the class of
its windows.
"""

import importlib
import pkgutil
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Union

from pydantic import Field

from reprise.config.sections import DataConfig, Section

KINDS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""The modalities."""
_MODULES = [importlib.import_module(f"{__name__}.{kind}") for kind in KINDS]


def union(classes: Sequence[Any], discriminator: str) -> Any:
    """Return the type of a value that is of one of the classes, told apart by the value of a field."""
    return classes[0] if len(classes) == 1 else Annotated[Union[tuple(classes)], Field(discriminator=discriminator)]  # noqa: UP007


ANY_DATA = union([union(module.DATA, "reader") for module in _MODULES], "kind")
ANY_WINDOW = union([module.WINDOW for module in _MODULES], "kind")


def discriminators() -> set[str]:
    """Return the values of `kind` and `reader`, which pydantic inserts into the paths of its errors."""
    classes: list[type[DataConfig]] = [one for module in _MODULES for one in module.DATA]
    return {*KINDS, *(value for one in classes for value in _values(one, "reader"))}


def _values(section: type[Section], field: str) -> tuple[str, ...]:
    return typing.get_args(section.model_fields[field].annotation) if field in section.model_fields else ()
