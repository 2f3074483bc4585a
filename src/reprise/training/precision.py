"""In which number format a network computes."""

from pathlib import Path

import torch

from reprise.errors import UserError

LIGHTNING = {"float32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names to Lightning's. bf16 and fp16 are mixed: weights and optimizer stay in float32."""


def resolve(wanted: str, device: torch.device, tolerates_bf16: bool) -> str:
    """float32, tf32, bf16 or fp16; `auto` is bf16 where the device computes it natively and the task tolerates it.

    Raises:
        UserError: for fp16 or tf32 on a CPU, where another format would quietly take its place.

    """
    if wanted in {"fp16", "tf32"} and device.type == "cpu":
        raise UserError(f"trainer.precision={wanted} needs a GPU", "take bf16 or float32")
    if wanted != "auto":
        return wanted
    return "bf16" if tolerates_bf16 and has_bf16(device) else "float32"


def set_tf32(allowed: bool) -> None:
    """Say whether matrix products, convolutions and recurrent layers may round float32 inputs to TF32 (10 bits of mantissa).

    PyTorch's defaults differ: not for matrix products (cuBLAS), but for convolutions and recurrent layers (cuDNN). Both are set
    by `allow_tf32`: after the newer `fp32_precision`, reading the older flags raises, which `torch.backends.cudnn.flags` does.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively (a processor: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
