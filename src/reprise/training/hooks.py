"""Hooks of modules and parameters. PyTorch has no public function that lists them."""

from torch import nn


def has_hook(module: nn.Module) -> bool:
    """Return whether a module itself, or a parameter of it, has a forward or backward hook."""
    of_module = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(of_module) or any(parameter._backward_hooks for parameter in module.parameters(recurse=False))
