"""Layout templates (Pick-and-Draw, arXiv 2401.16762, eq. 10): a word's attention in a vanilla run, or a drawn place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ...kernels.pick_and_draw import scaled_to
from ..host.blocks import Layer
from .parts import Part

NODE = "Layout Template"
_NEAR = 1.5
"""Largest ratio of a noise level to the nearest recorded one, beyond the first and the last of them."""
_SHAPES_DIFFER = 0.1
"""Largest difference of the logarithms of two aspect ratios that count as equal."""


@dataclass(frozen=True, eq=False)
class Template:
    """The maps of a word, or a mask in their place.

    family: of the model that ran. maps: per layer and noise level, [images, height, width] float32 on the CPU, the mean
    over the word's tokens. mask: [images, height, width] in 0..1, drawn by hand, the same at every level.
    """

    family: str
    maps: dict[Layer, dict[float, torch.Tensor]] = field(default_factory=dict)
    mask: torch.Tensor | None = None

    @property
    def images(self) -> int:
        """The number of images it has a layout for."""
        return len(self.mask) if self.mask is not None else len(next(iter(next(iter(self.maps.values())).values())))

    @property
    def layers(self) -> frozenset[Layer] | None:
        """The layers it has maps of; None stands for all layers."""
        return None if self.mask is not None else frozenset(self.maps)

    def check(self, noise: torch.Tensor, node: str) -> None:
        """Raises ValueError where it cannot guide a latent [images, channels, height, width]."""
        if self.images not in (1, len(noise)):
            wanted = "one image" if len(noise) == 1 else f"one image or of {len(noise)}"
            raise ValueError(
                f"{node}: expected a template of {wanted}, as the sampler's latent has, got one of {self.images}; "
                "connect the sampler's latent to Layout Template too."
            )
        if self.maps:
            height, width = max(
                (next(iter(levels.values())).shape[-2:] for levels in self.maps.values()), key=math.prod
            )
            if abs(math.log(width / height * noise.shape[-2] / noise.shape[-1])) > _SHAPES_DIFFER:
                raise ValueError(
                    f"{node}: expected a template of the latent's shape, {noise.shape[-1]} x {noise.shape[-2]}, got "
                    f"one of {width} x {height}; give Layout Template and the sampler one latent."
                )

    def at(self, layer: Layer, sigma: float) -> torch.Tensor:
        """The layer's map at the recorded noise level nearest to sigma, [images, height, width]; or the drawn mask."""
        if self.mask is not None:
            return self.mask
        levels = self.maps[layer]
        return levels[min(levels, key=lambda s: abs(math.log(s / sigma)))]

    def uncovered(self, levels: Sequence[float]) -> list[float]:
        """The noise levels far outside of the recorded ones, whose maps then stand in for theirs."""
        recorded = [sigma for known in self.maps.values() for sigma in known]
        if not recorded:
            return []
        return [s for s in levels if not min(recorded) / _NEAR <= s <= max(recorded) * _NEAR]

    def fitted(self, wanted: torch.Tensor, found: torch.Tensor, part: Part) -> torch.Tensor:
        """The part of a result of `at` in the size of a generated map, [images, h, w].

        A drawn mask also gets that map's sum.
        """
        wanted = part.crop(wanted)
        if self.mask is not None:
            return scaled_to(wanted, found)
        size = (found.shape[1], found.shape[2])
        if wanted.shape[1:] == size:
            return wanted
        return F.interpolate(wanted[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    def __str__(self) -> str:
        if self.mask is not None:
            return f"drawn layout of {self.mask.shape[2]} x {self.mask.shape[1]}, {self.images} image(s)"
        size = sum(m.numel() * m.element_size() for levels in self.maps.values() for m in levels.values())
        levels = len(next(iter(self.maps.values())))
        return (
            f"{levels} noise levels of {len(self.maps)} layers, {self.images} image(s), {size / 2**20:.2f} MiB of RAM"
        )
