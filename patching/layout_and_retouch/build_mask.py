"""From the widgets of AdaptiveMask to the mask and its picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...kernels.adaptive_mask import SCIPY, MaskRules, adaptive_mask, thresholded
from ...kernels.heatmaps import min_max, overlay
from ..host.previews import captioned
from ..host.words import find_word
from .subject_mask import NODE, SubjectMask

PER_STEP, RECORDED = "per_step", "recorded"


def build_mask(
    subject: torch.Tensor | None,
    heatmap: torch.Tensor | None,
    attention: str,
    clip,
    text: str,
    word: str,
    blocks: str,
    rules: MaskRules,
) -> SubjectMask:
    """subject, heatmap: MASK over the layout image, at least one. attention: PER_STEP needs clip, text and word.

    Raises ValueError in one sentence.
    """
    subject, heat = (None if m is None else (m[None] if m.ndim == 2 else m).float().cpu() for m in (subject, heatmap))
    if subject is None and heat is None:
        raise ValueError(f"{NODE}: expected subject_mask or heatmap, got neither; connect one of them.")
    if subject is not None and heat is not None:
        if subject.shape[1:] != heat.shape[1:]:
            raise ValueError(
                f"{NODE}: expected subject_mask and heatmap of one size, got {_size(subject)} and {_size(heat)}; "
                "make both of the same layout image."
            )
        if len({len(subject), len(heat)} - {1}) > 1:
            raise ValueError(f"{NODE}: expected as many heatmaps as subject masks, got {len(heat)} and {len(subject)}.")
    attended = thresholded(min_max(heat), rules.threshold) if heat is not None else None
    chosen = subject > 0.5 if subject is not None else attended
    assert chosen is not None
    if bool((~chosen).all(2).all(1).any()):
        raise ValueError(
            f"{NODE}: expected a mask with the subject in it, got an empty one; lower threshold or connect another "
            "mask."
        )
    attended = chosen if attended is None else attended
    images = max(len(chosen), len(attended))
    fixed = adaptive_mask(attended.expand(images, -1, -1), chosen.expand(images, -1, -1), rules, SCIPY)
    if not bool((fixed > rules.background).any()):
        raise ValueError(
            f"{NODE}: expected a subject above minimum_area {rules.minimum_area:g}, got a smaller one; lower "
            "minimum_area."
        )
    if attention == RECORDED:
        return SubjectMask(chosen, fixed, rules, blocks=blocks)
    if clip is None:
        raise ValueError(
            f"{NODE}: expected clip, text and word for attention {PER_STEP}, got no clip; connect it, or use "
            f"{RECORDED}."
        )
    where = find_word(clip, text, word, NODE)
    return SubjectMask(chosen, fixed, rules, where.tokens, where.prompt_length, blocks)


def preview(mask: SubjectMask, image: torch.Tensor | None) -> torch.Tensor:
    """[images, ...] RGB: the layout image if it is known, its subject mask, and the soft mask over it."""
    fixed, subject = mask.fixed, mask.subject.float().expand(len(mask.fixed), -1, -1)
    height, width = fixed.shape[1:]
    if image is None:
        picture = torch.full((len(fixed), height, width, 3), 0.5)
    else:
        resized = F.interpolate(
            image[..., :3].movedim(-1, 1).float().cpu(), (height, width), mode="bilinear", antialias=True
        )
        picture = (
            resized.movedim(1, -1).expand(len(fixed), -1, -1, -1)
            if len(image) == 1
            else resized.movedim(1, -1)[: len(fixed)]
        )
    panels = [captioned(overlay(picture, subject), "subject"), captioned(overlay(picture, fixed), "mask")]
    return torch.cat([captioned(picture, "layout"), *panels] if image is not None else panels, 2)


def _size(mask: torch.Tensor) -> str:
    return f"{mask.shape[2]} x {mask.shape[1]}"
