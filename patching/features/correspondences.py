"""Maps of where one point of a finished picture looks in the pictures of its run, by the run's own attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import mean_heatmap, min_max
from ..host.attach import patches_of
from ..host.blocks import Block, check_names, parse
from ..host.checks import check_vae, image_latent
from ..host.families import discover
from ..host.passes import Denoise, noise_levels, run_guider
from ..host.previews import pictures_of
from ..host.window import Window
from .host_memory import sent
from .looking import Looks, Point, View, Viewed
from .sheets import Group, Sheet, fitted, sheet_of
from .sources import noised_source
from .word_maps import group_of, size_of

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider
    from comfy.sd import VAE

NODE = "Where a Point Looks"


@dataclass(frozen=True)
class Correspondences:
    """Maps by group of blocks.

    heatmaps: [groups * pictures, height, width] in 0..1, all pictures of the first group first. sheet: the pictures in
    one row, and a row below it per group. shares: a line per group, with the part of the attention on each picture.
    """

    heatmaps: torch.Tensor
    sheet: Sheet
    shares: tuple[str, ...]


def correspondences(
    guider: CFGGuider,
    latent: dict,
    *,
    point: Point,
    blocks: str,
    group_by: str,
    window: Window,
    levels: int,
    seed: int,
    vae: VAE | None = None,
    node: str = NODE,
) -> Correspondences:
    """The maps of a point in the finished pictures of a LATENT, which `guider` has made.

    group_by: one of `word_maps.GROUPINGS`. levels: number of noise levels, evenly spread over the window; at each one
    the pictures are noised and the model is called once. vae: decodes the pictures, which are approximated without it.
    Raises ValueError for a guider whose pictures do not look at others, for unknown blocks and for a picture that there
    is not.
    """
    check_names(blocks, node, needed=True)
    model, viewed = guider.model_patcher, _viewed(guider, node)
    available, acting = discover(model, node), set(viewed.looking_layers)
    named = parse(blocks, available, node)
    chosen = [block for block in named if acting.intersection(block.layers)]
    if acting and not chosen:
        places = ", ".join(block.name for block in available if acting.intersection(block.layers))
        raise ValueError(
            f"{node}: expected blocks in which the pictures look at each other ({places}), got "
            f"{', '.join(block.name for block in named)}; change blocks."
        )
    samples = image_latent(model, latent, node)
    check_vae(model, vae, node)
    sampling = model.get_model_object("model_sampling")
    looks = Looks(point, frozenset(layer for block in chosen for layer in block.layers if layer in acting))
    view = viewed.view(guider, samples, looks, node)
    sigmas = noise_levels(window, levels, sampling, node)
    acts = view.window.resolve(sampling)
    if not all(acts.contains(sigma) for sigma in sigmas):
        raise ValueError(
            f"{node}: expected start_percent and end_percent inside those of {view.node}, "
            f"{view.window.start_percent:g} to {view.window.end_percent:g}, got {window.start_percent:g} to "
            f"{window.end_percent:g}; change them."
        )
    source = noised_source(model, {"samples": view.samples}, seed, node)

    def observe(denoise: Denoise, clean: torch.Tensor) -> None:
        for sigma in sigmas:
            denoise(sent(source.at(sigma), clean), sigma)

    run_guider(view.guider, view.samples, sigmas, observe)
    if not looks.maps:
        raise ValueError(
            f"{node}: expected the model to reach {', '.join(block.name for block in chosen)} with the guider's "
            "prompt, got no such call; remove the node that answers in the model's place or limits the prompt to a "
            "part of sampling."
        )
    pictures = [pictures_of(model, {"samples": shown.samples}, vae) for shown in view.pictures]
    return _shown(view, looks, chosen, group_by, pictures)


def _viewed(guider: CFGGuider, node: str) -> Viewed:
    """The guider itself, or the patch of its MODEL."""
    if isinstance(guider, Viewed):
        return guider
    found = [patch for patch in patches_of(guider.model_patcher) if isinstance(patch, Viewed)]
    if len(found) != 1:
        got = "none of either" if not found else f"{len(found)} such nodes"
        raise ValueError(
            f"{node}: expected a Joint Guider, or a guider whose model one Reference Retouch has patched, got {got}; "
            "connect such a guider."
        )
    return found[0]


def _shown(
    view: View, looks: Looks, chosen: Sequence[Block], group_by: str, pictures: Sequence[torch.Tensor]
) -> Correspondences:
    _, height, width, _ = pictures[0].shape
    calls: dict[str, list[tuple[torch.Tensor, ...]]] = {}
    for block in chosen:
        for layer in block.layers:
            for maps in looks.maps.get(layer, ()):
                calls.setdefault(group_of(group_by, block, size_of(maps[view.own][None])), []).append(maps)
    groups: list[Group] = []
    for name, found in calls.items():
        each = list(zip(*found, strict=True))
        shares = tuple(float(torch.stack([one.sum() for one in maps]).mean()) for maps in each)
        heats = [_heat(maps, size_of(picture[..., 0])) for maps, picture in zip(each, pictures, strict=True)]
        groups.append(Group(name, torch.cat([fitted(heat, (height, width)) for heat in heats]), shares))
    names = [shown.name for shown in view.pictures]
    sheet = sheet_of(
        torch.cat([fitted(picture.movedim(-1, 1), (height, width)).movedim(1, -1) for picture in pictures]),
        names,
        groups,
        point=(view.own, looks.point.x, looks.point.y),
        numbers=[shown.number for shown in view.pictures],
    )
    lines = tuple(f"{group.name}: {_shares(names, group.shares)}" for group in groups)
    return Correspondences(torch.cat([group.heats for group in groups]), sheet, lines)


def _heat(maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """One picture's maps of a group's layers as a heatmap, [1, *size] in 0..1, in which each layer counts alike."""
    dense = [(one * one.numel())[None] for one in maps]
    largest = max((size_of(one) for one in dense), key=math.prod)
    mean = mean_heatmap(dense, largest)[:, None]
    return min_max(F.interpolate(mean, size, mode="bilinear", align_corners=False)[:, 0].cpu())


def _shares(names: Sequence[str], shares: Sequence[float]) -> str:
    parts = [f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True)]
    rest = 1 - sum(shares)
    return ", ".join([*parts, f"prompt {rest:.0%}"] if rest > 0.005 else parts)
