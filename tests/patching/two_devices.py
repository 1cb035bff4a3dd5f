"""Two simulated devices, over which ComfyUI divides the sides of guidance, each in a thread of its own.

Both are the CPU under different names, so only the threads and the second copy of the weights are real.
"""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.benchmarks.fuzz.host_nodes import patcher_of
from likeness.tests.patching import tiny_models

multigpu = pytest.importorskip("comfy.multigpu", reason="this ComfyUI divides nothing over several GPUs")
DEVICES = (torch.device("cpu"), torch.device("cpu", 0))


class Seen:
    """Notes the sides of guidance of each call and the device that the host gives it to."""

    likeness_identity = None  # it only watches

    def __init__(self) -> None:
        self.calls: set[tuple[torch.device, tuple[int, ...]]] = set()

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        device = transformer_options.get("multigpu_thread_device")
        if device is not None:
            self.calls.add((device, tuple(transformer_options["cond_or_uncond"])))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    @property
    def divided(self) -> bool:
        """True where each side has had a device of its own."""
        return {device for device, _ in self.calls} == {*DEVICES} and {sides for _, sides in self.calls} == {(0,), (1,)}


def of_two_devices(monkeypatch: pytest.MonkeyPatch, family: str = "sd1", seed: int = 0):
    """The MODEL of the host's node MultiGPU CFG Split, and what its calls show."""
    monkeypatch.setattr(
        comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: [*DEVICES[exclude_current:]]
    )
    model = tiny_models.tiny_model(family, seed=seed)
    model.cached_patcher_init = (_loaded, (family, torch.float32, seed))
    divided, seen = multigpu.create_multigpu_deepclones(model, 2), Seen()
    divided.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "seen", seen)
    return divided, seen


def _loaded(*seeded):
    """A MODEL with weights of its own, as the host's loaders make it from the same file again."""
    return patcher_of(tiny_models._base_model(*seeded))
