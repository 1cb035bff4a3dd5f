"""Reference pictures, from which a run borrows features: each with a prompt, an optional subject mask and a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.utils
import torch
import torch.nn.functional as F

from ...kernels.heatmaps import inside
from ..host.checks import check_latent, single
from ..host.identity import Identity
from ..host.notices import Notices
from ..host.run import RunState
from .bank import FeatureBank
from .sources import Inverted, Noised, Source, invert, noised_source
from .trajectory import Trajectory

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

NODE = "LikenessReference"
INVERTED, NOISED = "inverted", "noised"
_MODELS = 2


@dataclass(frozen=True, eq=False)
class Reference:
    """One picture.

    latent: LATENT of one image, at its own resolution. conditioning: its neutral prompt. kind: INVERTED or NOISED.
    seed: of the noise of NOISED. mask: [height, width] in 0..1 over the whole picture, None for all of it. weight: of
    its tokens' attention, 1 is that of the target's own. bank: features that earlier runs read. inversions: those of
    earlier runs, by the name of the model's `Identity`, at most two. image, vae: [1, height, width, 3] and the VAE that
    encoded it, to encode it again at other sizes, which `sizes` caches; None where unknown. saved: read from a file.
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
    vae: VAE | None = None
    sizes: dict[tuple[int, int], Any] = field(default_factory=dict)
    saved: bool = False

    def source(
        self,
        model: ModelPatcher,
        sigmas: Sequence[float],
        node: str,
        identity: Identity,
        tap: Callable[[ModelPatcher], ModelPatcher] = lambda model: model,
    ) -> Source:
        """The picture at the noise levels of a run; an inversion costs one model call per level, the first time.

        identity: of the model. tap: makes the MODEL that the inversion calls, which may read features at every level
        but the highest.
        """
        if self.kind == NOISED:
            source = noised_source(model, self.latent, self.seed, node)
            return Noised(source.clean.float(), source.noise)
        name = identity.name
        known = self.inversions.get(name)
        if known is None or not known.visits(sigmas):
            # Features that belong to the old inversion would only fill the RAM.
            self.forget(name)
            known = self.inversions[name] = invert(tap(model), self.conditioning, self.latent, sigmas, node)
            for stale in list(self.inversions)[:-_MODELS]:
                self.forget(stale)
        return known

    @property
    def inverted(self) -> bool:
        """True where its latents come from an inversion by the model."""
        return self.kind == INVERTED

    def made_by(self, identity: str) -> bool:
        """True where a model of this identity made something that is kept; also where nothing is kept at all."""
        known = {*self.inversions, *(key.weights for key, _, _ in self.bank.items())}
        return not known or identity in known

    def forget(self, identity: str) -> None:
        """Drops what a model of this identity made."""
        self.bank.forget(identity)
        self.inversions.pop(identity, None)

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


def keep_for(kept: Sequence[Reference | Trajectory], identity: Identity, state: RunState, notices: Notices) -> None:
    """Keeps what a run makes of these pictures no longer than a later run could recognize its model.

    It tells the user what is computed again, also where a saved file holds the features of another model.
    """
    if not identity.lasts and kept:
        notices.inform(
            "features and inversions of pictures are computed in every run, since a later run cannot recognize what "
            f"changes model ({', '.join(identity.unknown)}); without that node they are computed once."
        )
        for picture in kept:
            state.at_end(partial(picture.forget, identity.name))
    strange = [p for p in kept if isinstance(p, Reference) and p.saved and not p.made_by(identity.name)]
    if strange and identity.lasts:
        notices.inform(
            "the saved features belong to another model, or to this one with other patches or of an older version of "
            "this pack, so this run computes its own."
        )


def tokens_inside(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Indices of the tokens of a layer of (height, width) that a mask [height, width] holds; all for an empty mask.

    mask: on the CPU. It can be empty where the VAE has cropped the subject.
    """
    held = inside(mask[None], size)[0]
    return (held if held.any() else ~held).nonzero()[:, 0]


def references(
    image: torch.Tensor,
    vae: VAE | None,
    conditioning: list,
    kind: str,
    seed: int,
    mask: torch.Tensor | None = None,
    weight: float = 1.0,
    node: str = NODE,
    most_pixels: int | None = None,
) -> References:
    """Encodes pictures as references.

    image: [n, height, width, 3]. mask: [height, width] or [1 or n, height, width]. most_pixels: larger pictures are
    scaled down to it. Raises ValueError without a VAE, for an empty mask or one of another size, and for a
    combined prompt.
    """
    if vae is None:
        raise ValueError(
            f"{node}: expected a VAE, got none, as from a checkpoint without one; connect a VAE loader to vae."
        )
    if mask is not None:
        mask = mask[None] if mask.ndim == 2 else mask
        _check_mask(mask, image, vae, node)
    single(conditioning, node)
    if most_pixels is not None:
        image, mask = _no_larger(image, mask, most_pixels)
    items = []
    for i in range(len(image)):
        latent = {"samples": vae.encode(image[i : i + 1, ..., :3])}
        check_latent(latent["samples"], node)
        area = _area_of(latent["samples"], image, vae)
        subject = None if mask is None else mask[min(i, len(mask) - 1)].float().cpu()
        if subject is not None and subject.shape == image.shape[1:3]:
            subject = subject[area]
        shown = image[i : i + 1, area[0], area[1], :3]
        items.append(Reference(latent, conditioning, kind, seed, mask=subject, weight=weight, image=shown, vae=vae))
    return References(tuple(items))


def _check_mask(mask: torch.Tensor, image: torch.Tensor, vae: VAE, node: str) -> None:
    # A mask that was made from the picture's latent lacks the rows that the VAE cropped.
    sizes = (tuple(image.shape[1:3]), _cropped(image, vae))
    if tuple(mask.shape[1:]) not in sizes or len(mask) not in (1, len(image)):
        raise ValueError(
            f"{node}: expected a mask of the picture's size, {image.shape[2]} x {image.shape[1]}, got {len(mask)} "
            f"of {mask.shape[2]} x {mask.shape[1]}; connect the mask that was made for this picture."
        )
    if bool((mask.amax((1, 2)) < 0.5).any()):
        raise ValueError(
            f"{node}: expected a mask with the subject in it, got an empty one; connect another mask or none."
        )


def _no_larger(
    image: torch.Tensor, mask: torch.Tensor | None, most_pixels: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The pictures and their masks, scaled down to at most `most_pixels`; smaller ones stay as they are."""
    height, width = image.shape[1:3]
    scale = (most_pixels / (height * width)) ** 0.5
    if scale >= 1:
        return image, mask
    height, width = (max(8, round(n * scale) // 8 * 8) for n in (height, width))
    small = comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "area", "disabled").movedim(1, -1)
    return small, None if mask is None else F.interpolate(mask[:, None].float(), (height, width), mode="area")[:, 0]


def _area_of(samples: torch.Tensor, image: torch.Tensor, vae: VAE) -> tuple[slice, slice]:
    """Rows and columns of a picture in its latent; the VAE crops both sides equally to whole latent pixels."""
    ratio = pixels_per_latent(vae)
    height, width = (n * ratio for n in samples.shape[2:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def _cropped(image: torch.Tensor, vae: VAE) -> tuple[int, int]:
    """Height and width of a picture after the VAE's crop."""
    ratio = pixels_per_latent(vae)
    return image.shape[1] // ratio * ratio, image.shape[2] // ratio * ratio


def pixels_per_latent(vae: Any) -> int:
    """The side of a latent pixel in pixels of the picture."""
    return vae.spacial_compression_encode() if hasattr(vae, "spacial_compression_encode") else 8
