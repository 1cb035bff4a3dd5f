"""Layout templates (Pick-and-Draw, arXiv 2401.16762, eq. 10): where a word acts in a vanilla run, or where the user
wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import comfy.samplers
import torch
import torch.nn.functional as F

from ...kernels.heatmaps import mean_heatmap, min_max, overlay
from ..features.taps import CrossAttentionTap
from ..host.attach import attach
from ..host.blocks import Layer, parse
from ..host.families import discover, family_of
from ..host.passes import sample
from ..host.previews import captioned, pictures_of
from ..host.run import Call
from ..host.window import Window
from ..host.words import find_word

NODE = "LayoutTemplate"
_SHAPES_DIFFER = 0.1


@dataclass(frozen=True, eq=False)
class Template:
    """maps: per layer and noise level, [images, height, width] float32 on the CPU, the mean over the word's tokens; or
    mask: [images, height, width] in 0..1, drawn by hand, the same at every level. family: of the model that ran."""

    family: str
    maps: dict[Layer, dict[float, torch.Tensor]] = field(default_factory=dict)
    mask: torch.Tensor | None = None

    @property
    def images(self) -> int:
        return len(self.mask) if self.mask is not None else len(next(iter(next(iter(self.maps.values())).values())))

    @property
    def layers(self) -> frozenset[Layer] | None:
        """The layers that it has maps of; None is all of them."""
        return None if self.mask is not None else frozenset(self.maps)

    def check(self, noise: torch.Tensor, node: str) -> None:
        """Raises ValueError where it cannot guide a latent [images, channels, height, width]."""
        if self.images not in (1, len(noise)):
            raise ValueError(
                f"{node}: expected a template of 1 image or {len(noise)}, as the sampler's latent, got {self.images}; "
                "give LayoutTemplate and the sampler one latent."
            )
        if self.maps:
            height, width = max(
                (next(iter(levels.values())).shape[-2:] for levels in self.maps.values()), key=math.prod
            )
            if abs(math.log(width / height * noise.shape[-2] / noise.shape[-1])) > _SHAPES_DIFFER:
                raise ValueError(
                    f"{node}: expected a template of the latent's shape, {noise.shape[-1]} x {noise.shape[-2]}, got "
                    f"one of {width} x {height}; give LayoutTemplate and the sampler one latent."
                )

    def at(self, layer: Layer, sigma: float) -> torch.Tensor:
        """The map of a layer at the recorded noise level nearest to sigma, [images, height, width]; the mask for a
        drawn one."""
        if self.mask is not None:
            return self.mask
        levels = self.maps[layer]
        return levels[min(levels, key=lambda s: abs(math.log(s / sigma)))]

    def __str__(self) -> str:
        if self.mask is not None:
            return f"drawn layout of {self.mask.shape[2]} x {self.mask.shape[1]}, {self.images} image(s)"
        size = sum(m.numel() * m.element_size() for levels in self.maps.values() for m in levels.values())
        levels = len(next(iter(self.maps.values())))
        return (
            f"{levels} noise levels of {len(self.maps)} layers, {self.images} image(s), {size / 2**20:.2f} MiB of RAM"
        )


def scaled_to(wanted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """A drawn mask as a map that `found` can be compared with: at its size, and with as much attention in all, image by
    image.

    wanted: [images or 1, height, width] in 0..1; found: [images, h, w]. Returns [images, h, w].
    """
    small = F.interpolate(wanted[:, None].to(found), tuple(found.shape[1:]), mode="area")[:, 0]
    return small * (found.detach().sum((1, 2), keepdim=True) / small.sum((1, 2), keepdim=True).clamp(min=1e-6))


@dataclass(eq=False)
class _Recorder:
    """A sink for the maps of one sampling run of a model of `family`."""

    family: str
    maps: dict[Layer, dict[float, torch.Tensor]] = field(default_factory=dict)

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        self.maps.setdefault(layer, {})[call.sigma] = values.mean(-1).unflatten(1, size)

    def finish(self) -> Template:
        """Raises ValueError where nothing was recorded."""
        if not self.maps:
            raise ValueError(
                f"{NODE}: expected steps inside the window, got none; widen start_percent to end_percent or raise "
                "steps."
            )
        # The host samples in inference mode, whose tensors no later run could use with gradients.
        with torch.inference_mode(False), torch.no_grad():
            maps = {
                layer: {s: torch.empty(m.shape, dtype=torch.float32).copy_(m) for s, m in levels.items()}
                for layer, levels in self.maps.items()
            }
        return Template(self.family, maps)


@dataclass(frozen=True)
class Sampling:
    """The widgets of KSampler."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float


