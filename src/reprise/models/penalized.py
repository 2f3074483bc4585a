"""Networks with a regularisation term of their own."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Penalized(Protocol):
    """A network whose `penalty` is added to the loss of every training step."""

    def penalty(self) -> Tensor:
        """Return the weighted penalty of the last forward pass in training, a scalar."""
        ...
