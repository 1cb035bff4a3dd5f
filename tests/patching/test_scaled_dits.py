"""Transformers of scaled 8-bit checkpoints, as ComfyUI loads those named fp8_scaled: values and gradients."""

from __future__ import annotations

import json

import comfy.model_management
import comfy.ops
import comfy.quant_ops
import pytest
import torch
from likeness.benchmarks.fuzz.host_nodes import patcher_of
from likeness.benchmarks.fuzz.host_nodes.transformers import KINDS, sizes_of
from likeness.patching.layout_and_retouch.settings import APPEND
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.dit_verbs import borrowed, brief, together
from likeness.tests.patching.host.gradients import error
from likeness.tests.patching.host.test_dit_gradients import inference_dit, ours
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import close, far
from likeness.tests.patching.test_packed_dits import guided_run

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
KIND = "float8_e4m3fn"
LAYOUT = comfy.quant_ops.QUANT_ALGOS[KIND]["comfy_tensor_layout"]


class _Rounded(torch.autograd.Function):
    """An input as 8-bit products see it, whose gradient passes by the rounding."""

    @staticmethod
    def forward(_context, x):
        flat = x.reshape(-1, x.shape[-1])
        return comfy.quant_ops.QuantizedTensor.from_float(flat, LAYOUT, scale=None).dequantize().view(x.shape)

    @staticmethod
    def backward(_context, *slopes):
        return slopes[0]


class RoundingOps(comfy.ops.manual_cast):
    """Operations in full on inputs that are rounded to 8 bits first."""

    class Linear(comfy.ops.manual_cast.Linear):
        def forward(self, input, *args, **kwargs):
            return super().forward(_Rounded.apply(input), *args, **kwargs)


def scaled_and_full(dit: str, native: bool):
    """A model with scaled 8-bit weights, and one that computes with the same weights in full.

    native: the products take 8-bit inputs, too, as on newer hardware.
    """
    network = inference_dit(dit).model.diffusion_model
    stored = {name: value.clone() for name, value in network.state_dict().items()}
    full = dict(stored)
    layers = [name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)]
    for name in layers:
        weight = full[f"{name}.weight"]
        scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
        stored[f"{name}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        stored[f"{name}.weight_scale"] = scale
        stored[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps({"format": KIND}).encode()), dtype=torch.uint8)
        full[f"{name}.weight"] = stored[f"{name}.weight"].float() * scale
    operations = comfy.ops.mixed_precision_ops({}, torch.float32, disabled=set() if native else {KIND})
    scaled = _filled(dit, operations, stored)
    kinds = [
        type(layer.weight.data) for layer in scaled.model.diffusion_model.modules() if hasattr(layer, "layout_type")
    ]
    assert kinds == [comfy.quant_ops.QuantizedTensor] * len(layers)
    return scaled, _filled(dit, RoundingOps if native else None, full)


def _filled(dit: str, operations: type | None, weights: dict):
    config = KINDS[dit][0](sizes_of(dit, tiny_dits.WIDTH_TEXT, tiny_dits.WIDTH_POOLED))
    config.custom_operations = operations
    config.set_inference_dtype(torch.float32, torch.float32)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    base.diffusion_model.load_state_dict(weights)
    return patcher_of(base)


@pytest.mark.parametrize(
    ("dit", "native"),
    [("krea2", False), ("krea2", True), ("flux", False), ("zimage", False)],
    indirect=["dit"],
    ids=["krea2", "krea2 with 8-bit products", "flux", "zimage"],
)
def test_borrowing_and_gradients_are_those_of_the_same_weights_in_full(dit, native):
    scaled, full = scaled_and_full(dit, native)
    plain = brief(full, dit)
    close(brief(scaled, dit), plain)
    assert far(plain, brief(inference_dit(dit), dit))
    for method in (borrowed(APPEND), together):
        found = method(scaled, dit)
        close(found, method(full, dit))
        assert far(found, method(scaled, dit, 0.0))
    found = guided_run(scaled, dit)
    close(found, guided_run(full, dit))
    assert far(found, guided_run(inference_dit(dit), dit))


@pytest.mark.parametrize("dit", ["flux"], indirect=True)
@pytest.mark.parametrize("native", [False, True], ids=["emulated", "8-bit products"])
def test_the_gradient_is_the_same_beside_the_hosts_training(dit, native, monkeypatch):
    """The host's training makes scaled layers take gradients by 8-bit products of their own."""
    scaled, full = scaled_and_full(dit, native)
    x = tiny_dits.latent(dit)["samples"]
    expected = ours(full, dit, x)
    assert expected.latents.norm() > 0
    for training in (False, True):
        monkeypatch.setattr(comfy.model_management, "in_training", training)
        monkeypatch.setattr(comfy.model_management, "training_fp8_bwd", training, raising=False)
        found = ours(scaled, dit, x)
        assert error(found.latents, expected.latents) < 1e-4 and not found.mutable
        torch.testing.assert_close(found.losses, expected.losses)
