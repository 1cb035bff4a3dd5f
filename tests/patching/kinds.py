"""Tiny models of the kinds of checkpoint that users have beside the plain ones, quantized ones among them."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from likeness.tests.patching import tiny_models
from likeness.tests.patching.tiny_models import WIDTH_POOLED, tiny_model

SEED = 61


class _Refiner(comfy.supported_models.SDXLRefiner):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16}


def sampled(family: str, kind: str, zsnr: bool = False) -> ModelPatcher:
    """A model with the host's node Model Sampling Discrete behind it."""
    return ModelSamplingDiscrete().patch(tiny_model(family, seed=SEED), kind, zsnr)[0]


def refiner() -> ModelPatcher:
    tiny_models._CONFIGS["refiner"] = tiny_models._CONFIGS["sdxl"] | {"adm_in_channels": 5 * 256 + WIDTH_POOLED}
    tiny_models._CLASSES["refiner"] = _Refiner
    return tiny_model("refiner", seed=SEED)


def stored_in(dtype: torch.dtype, weights: dict[str, torch.Tensor] | None = None) -> ModelPatcher:
    """A model whose weights are stored in a type and cast to float32 for each call, as fp8 checkpoints are."""
    return _filled(dtype, None, weights)


def quantized() -> ModelPatcher:
    """A model whose layers hold packed integers and unpack them in each call, as GGUF loaders make them."""
    patcher = _filled(torch.float32, PackedOps, None)
    for layer in patcher.model.modules():
        if isinstance(layer, PackedLayer):
            layer.pack()
    return patcher


def in_full(model: ModelPatcher) -> ModelPatcher:
    """A model of plain float32 layers with the weights that another one computes with."""
    weights = {name: tensor.float() for name, tensor in model.model.diffusion_model.state_dict().items()}
    for name, layer in model.model.diffusion_model.named_modules():
        if isinstance(layer, PackedLayer):
            weights[f"{name}.weight"] = layer.unpacked(torch.zeros(1))
    return stored_in(torch.float32, weights)


def _filled(dtype: torch.dtype, operations: type | None, weights: dict[str, torch.Tensor] | None) -> ModelPatcher:
    config = tiny_models._SD1(tiny_models._CONFIGS["sd1"])
    config.custom_operations = operations
    config.set_inference_dtype(dtype, torch.float32)
    unloaded = comfy.model_management.unet_offload_device()
    base = config.get_model({}, "", device=unloaded)
    plain = tiny_model("sd1", seed=SEED).model.diffusion_model.state_dict()
    base.diffusion_model.load_state_dict(plain if weights is None else weights)
    return comfy.model_patcher.CoreModelPatcher(base, comfy.model_management.get_torch_device(), unloaded)


class Packed(torch.Tensor):
    """Weights as 8-bit integers with one scale, under the shape that they have when unpacked."""

    unpacked: torch.Size
    step: float

    @property
    def shape(self) -> torch.Size:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self, "unpacked", self.size())

    def clone(self, *args, **kwargs):
        """The tensor itself, as that of GGUF loaders."""
        return self

    def detach(self):
        return self

    def to(self, *args, **kwargs):
        moved = super().to(*args, **kwargs)
        moved.unpacked, moved.step = self.shape, self.step
        return moved


class PackedLayer(torch.nn.Module):
    """Part of a host layer that unpacks its weight in each call."""

    def pack(self) -> None:
        weight = self.weight.data
        step = float(weight.abs().max()) / 127
        packed = (weight / step).round().to(torch.int8).flatten().as_subclass(Packed)
        packed.unpacked, packed.step = weight.shape, step
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        self.weight.unpacked, self.weight.step = weight.shape, step

    def unpacked(self, like: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(like.device)
        return torch.Tensor(weight.as_subclass(torch.Tensor).float() * weight.step).view(weight.shape).to(like.dtype)


class PackedOps(comfy.ops.manual_cast):
    """Operations of a loader of packed weights."""

    class Linear(PackedLayer, comfy.ops.manual_cast.Linear):
        def forward(self, input, *args, **kwargs):
            bias = None if self.bias is None else self.bias.to(input)
            return torch.nn.functional.linear(input, self.unpacked(input), bias)

    class Conv2d(PackedLayer, comfy.ops.manual_cast.Conv2d):
        def forward(self, input, *args, **kwargs):
            return self._conv_forward(input, self.unpacked(input), None if self.bias is None else self.bias.to(input))


KINDS = {
    "zero-SNR v-prediction": lambda: sampled("sd2", "v_prediction", zsnr=True),
    "lcm": lambda: sampled("sd1", "lcm"),
    "turbo": lambda: tiny_model("sdxl", seed=SEED),
    "inpainting": lambda: tiny_model("sd1", seed=SEED, channels=9),
    "refiner": refiner,
    "fp8": lambda: stored_in(torch.float8_e4m3fn),
    "gguf": quantized,
}
