"""Pictures of what a node's file holds or a node's network is given, for nodes that show no picture themselves."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from ..kernels.heatmaps import colors, inside, mean_heatmap, min_max, overlay, principal_colors
from ..patching.features import reference_file, trajectory_file
from ..patching.features.bank import FeatureBank
from ..patching.jedi.format import METADATA_KEY
from ..patching.layout_and_retouch import segment
from ..patching.pick_and_draw import palette_file, template_file
from ..patching.tinyland.model import WEIGHTS, Parts
from ..patching.tinyland.weights import KEY, read_weights

Part = tuple[torch.Tensor, str]
"""Pixels [height, width, 3] in 0..1, and a label."""
SHARP = ("output3", "output4")
"""Blocks of the demo's network whose attention to a word shows its place best."""
POINT, BOX = (255, 255, 255), (255, 235, 0)


def stored(kind: str, output: Path, name: str, part: str) -> tuple[Image.Image, str]:
    """A part of the file that a node of this class wrote below ComfyUI's output folder, and its label.

    part: a word, then for what is stored by noise level a place among the levels, from 0 for the highest to 1.
    """
    folder_paths.set_output_directory(str(output))
    word, _, place = part.partition(" ")
    pixels, label = _READERS[kind](name, word, float(place or 0))
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()), label


def prompted(photo: Image.Image, heat: Image.Image, inputs: dict[str, Any]) -> Image.Image:
    """The photograph with the box and the points that `Segment the Subject` gives to its network."""
    pixels, warmth = (torch.from_numpy(np.array(one)).float() / 255 for one in (photo, heat.convert("L")))
    texts = {name: inputs[name] for name in ("inside", "outside", "box")}
    (found,) = segment.prompts(pixels[None], warmth[None], threshold=inputs["threshold"], **texts)
    scale = 3
    drawn = photo.resize((photo.width * scale, photo.height * scale), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(drawn)
    if found.box is not None:
        pen.rectangle([float(edge) * scale for edge in found.box], outline=BOX, width=4 * scale)
    for x, y in found.points:
        pen.circle((float(x + 0.5) * scale, float(y + 0.5) * scale), 5 * scale, POINT, "black", 2 * scale)
    return drawn


def write_joint_model(path: Path) -> None:
    """Writes the demo's joint model as a joint checkpoint in fp16."""
    node = "Demo Joint Model"
    base = Parts.read(WEIGHTS, node).denoiser
    tensors, facts = read_weights(WEIGHTS / "joint.safetensors", METADATA_KEY, node, base)
    save_file(tensors, path, metadata={name: fact for name, fact in facts.items() if name != KEY})


def _palette(name: str, word: str, place: float) -> Part:
    item = palette_file.load(name).references.items[0]
    if word == "picture":
        return _decoded(item.latent["samples"])[0], ""
    assert item.mask is not None
    if word == "mask":
        return overlay(_decoded(item.latent["samples"]), item.mask[None])[0], ""
    return _features(item.bank, place, item.mask)


def _reference(name: str, word: str, place: float) -> Part:
    (item,) = reference_file.load(name).items
    if word == "picture":
        return _decoded(item.latent["samples"])[0], ""
    sigma = _level(item.bank, place)
    if word == "features":
        return _features(item.bank, place)
    ((_, inverted),) = item.inversions.items()
    return _decoded(inverted.at(sigma))[0], _said(sigma)


def _template(name: str, _word: str, place: float) -> Part:
    stored = template_file.load(name).maps.items()
    maps = {layer: levels for layer, levels in stored if f"{layer.kind}{layer.number}" in SHARP}
    sigma = _chosen({sigma for levels in maps.values() for sigma in levels}, place)
    found = [levels[sigma] for levels in maps.values() if sigma in levels]
    height, width = max((one.shape[1:] for one in found), key=math.prod)
    heat = min_max(mean_heatmap(found, (height, width)))[:1]
    size = [8 * side for side in heat.shape[1:]]
    return colors(F.interpolate(heat[None], size, mode="bilinear")[0, 0]), _said(sigma)


def _trajectory(name: str, word: str, place: float) -> Part:
    made = trajectory_file.load(name)
    if word == "features":
        return _features(made.bank, place)
    call = round(place * (len(made) - 1))
    return _decoded(made.latents[call])[0], _said(made.sigmas[call])


_READERS: dict[str, Callable[[str, str, float], Part]] = {
    "LikenessSavePalette": _palette,
    "LikenessSaveReference": _reference,
    "LikenessSaveTemplate": _template,
    "LikenessSaveTrajectory": _trajectory,
}


def _features(bank: FeatureBank, place: float, mask: torch.Tensor | None = None) -> Part:
    """The largest layer's features of the first picture as colors, alike at all levels; gray outside a mask."""
    sigma = _level(bank, place)
    layer = max(((values.shape[1], key.layer) for key, _, values in bank.items() if key.conditional))[1]
    levels = {s: values[0].float() for key, s, values in bank.items() if key.conditional and key.layer == layer}
    shades = principal_colors(torch.cat(list(levels.values()))).split([len(values) for values in levels.values()])
    found = dict(zip(levels, shades, strict=True))[sigma]
    places = _places(len(found), mask)
    grid = torch.full((places.numel(), 3), 0.3)
    grid[places.flatten()] = found
    side = [8 * round(math.sqrt(places.numel()))] * 2
    return F.interpolate(grid.unflatten(0, places.shape).movedim(-1, 0)[None], side)[0].movedim(0, -1), _said(sigma)


def _places(count: int, mask: torch.Tensor | None) -> torch.Tensor:
    """[side, side] of the tokens whose features are kept; the demo's pictures are squares."""
    if mask is None:
        side = math.isqrt(count)
        return torch.ones(side, side, dtype=torch.bool)
    grids = (inside(mask[None], (side, side))[0].unflatten(0, (side, side)) for side in (16, 8, 4))
    return next(grid for grid in grids if int(grid.sum()) == count)


def _level(bank: FeatureBank, place: float) -> float:
    return _chosen(bank.levels, place)


def _chosen(levels: set[float], place: float) -> float:
    ordered: Sequence[float] = sorted(levels, reverse=True)
    return ordered[round(place * (len(ordered) - 1))]


def _said(sigma: float) -> str:
    return f"{sigma:.2g}"


def _decoded(latents: torch.Tensor) -> torch.Tensor:
    return _vae().decode(latents)


@functools.cache
def _vae():
    return Parts.read(WEIGHTS, "Demo Model").vae()
