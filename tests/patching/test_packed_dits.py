"""Transformers whose layers hold packed weights, as loaders of GGUF and NF4 files make them: values and gradients."""

from __future__ import annotations

import comfy.model_management
import comfy.ops
import pytest
import torch
from likeness.benchmarks.fuzz.host_nodes import patcher_of
from likeness.benchmarks.fuzz.host_nodes.transformers import KINDS, sizes_of
from likeness.patching.layout_and_retouch.settings import APPEND
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.dit_verbs import borrowed, together
from likeness.tests.patching.host.test_dit_gradients import stored_in
from likeness.tests.patching.kinds import PackedOps
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import close, far, reference, retouched, run
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, made, sampled, square

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
SCHEDULE = (0.9, 0.6, 0.3)


class FourBit(torch.nn.Module):
    """A layer of a loader of NF4 files, which is no `torch.nn.Linear`: codes of 4 bits, two in a byte."""

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None

    def pack(self) -> None:
        weight = self.weight.data
        self.size, self.step = weight.shape, float(weight.abs().max()) / 7
        codes = (weight / self.step + 8).round().to(torch.uint8)
        low, high = codes.flatten().view(-1, 2).unbind(1)
        self.weight = torch.nn.Parameter((low + 16 * high)[:, None], requires_grad=False)

    def unpacked(self, like: torch.Tensor) -> torch.Tensor:
        codes = torch.cat([self.weight % 16, self.weight // 16], 1).to(like.dtype)
        return ((codes - 8) * self.step).view(self.size)

    def forward(self, x):
        return _Product.apply(x, self)


class _Product(torch.autograd.Function):
    """The product with a packed weight, which the backward pass unpacks again."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        return torch.nn.functional.linear(x, layer.unpacked(x), layer.bias)

    @staticmethod
    def backward(ctx, *slopes):
        return slopes[0] @ ctx.layer.unpacked(slopes[0]), None


class FourBitOps(comfy.ops.manual_cast):
    """Operations of such a loader."""

    Linear = FourBit  # pyright: ignore[reportAssignmentType]


LOADERS = {"gguf": PackedOps, "nf4": FourBitOps}


def filled(dit: str, operations: type | None, weights: dict):
    kind, sizes = KINDS[dit][0], sizes_of(dit, tiny_dits.WIDTH_TEXT, tiny_dits.WIDTH_POOLED)
    config = kind(dict(sizes))
    config.custom_operations = operations
    config.set_inference_dtype(torch.float32, torch.float32)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    base.diffusion_model.load_state_dict(weights)
    return patcher_of(base)


def packed_and_full(dit: str, loader: str):
    """A model with packed weights, and an ordinary one that computes with the same ones."""
    weights = {
        name: value.clone() for name, value in tiny_dits.tiny_dit(dit).model.diffusion_model.state_dict().items()
    }
    packed = filled(dit, LOADERS[loader], weights)
    for name, layer in packed.model.diffusion_model.named_modules():
        if hasattr(layer, "pack"):
            layer.pack()
            weights[f"{name}.weight"] = layer.unpacked(torch.zeros(1))
    return packed, filled(dit, None, weights)


def guided_run(model, dit: str) -> torch.Tensor:
    palette = made(model, latent=tiny_dits.latent(dit, seed=20), mask=square(8, 16, 48)).palette
    patched, log = guided(model, palette, None, step_size=0.05)
    found = sampled(patched, noise=tiny_dits.latent(dit)["samples"], schedule=SCHEDULE)
    assert log.entries
    return found


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("dit", ["flux", "zimage", "qwen"], indirect=True)
def test_borrowing_and_gradients_are_those_of_the_same_weights_in_full(dit, loader):
    packed, full = packed_and_full(dit, loader)
    plain = run(full, dit)
    assert far(plain, run(tiny_dits.tiny_dit(dit), dit))
    close(run(packed, dit), plain)
    lent = [run(retouched(model, [reference(dit)], attention=APPEND), dit) for model in (packed, full)]
    close(lent[0], lent[1])
    assert far(lent[0], plain)
    sets = [together(model, dit) for model in (packed, full)]
    close(sets[0], sets[1])
    assert far(sets[0], together(full, dit, 0.0))
    close(guided_run(packed, dit), guided_run(full, dit))


@pytest.mark.parametrize("dit", ["flux", "zimage", "qwen"], indirect=True)
def test_borrowing_and_sets_with_weights_stored_in_fp8(dit):
    """They are those of the same weights in full."""
    stored = stored_in(dit, torch.float8_e4m3fn)
    weights = {name: weight.float() for name, weight in stored.model.diffusion_model.state_dict().items()}
    full = stored_in(dit, torch.float32, weights)
    for method in (borrowed(APPEND), together):
        found, expected = method(stored, dit), method(full, dit)
        close(found, expected)
        assert far(found, method(stored, dit, 0.0))
