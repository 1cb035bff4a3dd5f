"""Says which precision a processor multiplies fast."""

from __future__ import annotations

import torch


def bfloat16_is_fast(device_type: str = "cpu") -> bool:
    """True on GPUs, and on CPUs with instructions for it: AVX2 alone takes 15 to 140 times as long as in float32."""
    return device_type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "SVE"))


def fast_dtype(device_type: str = "cpu") -> torch.dtype:
    """bfloat16 where it is fast, else float32."""
    return torch.bfloat16 if bfloat16_is_fast(device_type) else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Context in which networks compute in bfloat16 where it is fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device.type))
