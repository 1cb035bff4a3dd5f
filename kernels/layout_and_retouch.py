"""The equations of Layout-and-Retouch (arXiv 2407.09779): Algorithm 1, lines 9 to 12.

The line numbers are ours: the listing of Algorithm 1 is not in our source.
Masks are [images, height, width]. Tensors of attention layers are [rows, tokens, channels].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .attention import key_bias
from .morphology import Morphology, components_touching, large_components

CORES = ("both", "subject", "attention", "none")


@dataclass(frozen=True)
class MaskRules:
    """The constants of section 3.2.2 that the paper leaves open, with our defaults.

    threshold: of the attention map in 0..1. minimum_area: smallest component that is kept, as a fraction of the
    picture. metric: of the distance transform, one of `morphology.METRICS`. core: one of CORES, the region where the
    mask is 1. background: the mask's value outside the subject.
    """

    threshold: float = 0.1
    minimum_area: float = 0.005
    metric: str = "L2"
    core: str = "both"
    background: float = 0.0


def followed(own: torch.Tensor, layout: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Q, K, V of the target <- Q, K, V of the layout (arXiv 2407.09779, Algorithm 1, line 9).

    own, layout: [rows, tokens, channels]. strength: linear mix between the two, 1 is the paper's.
    """
    return layout if strength == 1 else torch.lerp(own, layout, strength)


def reference_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    counts: Sequence[int],
    weights: Sequence[float],
    attention: Callable[..., torch.Tensor],
    append: bool = False,
    strength: float = 1.0,
    kept: int = 0,
    alone: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """f = softmax(Q K_ref^T / sqrt(d)) V_ref (arXiv 2407.09779, Algorithm 1, line 10), as in MasaCtrl.

    MasaCtrl is arXiv 2304.08465, eq. 3.
    q: [rows, n, width]. k, v: [rows, own + sum(counts), width], the target's own tokens first, then each reference's.
    Without own tokens, `append` and `strength` have nothing to add and must be the defaults.
    counts, weights: tokens of each reference and the factor of their attention; weights that are equal need no mask.
    attention(q, k, v) or attention(q, k, v, mask=[1, n, keys]) -> [rows, n, width]: the layer's own attention.
    append: the keys are the target's own and the references'; the paper replaces them.
    strength: linear mix with the attention over the target's own tokens alone, 1 is the paper's.
    kept: number of own tokens, the last ones, that are never replaced, as those of a prompt in the same sequence.
    alone(): the attention over the own tokens, by default that of k and v.
    """
    own = k.shape[1] - sum(counts)
    first = 0 if append else own - kept
    if weights_matter(weights, append or kept > 0):
        spans = [(own - first, 1.0), *zip(counts, weights, strict=True)]
        bias = key_bias(q, [weight for _, weight in spans], [count for count, _ in spans])
        swapped = attention(q, k[:, first:], v[:, first:], mask=bias)
    else:
        swapped = attention(q, k[:, first:], v[:, first:])
    if strength == 1:
        return swapped
    unchanged = attention(q, k[:, :own], v[:, :own]) if alone is None else alone()
    return torch.lerp(unchanged, swapped, strength)


def weights_matter(weights: Sequence[float], append: bool) -> bool:
    """True where weighted references share the attention in another way than unweighted ones.

    A factor that all keys have in common cancels in the softmax. With `append` the target's own keys count as weight 1.
    """
    return len({*weights, 1.0} if append else set(weights)) > 1


def blended(target: torch.Tensor, layout: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """f = M * f_target + (1 - M) * f_layout (arXiv 2407.09779, section 3.2.2, Algorithm 1, line 11).

    target, layout: [rows, n, width] outputs of a self-attention layer. mask: [rows or 1, n, 1], 1 keeps the target.
    """
    return torch.lerp(layout, target, mask.to(target.dtype))


def adaptive_mask(heat: torch.Tensor, subject: torch.Tensor, rules: MaskRules, morphology: Morphology) -> torch.Tensor:
    """M = max(Normalize(D(M_u)), M_core) (arXiv 2407.09779, section 3.2.2), Algorithm 1, line 12.

    M_u = OR(components of M_ca that touch M_sam, M_sam).
    heat: fp32 [images, height, width] in 0..1, the attention map that M_ca is thresholded from. subject: bool M_sam of
    the same shape. Returns fp32 in {background} or [0.5, 1]. Components of M_ca that do not touch the subject
    are noise, and small components of the union are dropped. D is the distance to the background, stretched to 0.5..1
    over the picture's subject. Where the distance is constant the mask is 1.
    """
    attended = thresholded(heat, rules.threshold)
    touching = components_touching(attended, subject, morphology)
    union = touching | subject
    union = large_components(union, rules.minimum_area * union[0].numel(), morphology)
    distance = morphology.distances(union, rules.metric)
    low = distance.masked_fill(~union, math.inf).amin((1, 2), keepdim=True)
    high = distance.masked_fill(~union, -math.inf).amax((1, 2), keepdim=True)
    span = high - low
    graded = torch.where(span > 0, 0.5 + 0.5 * (distance - low) / span, 1.0)
    cores = {
        "both": attended & subject,
        "subject": subject,
        "attention": touching,
        "none": torch.zeros_like(subject),
    }
    graded = torch.where(cores[rules.core] & union, 1.0, graded)
    return torch.where(union, graded, rules.background)


def thresholded(heat: torch.Tensor, threshold: float) -> torch.Tensor:
    """M_ca: attention maps in 0..1 above a threshold (MasaCtrl, arXiv 2304.08465, section 3.3).

    [images, height, width] -> bool of the same shape.
    """
    return heat > threshold


def resized(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The soft mask at a layer of (height, width), bilinear: [images, height, width] -> [images, height * width, 1]."""
    if mask.shape[1:] != size:
        antialias = mask.shape[1] > size[0]
        mask = F.interpolate(mask[:, None], size, mode="bilinear", align_corners=False, antialias=antialias)[:, 0]
    return mask.flatten(1)[..., None]
