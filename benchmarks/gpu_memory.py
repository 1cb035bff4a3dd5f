"""Memory of every method at the sizes of SD 1.5 and SDXL, computed from the shapes of all tensors of a run.

No GPU is needed: the method's own code runs, with random numbers for the results of matrix products. See ShapesOnly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_management
import comfy.supported_models
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from ..patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from ..patching.features.references import References
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import NONE, RetouchSettings
from ..patching.pick_and_draw.build import guide
from . import checkpoints
from .jedi_costs import pictures
from .layout_and_retouch_runs import layout, mask, picture
from .memory import ShapesOnly
from .networks import FULL_SIZE_CONFIG, NARROW_CONFIG, NARROW_SDXL_CONFIG, SDXL_CONFIG, Network, random_network
from .pick_and_draw_runs import palette, settings, template
from .report import Report, Target
from .timing import plain, silence

GIB = 2**30
RESERVED = 400 * 2**20
"""Bytes that ComfyUI keeps free on Linux, EXTRA_RESERVED_VRAM of its memory management."""
DTYPE = torch.bfloat16
"""Half precision of a size with float16, which every layer computes on a CPU."""
STEPS = 50
"""Steps that the features in RAM are counted for."""
PLAIN, LAYOUT, GUIDANCE, SET, REFERENCES, DECODE = (
    "KSampler",
    "Two-Model Sampler",
    "Subject Guidance, both losses",
    "Joint Image Sampler, a set of 4",
    "Joint Image Sampler, a picture with 3 references",
    "VAE Decode",
)
RETOUCH = "Reference Retouch"
_KINDS = {
    checkpoints.SD15: ("SD 1.5, 512 pixels", FULL_SIZE_CONFIG, NARROW_CONFIG, 64, comfy.supported_models.SD15),
    checkpoints.SDXL: ("SDXL, 1024 pixels", SDXL_CONFIG, NARROW_SDXL_CONFIG, 128, comfy.supported_models.SDXL),
}
_SMALL_SIDE = 8
TARGETS = {
    "guided_extra_memory_ratio": Target("at most", 0.4),
    "sd15_most": Target("at most", 8.0),
    "sdxl_retouch": Target("at most", 12.0),
    "sdxl_guidance": Target("at most", 16.0),
    "sdxl_set_of_4": Target("at most", 24.0),
}
NOTES = (
    "Computed, not measured on a GPU: live tensors of one step in half precision, for one picture with classifier-free "
    "guidance or one set, the U-Net's weights, and the 0.39 GiB that ComfyUI keeps free on Linux (0.59 or more on "
    "Windows). Fragmentation, the driver's context and the workspaces of its libraries are not counted.",
    "The text encoder is not counted: ComfyUI takes it off the GPU when it needs the room. VAE Decode runs after "
    "sampling, without the U-Net where room is scarce, and in tiles where it does not fit.",
    "guided_extra_memory_ratio: extra peak of a guided step's tensors relative to a plain step's, for SD 1.5 with maps "
    "of all resolutions of the decoder but the finest; all_maps: with those of every layer, as in the rows.",
    f"RAM GiB: the checkpoint's file and the features that are kept in RAM in {STEPS} steps; Python and ComfyUI take "
    "2 to 3 GiB besides. A masked reference needs its subject's share of the features: here a quarter of the picture.",
)


@dataclass(frozen=True)
class Need:
    """Bytes that a method needs: of tensors during a step, and of features in RAM for each step."""

    method: str
    tensors: float
    features: float = 0.0


def run(quick: bool) -> Report:
    """Computes all methods at both sizes. quick: small networks."""
    rows, figures = [], {}
    for family, (name, config, narrow, side, kind) in _KINDS.items():
        with silence():
            unet, size = (narrow, _SMALL_SIDE) if quick else (config, side)
            made = random_network(name, "", unet, DTYPE, size, 1, kind, blank=True)
            weights, found = float(made.model.model_size()), needs(made)
        file = sum(t.numel() * t.dtype.itemsize for t in checkpoints.shapes(family).values())
        totals = {}
        for need in found:
            held = 0.0 if need.method == DECODE else weights
            totals[need.method] = (held + need.tensors + RESERVED) / GIB
            rows.append(
                {
                    "name": f"{name}: {need.method}",
                    "GPU GiB": [totals[need.method]],
                    "of it tensors": [need.tensors / GIB],
                    "RAM GiB": [(file + STEPS * need.features) / GIB],
                }
            )
        alone, most = (next(need.tensors for need in found if need.method == name) for name in (PLAIN, GUIDANCE))
        with silence():
            coarse = peak(made, guidance(made, all_maps=False))
        prefix = "" if family == checkpoints.SD15 else f"{family}_"
        figures |= {
            f"{prefix}guided_extra_memory_ratio": coarse / alone - 1,
            f"{prefix}guided_all_maps_extra_memory_ratio": most / alone - 1,
            f"{family}_most": max(totals.values()),
            f"{family}_retouch": totals[f"{RETOUCH}, {BANKED}"],
            f"{family}_guidance": totals[GUIDANCE],
            f"{family}_set_of_4": totals[SET],
        }
    return Report("gpu-memory", rows, figures, TARGETS, NOTES)


def needs(network: Network) -> list[Need]:
    """Needs of each method on a network that is made for one step."""
    personal = network.personalized
    runs: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plain(network, personal, network.personalized_positive),
        LAYOUT: lambda: layout(network, "paper", 0),
        GUIDANCE: guidance(network, all_maps=True),
        SET: lambda: pictures(network, 4),
        REFERENCES: lambda: pictures(network, 1, 3),
    }
    found = [Need(name, peak(network, run)) for name, run in runs.items()]
    found[2:2] = [_retouch(network, mode) for mode in (BANKED, BATCHED, SEQUENTIAL)]
    return [*found, Need(DECODE, decoding(network.side))]


def guidance(network: Network, all_maps: bool) -> Callable[[], object]:
    """A run guided by both losses, with a filled palette and the maps of all layers or of the coarse ones."""
    with ShapesOnly():
        known = replace(palette(network), references=short(picture(network)))
        widgets = settings(network, 1.0, 1.0, all_maps=all_maps)
        guided = guide(network.personalized, network.clip, known, template(network), widgets)[0]
        plain(network, guided, network.personalized_positive)  # fills the palette
    return lambda: plain(network, guided, network.personalized_positive)


def peak(network: Network, run: Callable[[], object]) -> float:
    """Peak bytes of tensors above the loaded personalized model."""
    comfy.model_management.load_models_gpu([network.personalized])
    with ShapesOnly() as memory:
        run()
    print(f"{network.name}: {memory.peak / GIB:.2f} GiB", flush=True)
    return float(memory.peak)


def _retouch(network: Network, mode: str) -> Need:
    """A retouch of the only step, and the features that the reference and the layout keep of it."""
    references = short(picture(network))
    with ShapesOnly():
        _, trajectory = layout(network, "paper" if mode == BANKED else "", 0)
        settings = RetouchSettings(early_swap=NONE, lambda_2=0, lambda_3=0, mode=mode)
        patched = retouch(network.personalized, references, trajectory, mask(network), settings)
        plain(network, patched, network.personalized_positive)  # fills the bank
    tensors = peak(network, lambda: plain(network, patched, network.personalized_positive))
    kept = trajectory.size_in_bytes + sum(reference.bank.size_in_bytes for reference in references.items)
    return Need(f"{RETOUCH}, {mode}", tensors, kept)


def short(references: References) -> References:
    """The same with inversions as short as the run, since a step takes as much memory in each."""
    return References(tuple(replace(item, inversion_steps=1) for item in references.items))


def decoding(side: int) -> float:
    """Bytes for the decoder of a VAE and its tensors."""
    autoencoder = AutoencoderKL(ddconfig=checkpoints.VAE, embed_dim=4).to(DTYPE)
    weights = sum(p.numel() * p.dtype.itemsize for p in autoencoder.decoder.parameters())
    with ShapesOnly() as memory:
        autoencoder.decode(torch.zeros(1, 4, side, side, dtype=DTYPE))
    return weights + float(memory.peak)
