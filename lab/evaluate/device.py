"""Device that pictures are drawn and embedded on, and the reason for it."""

from __future__ import annotations

import torch

from ...demo.launcher.serve import has_gpu


def drawing(cpu: bool) -> tuple[bool, str]:
    """True for the CPU, and a sentence on the device of our own ComfyUI. cpu: --cpu was given."""
    if cpu:
        return True, "ComfyUI draws on the CPU, because --cpu is given."
    if not has_gpu():
        return True, f"ComfyUI draws on the CPU, because torch {torch.__version__} finds no GPU: this is slow."
    return False, "ComfyUI draws on the GPU."


def embedding() -> tuple[str, str]:
    """Name of the device that computes the metrics, and a sentence on it."""
    if torch.cuda.is_available():
        return "cuda", f"The metrics are computed on the GPU {torch.cuda.get_device_name()}."
    return "cpu", f"The metrics are computed on the CPU, because torch {torch.__version__} finds no CUDA GPU."
