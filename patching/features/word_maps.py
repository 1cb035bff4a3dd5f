"""Cross-attention maps of a word of the prompt, read while the model denoises the noised picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import mean_heatmap, min_max, overlay
from ..host.attach import attach
from ..host.blocks import Block, Layer, check_names, parse
from ..host.checks import check_vae, given_clip, image_latent
from ..host.families import discover, family_of
from ..host.live import Live
from ..host.notices import Notices
from ..host.passes import Denoise, noise_levels, run_pass, unwrapped
from ..host.previews import captioned, pictures_of
from ..host.run import Call
from ..host.shown import Shown
from ..host.window import Window
from ..host.words import find_word
from .host_memory import sent
from .sources import noised_source
from .taps import CrossAttentionTap

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

NODE = "Attention Maps of a Word"
_PARTS = {"input": "encoder", "middle": "middle", "output": "decoder"}
_GROUPS: dict[str, Callable[[Block, tuple[int, int]], str]] = {
    "together": lambda block, size: "all blocks",
    "part": lambda block, size: _PARTS.get(block.kind, block.kind),
    "size": lambda block, size: f"{size[1]} x {size[0]}",
    "block": lambda block, size: block.name,
}
GROUPINGS = TOGETHER, PART, SIZE, BLOCK = tuple(_GROUPS)
MAP_WINDOW, MAP_LEVELS = Window(0.2, 0.8), 4
"""Noise levels that a map is averaged over, where no widget states them: this many, evenly in this part of sampling."""

_READING = "attention to the word"
"""The name of every step, and of the map, in the node's drawing."""


def group_of(group_by: str, block: Block, size: tuple[int, int]) -> str:
    """The name of the group that a block's maps of (height, width) belong to. group_by: one of GROUPINGS."""
    return _GROUPS[group_by](block, size)


@dataclass(frozen=True)
class WordMaps:
    """Maps by group of blocks.

    heatmaps: [groups * images, height, width] in 0..1, all images of the first group first. preview: [images, height,
    width, 3], the panels of all groups side by side.
    """

    groups: tuple[str, ...]
    heatmaps: torch.Tensor
    preview: torch.Tensor


@dataclass(frozen=True)
class _SummedMaps:
    """A sink that sums a word's maps over its tokens and over model calls, [images, height, width] per layer."""

    node: str
    sums: dict[Layer, torch.Tensor] = field(default_factory=dict)

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        maps, known = self._of_run(call.shown, values.sum(-1).unflatten(1, size)), self.sums.get(layer)
        if known is not None and known.shape != maps.shape:  # another pack changes sizes between noise levels
            larger = max(size_of(known), size_of(maps), key=math.prod)
            known, maps = (
                F.interpolate(m[:, None], larger, mode="bilinear", align_corners=False)[:, 0] for m in (known, maps)
            )
        self.sums[layer] = maps if known is None else known + maps

    def _of_run(self, shown: Shown, maps: torch.Tensor) -> torch.Tensor:
        """Maps of a call's pictures among those of the run; the others' are 0.

        Raises ValueError for parts of pictures, and where it is not known which pictures a call has.
        """
        if shown.images is None or shown.seen != shown.size:
            raise ValueError(shown.refusal(self.node))
        if shown.whole:
            return maps
        whole = maps.new_zeros(shown.batch, *maps.shape[1:])
        for place, one in zip(shown.images, maps, strict=True):
            whole[place] += one
        return whole

    def heat(self) -> torch.Tensor:
        """The first image's map of all layers up to now, [1, height, width] in 0..1."""
        maps = [m[:1] for m in self.sums.values()]
        return min_max(mean_heatmap(maps, max(map(size_of, maps), key=math.prod)))


def word_maps(
    model: ModelPatcher,
    clip: CLIP | None,
    latent: dict,
    *,
    text: str,
    word: str,
    blocks: str,
    group_by: str,
    window: Window,
    levels: int,
    seed: int,
    vae: VAE | None = None,
    node: str = NODE,
    notices: Notices | None = None,
) -> WordMaps:
    """The maps of `word` in `text` over the pictures of a LATENT.

    group_by: one of GROUPINGS. levels: number of noise levels, evenly spread over the window, at which the picture is
    noised and denoised once. vae: decodes the pictures for the preview; without it they are approximated from the
    latent. notices: those of the node that shows the first picture's map while it grows. Raises ValueError without a
    CLIP, for a word outside the text, unknown blocks, and an empty LATENT.
    """
    clip = given_clip(clip, node)
    check_names(blocks, node, needed=True)
    family, chosen = family_of(model, node), parse(blocks, discover(model, node), node)
    samples = image_latent(model, latent, node)
    check_vae(model, vae, node)
    sigmas = noise_levels(window, levels, model.get_model_object("model_sampling"), node)
    where = find_word(clip, text, word, node)
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    sink = _SummedMaps(node)
    tap = CrossAttentionTap(
        node,
        family,
        chosen,
        sink,
        ends=(lambda: True) if unwrapped(model) else None,
        tokens=where.tokens,
        prompt_length=where.prompt_length,
        conditional=True,
    )
    source, live = noised_source(model, latent, seed, node), Live(notices or Notices(node))

    def observe(denoise: Denoise, clean: torch.Tensor) -> None:
        live.steps([_READING] * len(sigmas))
        for sigma in sigmas:
            denoise(sent(source.at(sigma), clean), sigma)
            if live.listening:
                live.map(_READING, sink.heat())
        live.finish()

    run_pass(attach(model, tap), conditioning, samples, sigmas, observe)
    pictures = pictures_of(model, latent, vae)
    groups = _grouped(chosen, sink, group_by, size_of(pictures[..., 0]))
    panels = [
        captioned(pictures, "picture"),
        *(captioned(overlay(pictures, heat), name) for name, heat in groups.items()),
    ]
    return WordMaps(tuple(groups), torch.cat(list(groups.values())), torch.cat(panels, 2))


def _grouped(
    blocks: tuple[Block, ...], sink: _SummedMaps, group_by: str, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """{group: [images, *size] in 0..1}, groups in call order of their first block."""
    members: dict[str, list[torch.Tensor]] = {}
    for block in blocks:
        for layer in block.layers:
            maps = sink.sums[layer]
            members.setdefault(group_of(group_by, block, size_of(maps)), []).append(maps)
    largest = max((size_of(m) for maps in members.values() for m in maps), key=math.prod)
    return {
        name: min_max(
            F.interpolate(mean_heatmap(maps, largest)[:, None], size, mode="bilinear", align_corners=False)[:, 0].cpu()
        )
        for name, maps in members.items()
    }


def size_of(maps: torch.Tensor) -> tuple[int, int]:
    """(height, width) of [images, height, width]."""
    _, height, width = maps.shape
    return height, width
