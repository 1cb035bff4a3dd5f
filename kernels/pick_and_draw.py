"""Pick-and-Draw (arXiv 2401.16762) except for its distance, which is in `uremd`: masks, losses, the latent's update.

Equation numbers are ours. The paper has ten numbered equations, which our sources show without their numbers; we
rebuilt them from public sources. Eq. 1-2 are latent diffusion and classifier-free guidance, which the host computes.
Eq. 3 is `attention.cross_attention_map`, eq. 5 is `heatmaps.inside`. Eq. 7, the earth mover's distance, is only needed
to define eq. 8.
"""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F

from .heatmaps import mean_heatmap, min_max

RELATIVE, RAW = "relative", "raw"
_ROUNDED = 1e-6
"""Softens the Frobenius norm near 0, where its gradient is undefined."""


def saliency_mask(maps: Sequence[torch.Tensor], size: tuple[int, int], threshold: float) -> torch.Tensor:
    """M = 1[minmax(mean_l up(A_l)) > threshold] (Pick-and-Draw, arXiv 2401.16762, eq. 4), without a graph.

    maps: [images, height, width] of the subject's words per layer, of any sizes; size: (height, width). Returns bool
    [images, *size].
    """
    return min_max(mean_heatmap([m.detach() for m in maps], size)) > threshold


def scaled_to(wanted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """T_l of a drawn mask, for the layout loss (Pick-and-Draw, arXiv 2401.16762, eq. 10; the paper draws no masks).

    wanted: the mask, [images or 1, height, width] in 0..1; found: the generated map A_l, [images, h, w]. Returns the
    mask in the size of `found` and with the same sum, image by image: [images, h, w], without a graph.
    """
    small = F.interpolate(wanted[:, None].to(found), tuple(found.shape[1:]), mode="area")[:, 0]
    return small * (found.detach().sum((1, 2), keepdim=True) / small.sum((1, 2), keepdim=True).clamp(min=1e-6))


def gaussian_smoothed(maps: torch.Tensor, size: int = 3, width: float = 0.5) -> torch.Tensor:
    """K * A of the layout loss (Pick-and-Draw, arXiv 2401.16762, eq. 10), edges reflected.

    maps: [images, height, width]; size: the kernel's odd side in map pixels; width: s of exp(-(x / 2s)^2). This form,
    from Attend-and-Excite (arXiv 2301.13826) and its successors, is a Gaussian of standard deviation sqrt(2) s. Returns
    [images, height, width]; a map whose height or width is at most size // 2 is returned unchanged.
    """
    reach = size // 2
    if min(maps.shape[1:]) <= reach:
        return maps
    weights = [math.exp(-((i / (2 * width)) ** 2)) for i in range(-reach, reach + 1)]
    weights = [weight / sum(weights) for weight in weights]
    # A kernel in a tensor would have to be copied to the device for every layer, so shifted maps are summed.
    rows, columns = maps.shape[1:]
    padded = F.pad(maps[:, None], (reach,) * 4, mode="reflect")[:, 0]
    across = torch.stack([weight * padded[:, :, i : i + columns] for i, weight in enumerate(weights)]).sum(0)
    return torch.stack([weight * across[:, i : i + rows] for i, weight in enumerate(weights)]).sum(0)


def layout_loss(
    maps: Sequence[torch.Tensor], templates: Sequence[torch.Tensor], size: int = 3, width: float = 0.5
) -> torch.Tensor:
    """mean_l |K * A_l - K * T_l|_F / sqrt(h_l w_l) (Pick-and-Draw, arXiv 2401.16762, eq. 10).

    The mean over layers and the division by the map's size are ours. maps: [images, height, width] per layer, with a
    graph; templates: of the same shapes, constants; size, width: of the kernel K. Returns [images] in fp32; where map
    and template are equal it is 0, with a finite gradient. Raises ValueError for different numbers of layers.
    """
    losses: list[torch.Tensor] = []
    for found, wanted in zip(maps, templates, strict=True):
        difference = gaussian_smoothed(found.float() - wanted.detach().float(), size, width)
        norm = (difference.square().sum((1, 2)) + _ROUNDED**2).sqrt() - _ROUNDED
        losses.append(norm / math.sqrt(difference[0].numel()))
    return torch.stack(losses).mean(0)


def score(terms: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """lambda_app L_app + lambda_lay L_lay (Pick-and-Draw, arXiv 2401.16762, the score function).

    terms: (weight, losses [images]) of each term that acts, at least one. Returns [images], with the losses' graph.
    """
    return torch.stack([weight * losses for weight, losses in terms]).sum(0)


def step_of_gradient(
    latent: torch.Tensor,
    gradient: torch.Tensor,
    sigma: float,
    size: float,
    kind: str = RELATIVE,
    loss: torch.Tensor | None = None,
) -> torch.Tensor:
    """eta grad g, what one guidance step subtracts from a latent (Pick-and-Draw, arXiv 2401.16762, the update).

    latent: [images, channels, ..., height, width], noisy; gradient: of the score, of the same shape. kind: RELATIVE
    gives a step whose norm is `size` times the latent's, image by image. RAW gives `size` times the gradient with
    respect to z = latent / sqrt(1 + sigma^2), in which papers state their step sizes. A gradient of 0 gives a step of
    0. loss: [images], for a loss that can reach 0. Near zero loss the direction is noise; normalizing hides that, so a
    RELATIVE step is capped where the linearized loss would be 0 (Polyak's step).
    """
    if kind == RAW:
        return size * (1 + sigma**2) * gradient
    of_latent, of_gradient = (cast(torch.Tensor, t.flatten(1).norm(dim=1)) for t in (latent, gradient))
    slope = of_gradient.clamp(min=1e-30)
    length = size * of_latent if loss is None else torch.minimum(size * of_latent, loss.to(slope) / slope)
    each = (-1, *[1] * (latent.ndim - 1))
    return torch.where((of_gradient > 0).view(each), gradient * (length / slope).view(each), 0)


def decayed(size: float, decay: float, progress: float, root: bool = True) -> float:
    """eta_t of the latent's update (Pick-and-Draw, arXiv 2401.16762, the update), with a decay.

    Attend-and-Excite (arXiv 2301.13826) lets its step size fall as the square root of a line from 1 to decay = 0.5.
    size: the step size at the start; decay: 1 for a constant one; progress: the part that is over, 0 to 1, of sampling
    or of a window; root: False for the line itself, which ends at `size` times `decay`.
    """
    line = 1 + (decay - 1) * progress
    return size * (math.sqrt(line) if root else line)


def denoised_shift(step: torch.Tensor, sigma: float, next_sigma: float) -> torch.Tensor:
    """D - D', which carries a moved latent through the sampler's step (Pick-and-Draw, arXiv 2401.16762, the update).

    An Euler or DDIM step from the unguided latent x then ends where the same step from the guided one, x - step, would.
    With r = next_sigma / sigma, `D' + r (x - step - D') = D + r (x - D)`. Hence `D = D' - step r / (1 - r)`.

    step: of `step_of_gradient`, at noise level `sigma`; 0 <= next_sigma < sigma. Returns the shape of `step`.
    """
    ratio = next_sigma / sigma
    return step * (-ratio / (1 - ratio))
