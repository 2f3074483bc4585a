"""Number formats for training and evaluation."""

from pathlib import Path

import torch

from reprise.errors import UserError

LIGHTNING = {"float32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Config value to Lightning's `precision`. bf16 and fp16 are mixed: weights and optimizer stay in float32."""


def resolve(requested: str, device: torch.device, tolerates_bf16: bool) -> str:
    """Return float32, tf32, bf16 or fp16. `auto` is bf16 if the device computes it natively and the task tolerates it.

    Raises:
        UserError: for fp16 or tf32 on a CPU, where PyTorch would silently use another format.

    """
    if requested in {"fp16", "tf32"} and device.type == "cpu":
        raise UserError(f"trainer.precision={requested} needs a GPU", "use bf16 or float32")
    if requested != "auto":
        return requested
    return "bf16" if tolerates_bf16 and has_bf16(device) else "float32"


def set_tf32(allowed: bool) -> None:
    """Set whether matrix products, convolutions and recurrent layers may round float32 inputs to TF32 (10 bits of mantissa).

    By default, PyTorch disables TF32 in matrix products (cuBLAS) and enables it in convolutions and recurrent layers (cuDNN).
    Both are set with `allow_tf32`. If the newer `fp32_precision` were set, `torch.backends.cudnn.flags` would raise, because it
    reads the older flags.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 natively (CPUs: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
