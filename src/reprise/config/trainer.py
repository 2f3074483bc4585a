"""Schema of the section `trainer`: devices, duration and precision of a training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.sections import Section

AVERAGES: dict[str, dict[str, float]] = {"ema": {"average_decay": 0.999, "average_start": 0.0}, "swa": {"average_start": 0.75}}
"""The settings of each running mean of weights, with their defaults."""


class TrainerConfig(Section):
    """Devices, duration and precision of a training."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: PositiveInt
    num_nodes: PositiveInt
    """Machines that train together, each with `devices` devices."""
    strategy: Literal["single", "ddp", "fsdp"]
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"]
    max_epochs: PositiveInt
    """Passes over the training split; fewer if `patience` ends the training."""
    batch_size: PositiveInt
    accumulate: PositiveInt = Field(default=1, exclude_if=lambda parts: parts == 1)
    eval_batch_size: PositiveInt
    gradient_clip: PositiveFloat | None
    patience: PositiveInt | None
    average: Literal["ema", "swa"] | None = Field(default=None, exclude_if=lambda kind: kind is None)
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, exclude_if=lambda decay: decay is None)
    average_start: Annotated[float, Field(ge=0, lt=1)] | None = Field(default=None, exclude_if=lambda start: start is None)
    deterministic: bool | Literal["warn"]
    threads: PositiveInt | None
    preload_to_device: bool | Literal["auto"]
    compile: bool = Field(default=False, exclude_if=lambda compiled: not compiled)
    sync_batch_norm: bool = Field(default=False, exclude_if=lambda synchronized: not synchronized)
    stacked: Annotated[int, Field(ge=2)] | None = Field(default=None, exclude_if=lambda size: size is None)
    progress: bool
    """Whether to show a progress bar, or a line per epoch where there is no terminal."""

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes together."""
        return self.devices * self.num_nodes

    @_model_validator(mode="before")
    @classmethod
    def _average_states_its_settings(cls, tree: Any) -> Any:
        given = {name: value for name, value in tree.items() if value is not None} if isinstance(tree, dict) else {}
        return tree | AVERAGES[given["average"]] | given if given.get("average") in AVERAGES else tree

    @_model_validator(mode="after")
    def _average_has_its_settings(self) -> Self:
        for name in ("average_decay", "average_start"):
            if getattr(self, name) is not None and name not in AVERAGES.get(self.average or "", {}):
                raise ValueError(f"{name}={getattr(self, name)}: average={self.average or 'null'} has no such setting")
        if self.average and self.strategy == "fsdp":
            raise ValueError(f"strategy=fsdp shards the weights, which average={self.average} does not support; use trainer=ddp")
        return self

    @_model_validator(mode="after")
    def _stack_has_one_course(self) -> Self:
        refused = {
            f"devices={self.devices}": self.world_size > 1,
            f"strategy={self.strategy}": self.strategy != "single",
            f"patience={self.patience}": self.patience is not None,
            f"average={self.average}": self.average is not None,
            f"gradient_clip={self.gradient_clip}": self.gradient_clip is not None,
            "precision=fp16": self.precision == "fp16",
            "compile=true": self.compile,
        }
        if self.stacked and (given := [setting for setting, is_given in refused.items() if is_given]):
            raise ValueError(f"stacked={self.stacked} does not support {given[0]}; leave one of them out")
        return self

    @_model_validator(mode="after")
    def _strategy_fits_devices(self) -> Self:
        if self.strategy == "single" and self.world_size > 1:
            raise ValueError(f"strategy=single trains on one device, not {self.world_size}; use trainer=ddp")
        if self.strategy == "fsdp" and self.compile:
            raise ValueError("strategy=fsdp shards the network, which compile=true does not support; use trainer=ddp")
        if self.strategy == "fsdp" and self.precision == "fp16":
            raise ValueError("strategy=fsdp does not scale the loss, which precision=fp16 needs; use bf16")
        if self.batch_size < self.world_size:
            raise ValueError(f"batch_size={self.batch_size} cannot be split over {self.world_size} devices")
        if (samples := self.batch_size // self.world_size) < self.accumulate:
            raise ValueError(f"accumulate={self.accumulate}: a device has only {samples} samples of batch_size={self.batch_size}")
        return self

    @_model_validator(mode="after")
    def _batch_norm_can_be_synchronized(self) -> Self:
        several = f"devices={self.devices}" if self.world_size == 1 else ""
        other = f"strategy={self.strategy}" if self.strategy != "ddp" else several
        if self.sync_batch_norm and (reason := "accelerator=cpu" if self.accelerator == "cpu" else other):
            raise ValueError(f"sync_batch_norm=true: works with trainer=ddp on several GPUs, not with {reason}; omit it")
        return self
