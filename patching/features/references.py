"""Pictures that a run borrows from: each a Source with a prompt of its own, an optional subject mask and a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.samplers
import comfy.utils
import torch
import torch.nn.functional as F

from ...kernels.pick_and_draw import inside
from ..host.checks import check_latent, single
from .bank import FeatureBank, weights_of
from .sources import Inverted, Noised, Source, invert, noised_source

NODE = "LikenessReference"
INVERTED, NOISED = "inverted", "noised"


@dataclass(frozen=True, eq=False)
class Reference:
    """One picture.

    latent: LATENT of one image, at its own resolution. conditioning: its neutral prompt. kind: INVERTED or NOISED.
    mask: [height, width] in 0..1 over the whole picture, None is all of it; weight: of its tokens' attention, 1 is as
    strong as the picture's own. bank, inversions: what earlier runs made of it, inversions by the weights that they
    were made with. image: [1, height, width, 3], what the latent was made of by `vae`, to make others of other sizes,
    which `sizes` keeps; None where it is not known.
    """

    latent: dict
    conditioning: list
    kind: str
    seed: int
    mask: torch.Tensor | None = None
    weight: float = 1.0
    bank: FeatureBank = field(default_factory=FeatureBank)
    inversions: dict[str, Inverted] = field(default_factory=dict)
    image: torch.Tensor | None = None
    vae: Any = None
    sizes: dict[tuple[int, int], Any] = field(default_factory=dict)

    def source(
        self, model, sigmas: Sequence[float], node: str, tap: Callable[[Any], Any] = lambda model: model
    ) -> Source:
        """The picture at the noise levels of a run; `inverted` costs one model call per level, the first time.

        tap: the MODEL for that, given MODEL, which may read features at every level but the highest on the way.
        """
        if self.kind == NOISED:
            source = noised_source(model, self.latent, self.seed, node)
            return Noised(source.clean.float(), source.noise)
        weights = weights_of(model)
        known = self.inversions.get(weights)
        if known is None or not known.visits(sigmas):
            # Features of other levels, and of another way to these, would only fill the RAM.
            self.bank.forget(weights)
            self.inversions.clear()
            known = self.inversions[weights] = invert(tap(model), self.conditioning, self.latent, sigmas, node)
        return known

    def tokens(self, size: tuple[int, int]) -> torch.Tensor | None:
        """Indices of the tokens inside the mask at a layer of (height, width); None for all."""
        return None if self.mask is None else tokens_inside(self.mask, size)


@dataclass(frozen=True, eq=False)
class References:
    """One or more pictures of one subject."""

    items: tuple[Reference, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{r.kind} reference of {8 * r.latent['samples'].shape[3]} x {8 * r.latent['samples'].shape[2]} pixels, "
            f"weight {r.weight:g}, {'masked' if r.mask is not None else 'whole'}; {r.bank.describe()}"
            for r in self.items
        )


def tokens_inside(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Indices of the tokens of a layer of (height, width) that a mask [height, width] holds."""
    return inside(mask[None], size)[0].nonzero()[:, 0]


def references(
    image: torch.Tensor,
    vae,
    conditioning: list,
    kind: str,
    seed: int,
    mask: torch.Tensor | None,
    weight: float,
    node: str = NODE,
    most_pixels: int | None = None,
) -> References:
    """Encodes [n, height, width, 3] pictures, scaled down to `most_pixels` where they have more; `mask` is [1 or n,
    height, width].

    Raises ValueError in one sentence.
    """
    if vae is None:
        raise ValueError(
            f"{node}: expected a VAE, got none, as from a checkpoint without one; connect a VAE loader to vae."
        )
    if mask is not None:
        if mask.ndim == 2:
            mask = mask[None]
        # A mask that was made from the picture's latent lacks what the VAE cropped.
        if tuple(mask.shape[1:]) not in (tuple(image.shape[1:3]), _cropped(image, vae)) or len(mask) not in (
            1,
            len(image),
        ):
            raise ValueError(
                f"{node}: expected a mask of the picture's size, {image.shape[2]} x {image.shape[1]}, got {len(mask)} "
                f"of {mask.shape[2]} x {mask.shape[1]}; connect the mask that was made for this picture."
            )
        if bool((mask.amax((1, 2)) < 0.5).any()):
            raise ValueError(
                f"{node}: expected a mask with the subject in it, got an empty one; connect another mask or none."
            )
    single(conditioning, node)
    if most_pixels is not None:
        image, mask = _no_larger(image, mask, most_pixels)
    items = []
    for i in range(len(image)):
        latent = {"samples": vae.encode(image[i : i + 1, ..., :3])}
        check_latent(latent["samples"], node)
        area = _area_of(latent["samples"], image, vae)
        inside = None if mask is None else mask[min(i, len(mask) - 1)].float().cpu()
        if inside is not None and inside.shape == image.shape[1:3]:
            inside = inside[area]
        shown = image[i : i + 1, area[0], area[1], :3]
        items.append(Reference(latent, conditioning, kind, seed, inside, weight, image=shown, vae=vae))
    return References(tuple(items))


def _no_larger(
    image: torch.Tensor, mask: torch.Tensor | None, most_pixels: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Pictures of at most so many pixels, and a mask of their size; those that have no more stay as they are."""
    height, width = image.shape[1:3]
    scale = (most_pixels / (height * width)) ** 0.5
    if scale >= 1:
        return image, mask
    height, width = (max(8, round(n * scale) // 8 * 8) for n in (height, width))
    small = comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "area", "disabled").movedim(1, -1)
    return small, None if mask is None else F.interpolate(mask[:, None].float(), (height, width), mode="area")[:, 0]


def _area_of(samples: torch.Tensor, image: torch.Tensor, vae) -> tuple[slice, slice]:
    """The part of a picture that is in its latent: the VAE crops what its blocks do not fill, in equal parts from both
    sides."""
    ratio = pixels_per_latent(vae)
    height, width = (n * ratio for n in samples.shape[2:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def _cropped(image: torch.Tensor, vae) -> tuple[int, int]:
    """Height and width of what a VAE encodes of a picture."""
    ratio = pixels_per_latent(vae)
    return image.shape[1] // ratio * ratio, image.shape[2] // ratio * ratio


def pixels_per_latent(vae) -> int:
    return vae.spacial_compression_encode() if hasattr(vae, "spacial_compression_encode") else 8


def model_arguments(model, conditioning: list, latents: torch.Tensor) -> dict:
    """What the host would hand to a model call for these latents: {"c_crossattn": [rows, tokens, width], "y": ...,
    ...}.

    model: the BaseModel; latents: [rows, channels, height, width].
    """
    entries = [
        {**rest, "cross_attn": text, "model_conds": dict(rest.get("model_conds", {}))} for text, rest in conditioning
    ]
    (entry,) = comfy.samplers.encode_model_conds(model.extra_conds, entries, latents, latents.device, "positive")
    rows = len(latents)
    conds = {
        k: c.process_cond(batch_size=rows, device=latents.device, area=None).cond
        for k, c in entry["model_conds"].items()
    }
    return {k: c.to(latents.device) if isinstance(c, torch.Tensor) else c for k, c in conds.items()}
