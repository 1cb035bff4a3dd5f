"""Pick-and-Draw (arXiv 2401.16762) but for its distance, which is in `uremd`: saliency masks, the layout loss, the
guided latent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .heatmaps import mean_heatmap, min_max

RELATIVE, RAW = "relative", "raw"
_ROUNDED = 1e-6
"""Below this a Frobenius norm is as its square, whose gradient is finite."""


def saliency_mask(maps: Sequence[torch.Tensor], size: tuple[int, int], threshold: float) -> torch.Tensor:
    """M = 1[minmax(mean_l up(A_l)) > threshold] (Pick-and-Draw, arXiv 2401.16762, eq. 4), without a graph.

    maps: [images, height, width] of the subject's words per layer, of any sizes; size: (height, width). Returns bool
    [images, *size].
    """
    return min_max(mean_heatmap([m.detach() for m in maps], size)) > threshold


def gaussian_smoothed(maps: torch.Tensor, size: int = 3, width: float = 0.5) -> torch.Tensor:
    """K * A of the layout loss (Pick-and-Draw, arXiv 2401.16762, eq. 10), edges reflected.

    maps: [images, height, width]; size: the kernel's odd side in map pixels; width: s of exp(-(x / 2s)^2), the form
    that Attend-and-Excite (arXiv 2301.13826) and its successors use, a Gaussian of standard deviation sqrt(2) s. A map
    smaller than half the kernel comes back as it is: it has no neighbours to smooth with.
    """
    reach = size // 2
    if min(maps.shape[1:]) <= reach:
        return maps
    weights = [math.exp(-((i / (2 * width)) ** 2)) for i in range(-reach, reach + 1)]
    weights = [weight / sum(weights) for weight in weights]
    # Sums of shifted maps: a kernel as a tensor would have to travel to the device for every layer.
    rows, columns = maps.shape[1:]
    padded = F.pad(maps[:, None], (reach,) * 4, mode="reflect")[:, 0]
    across = torch.stack([weight * padded[:, :, i : i + columns] for i, weight in enumerate(weights)]).sum(0)
    return torch.stack([weight * across[:, i : i + rows] for i, weight in enumerate(weights)]).sum(0)


def layout_loss(maps: Sequence[torch.Tensor], templates: Sequence[torch.Tensor]) -> torch.Tensor:
    """mean_l |K * A_l - K * T_l|_F / sqrt(h_l w_l) (Pick-and-Draw, arXiv 2401.16762, eq. 10, reduced by the mean over
    layers).

    maps: [images, height, width] per layer, with a graph; templates: alike, constants. Returns [images] in fp32: 0,
    with a finite gradient, where map and template are equal.
    """
    losses = []
    for found, wanted in zip(maps, templates, strict=True):
        difference = gaussian_smoothed(found.float() - wanted.detach().float())
        norm = (difference.square().sum((1, 2)) + _ROUNDED**2).sqrt() - _ROUNDED
        losses.append(norm / math.sqrt(difference[0].numel()))
    return torch.stack(losses).mean(0)


def step_of_gradient(
    latent: torch.Tensor,
    gradient: torch.Tensor,
    sigma: float,
    size: float,
    kind: str = RELATIVE,
    loss: torch.Tensor | None = None,
) -> torch.Tensor:
    """What one guidance step subtracts from a latent (Pick-and-Draw, arXiv 2401.16762, the update of the score
    function, eq. 11).

    latent: [images, channels, height, width] = clean + sigma * noise; gradient: alike, of the loss. RELATIVE: a step
    whose norm is `size` of the latent's, image by image. RAW: `size` times the gradient with respect to z = latent /
    sqrt(1 + sigma^2), in which papers state their step sizes. Where the gradient is 0 the step is 0. loss: [images],
    given where the loss can become 0. A RELATIVE step then ends where it would be 0 if it were linear (Polyak's step):
    a gradient's direction says nothing once its loss is next to 0, and its length is not looked at.
    """
    if kind == RAW:
        return size * (1 + sigma**2) * gradient
    of_latent, of_gradient = (t.flatten(1).norm(dim=1) for t in (latent, gradient))
    slope = of_gradient.clamp(min=1e-30)
    length = size * of_latent if loss is None else torch.minimum(size * of_latent, loss.to(slope) / slope)
    return torch.where((of_gradient > 0).view(-1, 1, 1, 1), gradient * (length / slope).view(-1, 1, 1, 1), 0)


def denoised_shift(step: torch.Tensor, sigma: float, next_sigma: float) -> torch.Tensor:
    """What to add to the denoised latent so that an Euler or DDIM step that starts at the unguided latent ends where
    the same step from the guided one, latent - step, would (Pick-and-Draw, arXiv 2401.16762, section on optimising the
    latent).

    With r = next_sigma / sigma, D' + r (x - step - D') = D + r (x - D) gives D = D' - step r / (1 - r). step: as
    `step_of_gradient` gives it, at noise level `sigma`; 0 <= next_sigma < sigma.
    """
    ratio = next_sigma / sigma
    return step * (-ratio / (1 - ratio))
