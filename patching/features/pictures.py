"""Pictures of an IMAGE as references."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..host.checks import check_count, given_vae, single
from ..host.notices import Notices
from .fitting import latent_size, pixels_per_latent
from .kept import kept_with
from .references import INVERSION_STEPS, NODE, Reference, References

if TYPE_CHECKING:
    from comfy.sd import VAE


def references(
    image: torch.Tensor,
    vae: VAE | None,
    conditioning: list,
    kind: str,
    seed: int,
    mask: torch.Tensor | None = None,
    weight: float = 1.0,
    node: str = NODE,
    *,
    fits: bool = False,
    inversion_steps: int = INVERSION_STEPS,
    notices: Notices | None = None,
) -> References:
    """Encodes pictures as references.

    image: [n, height, width, 3]. mask: [height, width] or [1 or n, height, width]. fits: True to leave the encoding
    to the first use, at the size that suits the model. Raises ValueError without a VAE, for an empty mask or one of
    another size, and for a combined prompt.
    """
    vae = given_vae(vae, node)
    if mask is not None:
        mask = mask[None] if mask.ndim == 2 else mask
        _check_mask(mask, image, vae, node)
    single(conditioning, node)
    rows, columns = _area_of(image, vae)
    items = []
    for i in range(len(image)):
        subject = None if mask is None else mask[min(i, len(mask) - 1)].float().cpu()
        if subject is not None and subject.shape == image.shape[1:3]:
            subject = subject[rows, columns]
        item = Reference(
            None,
            conditioning,
            kind,
            seed,
            mask=subject,
            weight=weight,
            image=image[i : i + 1, rows, columns, :3],
            vae=vae,
            fits=fits,
            inversion_steps=inversion_steps,
            notices=notices or Notices(node),
        )
        items.append(item if fits else replace(item, given=item.latent))
    return kept_with(image, items, node)


def _check_mask(mask: torch.Tensor, image: torch.Tensor, vae: VAE, node: str) -> None:
    # A mask that was made from the picture's latent lacks the rows that the VAE cropped.
    sizes = (tuple(image.shape[1:3]), cropped_size(image, vae))
    if tuple(mask.shape[1:]) not in sizes:
        raise ValueError(
            f"{node}: expected a mask of the picture's size, {image.shape[2]} x {image.shape[1]}, got one of "
            f"{mask.shape[2]} x {mask.shape[1]}; connect the mask that was made for this picture."
        )
    check_count(len(mask), len(image), "mask", node)
    if bool((mask.amax((1, 2)) < 0.5).any()):
        raise ValueError(
            f"{node}: expected a mask with the subject in it, got an empty one; connect another mask or none."
        )


def _area_of(image: torch.Tensor, vae: VAE) -> tuple[slice, slice]:
    """Rows and columns of a picture in its latent; the VAE crops both sides equally to whole latent pixels."""
    height, width = cropped_size(image, vae)
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def cropped_size(image: torch.Tensor, vae: VAE) -> tuple[int, int]:
    """Height and width of a picture after the VAE's crop."""
    ratio, (height, width) = pixels_per_latent(vae), latent_size(image, vae)
    return ratio * height, ratio * width
