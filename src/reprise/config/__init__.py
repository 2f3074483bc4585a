"""What a run is: the schema, its composition from conf/, and the building of what it names."""

from reprise.config.compose import (
    check,
    choices,
    compose,
    compose_dataset,
    load,
    pipeline,
    project_root,
    render,
    surroundings,
    tracking_config,
)
from reprise.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    FolderData,
    ImageData,
    ImageWindow,
    Pipeline,
    SeriesData,
    SeriesWindow,
    TrainerConfig,
)
from reprise.config.targets import build

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "FolderData",
    "ImageData",
    "ImageWindow",
    "Pipeline",
    "SeriesData",
    "SeriesWindow",
    "TrainerConfig",
    "build",
    "check",
    "choices",
    "compose",
    "compose_dataset",
    "load",
    "pipeline",
    "project_root",
    "render",
    "surroundings",
    "tracking_config",
]
