"""In which number format a network computes."""

from pathlib import Path

import torch

from reprise.errors import UserError

LIGHTNING = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names to Lightning's. bf16 and fp16 are mixed: weights and optimizer stay in float32."""


def resolve(wanted: str, device: torch.device, tolerates_bf16: bool) -> str:
    """float32, bf16 or fp16; `auto` is bf16 where the device computes it natively and the task tolerates it.

    Raises:
        UserError: for fp16 on a processor, where Lightning would quietly take bf16 in its place.

    """
    if wanted == "fp16" and device.type == "cpu":
        raise UserError("trainer.precision=fp16 needs a GPU", "take bf16 or float32")
    if wanted != "auto":
        return wanted
    return "bf16" if tolerates_bf16 and has_bf16(device) else "float32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively (a processor: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
