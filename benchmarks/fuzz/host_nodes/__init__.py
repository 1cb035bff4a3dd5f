"""Nodes for fuzzed graphs: tiny models of random weights, a random picture, and the facts about a latent.

The fuzzer copies this folder into the custom nodes of its own ComfyUI.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import CoreModelPatcher
from safetensors.torch import save_file

from .autoencoders import FORMATS, random_autoencoder
from .spares import hold
from .transformers import KINDS, random_transformer
from .unets import FAMILIES, WIDTH_SD1, configured, one_level_checkpoint, random_model

WIDTH_TEXT = 128
"""Width of the demo model's text encoder, which all tiny models of the nodes share."""
_WIDTH = 64
"""Channels of FuzzModel: two or more per group of normalization, as in real models. Torch refuses a single value."""
NAMES = (*FAMILIES, *(name for name, (kind, _) in KINDS.items() if kind is not None))
"""Families that this host has."""


def patcher_of(base: BaseModel) -> CoreModelPatcher:
    """The MODEL of a host's model."""
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return CoreModelPatcher(base, *devices)


class FuzzModel:
    """A model of a family's shape with random weights; the host takes nine channels for an inpainting model."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {
            "required": {
                "family": (list(NAMES),),
                "seed": ("INT", {"default": 0}),
                "channels": ("INT", {"default": 4}),
            }
        }

    def make(self, family: str, seed: int, channels: int):
        if family in KINDS:
            return (patcher_of(random_transformer(family, WIDTH_TEXT, WIDTH_TEXT, seed)),)
        kind = FAMILIES[family]
        config = configured(kind, WIDTH_TEXT, WIDTH_TEXT)
        narrow = [1] * len(config["channel_mult"])
        config |= {"in_channels": channels, "model_channels": _WIDTH, "channel_mult": narrow}
        return (patcher_of(random_model(kind, config, seed)),)


class FuzzVAE:
    """An autoencoder of random weights for the latents of the transformers."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"format": (list(FORMATS),)}}

    def make(self, format: str):
        return (random_autoencoder(format),)


class FuzzText:
    """Random features of a text, for the joint checkpoint of FuzzFiles, which has no text encoder."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"text": ("STRING", {"default": ""})}}

    def make(self, text: str):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        features = torch.randn(1, 8, WIDTH_SD1, generator=torch.Generator().manual_seed(seed))
        return ([[features, {"pooled_output": features[:, 0]}]],)


class FuzzFiles:
    """Writes the files of random weights that Segment Subject and Load Joint Checkpoint need, where there are none."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "write", "fuzz", True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {}}

    def write(self):
        import nodes  # the host's, which is not to be had without a server

        package = nodes.NODE_CLASS_MAPPINGS["LikenessSegment"].__module__.rpartition(".nodes.")[0]
        segmenter = importlib.import_module(f"{package}.patching.layout_and_retouch.segmenter")
        joint = importlib.import_module(f"{package}.patching.jedi.format")
        order = importlib.import_module(f"{package}.kernels.jedi").MASK_FIRST
        sizes = segmenter.Sizes(width=32, depth=2, heads=2, global_blocks=(1,), tokens=16, patch=16)
        torch.manual_seed(0)
        state = {name: value.half() for name, value in segmenter.build(sizes).state_dict().items()}
        folder = Path(folder_paths.models_dir)
        for kind in ("sams", "checkpoints"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        segments, checkpoint = folder / "sams" / "sam_vit_b_01ec64.pth", folder / "checkpoints" / "joint.safetensors"
        if not segments.exists():
            torch.save(state, segments)
        if not checkpoint.exists():
            save_file(one_level_checkpoint(), checkpoint, metadata=joint.JointFormat(order).metadata())
        return {"ui": {"text": ["written"]}}


class FuzzAgain:
    """The same latent, under a number that keeps the host from answering from its cache."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "passed", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"latent": ("LATENT",), "number": ("INT", {"default": 0})}}

    def passed(self, latent: dict, number: int):
        return (latent,)


class FuzzImage:
    """Pictures of random blobs."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "fuzz"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {name: ("INT", {"default": 64}) for name in ("width", "height", "count", "seed")}}

    def make(self, width: int, height: int, count: int, seed: int):
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        return (pixels.movedim(1, -1).contiguous(),)


class FuzzResult:
    """Shows the hash and the statistics of a latent, or of pictures, as text."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "show", "fuzz", True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"latent": ("LATENT,IMAGE",)}}

    def show(self, latent: dict | torch.Tensor):
        samples = (latent["samples"] if isinstance(latent, dict) else latent).float().cpu().contiguous()
        facts = {
            "hash": hashlib.sha256(samples.numpy().tobytes()).hexdigest(),
            "finite": bool(samples.isfinite().all()),
            "deviations": [round(float(picture.std()), 6) for picture in samples],
            "shape": list(samples.shape),
        }
        return {"ui": {"text": [json.dumps(facts)]}}


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind for kind in (FuzzModel, FuzzVAE, FuzzText, FuzzFiles, FuzzAgain, FuzzImage, FuzzResult)
}

_SERVING = Path(folder_paths.base_path) / "serving.pid"
"""The fuzzer makes it where it wants fresh processes."""
if _SERVING.exists():
    hold(_SERVING)  # the host has imported its own nodes, and starts nothing before those of others
# Each collection of what the host has imported would take longer than a tiny model's run.
gc.collect()
gc.freeze()
