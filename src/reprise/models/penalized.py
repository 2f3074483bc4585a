"""Networks that define their own part of the loss."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Penalized(Protocol):
    """A network whose `penalty` is added to the loss of every training step."""

    def penalty(self) -> Tensor:
        """Return the weighted penalty of the last forward pass in training, a scalar."""
        ...


@runtime_checkable
class SeparateLosses(Protocol):
    """A network of several members, each of which is trained on its own loss."""

    def member_outputs(self) -> list[Tensor]:
        """Return the outputs of the members of the last forward pass in training, each like the output of the network."""
        ...