def recorder_of(model, clip, text: str, word: str, blocks: str, window: Window) -> tuple[_Recorder, CrossAttentionTap]:
    """What records a word's maps while a MODEL samples, and the patch that shows them to it. Raises ValueError in one
    sentence."""
    if clip is None:
        raise ValueError(
            f"{NODE}: expected a CLIP, got none, as from a checkpoint without text encoder; connect a CLIP loader to "
            "clip."
        )
    family, chosen = family_of(model, NODE), parse(blocks, discover(model, NODE), NODE)
    if not chosen or window.empty:
        raise ValueError(
            f"{NODE}: expected blocks and a window to record in, got {len(chosen)} blocks from "
            f"{window.start_percent:g} to {window.end_percent:g}; change blocks, start_percent or end_percent."
        )
    where = find_word(clip, text, word, NODE)
    recorder = _Recorder(family.name)
    tap = CrossAttentionTap(
        NODE, family, chosen, recorder, window, conditional=True, tokens=where.tokens, prompt_length=where.prompt_length
    )
    return recorder, tap


def record_template(
    model, clip, text: str, word: str, negative: list, latent: dict, sampling: Sampling, blocks: str, window: Window
) -> tuple[Template, dict]:
    """Samples with the vanilla model and keeps the word's maps inside the window. Raises ValueError in one sentence."""
    recorder, tap = recorder_of(model, clip, text, word, blocks, window)
    guider = comfy.samplers.CFGGuider(attach(model, tap))
    guider.set_conds(clip.encode_from_tokens_scheduled(clip.tokenize(text)), negative)
    guider.set_cfg(sampling.cfg)
    s = sampling
    samples = sample(guider, latent, s.seed, s.steps, s.sampler, s.scheduler, s.denoise, NODE)
    return recorder.finish(), samples


def draw_template(model, mask: torch.Tensor | None, boxes: str, latent: dict) -> Template:
    """A template from a MASK, or from boxes: four fractions of the picture per line, left, top, right, bottom."""
    if mask is not None and boxes.strip():
        raise ValueError(f"{NODE}: expected a mask or boxes, got both; disconnect mask or empty boxes.")
    if mask is None:
        height, width = (8 * n for n in latent["samples"].shape[-2:])
        mask = _boxes(boxes, height, width)[None]
    mask = (mask[None] if mask.ndim == 2 else mask).float().cpu().clamp(0, 1)
    if bool((mask.amax((1, 2)) <= 0).any()):
        raise ValueError(f"{NODE}: expected a mask with the subject in it, got an empty one; draw the subject's place.")
    return Template(family_of(model, NODE).name, mask=mask)


def _boxes(text: str, height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(height, width)
    for line in text.strip().splitlines():
        try:
            left, top, right, bottom = (float(n) for n in line.replace(",", " ").split())
        except ValueError:
            left = top = right = bottom = -1.0
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"{NODE}: expected four fractions per line of boxes, left top right bottom, each between 0 and 1, got "
                f"'{line}'; write 0.1 0.2 0.5 0.9, for example."
            )
        mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask


def preview(model, template: Template, latent: dict, vae) -> torch.Tensor:
    """[images, ...] RGB: the template image, if a run has made one, and the word's heat over it."""
    if template.mask is not None:
        grey = torch.full((*template.mask.shape, 3), 0.5)
        return captioned(overlay(grey, template.mask), "layout")
    pictures = pictures_of(model, latent, vae)
    size = (pictures.shape[1], pictures.shape[2])
    maps = [_mean(levels.values()) for levels in template.maps.values()]
    _, high, wide = max((m.shape for m in maps), key=math.prod)
    heat = min_max(
        F.interpolate(mean_heatmap(maps, (high, wide))[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    )
    return torch.cat([captioned(pictures, "template"), captioned(overlay(pictures, heat), "heat")], 2)


def _mean(maps) -> torch.Tensor:
    parts: Sequence[torch.Tensor] = list(maps)
    return torch.stack(list(parts)).mean(0)
