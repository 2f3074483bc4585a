"""The configuration of a run: its schema, composition from conf/, and building the objects it names."""

from reprise.config.compose import (
    check,
    compose,
    compose_dataset,
    expand,
    load,
    load_recorded,
    pipeline,
    project_root,
    render,
    surroundings,
    tracking_config,
)
from reprise.config.conf_files import choices
from reprise.config.schema import AugmentConfig, CheckpointConfig, Config, Pipeline, TrackingConfig
from reprise.config.sections import DataConfig, PublishedData, WindowConfig
from reprise.config.targets import build
from reprise.config.trainer import TrainerConfig

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "Pipeline",
    "PublishedData",
    "TrackingConfig",
    "TrainerConfig",
    "WindowConfig",
    "build",
    "check",
    "choices",
    "compose",
    "compose_dataset",
    "expand",
    "load",
    "load_recorded",
    "pipeline",
    "project_root",
    "render",
    "surroundings",
    "tracking_config",
]
