"""From the widgets of MultiSourceAttnSwap to a patched MODEL."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..features.references import Reference, References
from ..features.trajectory import Trajectory
from ..host.attach import attach
from ..host.blocks import parse
from ..host.checks import check_text
from ..host.families import discover, family_of, preset
from ..host.family import LATE
from ..host.window import Window
from .retouch import FORK, NODE, NONE, Retouch, prompts_of
from .subject_mask import SubjectMask


@dataclass(frozen=True)
class Settings:
    """The widgets, in their order."""

    early_swap: str
    lambda_2: int
    lambda_3: int
    blocks: str
    attention: str
    mode: str
    strength: float
    start_percent: float = 0.0
    end_percent: float = 1.0


def retouch(
    model,
    references: References,
    layout: Trajectory | References | None,
    mask: SubjectMask | torch.Tensor | None,
    layout_negative: list | None,
    settings: Settings,
):
    """A clone of MODEL with the retouch on it; without one where the settings are neutral. Raises ValueError in one
    sentence."""
    family, available = family_of(model, NODE), discover(model, NODE)
    blocks = parse(settings.blocks, available, NODE, preset(model, LATE, NODE))
    window = Window(settings.start_percent, settings.end_percent)
    source = _layout(layout)
    _check(source, mask, settings)
    for item in references.items:
        check_text(model, item.conditioning, "reference", NODE)
    if source is not None:
        for prompt in prompts_of(source, layout_negative):
            check_text(model, prompt, "layout", NODE)
    if settings.strength == 0 or window.empty or not blocks:
        return model.clone()
    soft = plain_mask(mask) if isinstance(mask, torch.Tensor) else mask
    return attach(
        model,
        Retouch(
            family,
            blocks,
            available,
            references,
            source,
            layout_negative,
            soft,
            mask_blocks=parse(soft.blocks, available, soft.node) if soft is not None and soft.follows else (),
            early=settings.early_swap if source is not None else NONE,
            early_steps=settings.lambda_2,
            blend_step=settings.lambda_3,
            attention=settings.attention,
            mode=settings.mode,
            strength=settings.strength,
            window=window,
        ),
    )


def plain_mask(mask: torch.Tensor) -> SubjectMask:
    """A MASK that stays as it is from step to step."""
    mask = (mask[None] if mask.ndim == 2 else mask).float().cpu()
    if bool((mask.amax((1, 2)) <= 0).any()):
        raise ValueError(
            f"{NODE}: expected a mask with the subject in it, got an empty one; connect another mask or none."
        )
    return SubjectMask(mask > 0.5, mask, node=NODE)


def _layout(layout: Trajectory | References | None) -> Trajectory | Reference | None:
    if not isinstance(layout, References):
        return layout
    if len(layout.items) != 1:
        raise ValueError(
            f"{NODE}: expected one layout picture, got {len(layout.items)}; connect a Reference Picture of a single "
            "image."
        )
    return layout.items[0]


def _check(layout: Trajectory | Reference | None, mask, settings: Settings) -> None:
    if settings.lambda_3 < settings.lambda_2:
        raise ValueError(
            f"{NODE}: expected lambda_3 not below lambda_2, got {settings.lambda_3} and {settings.lambda_2}; raise "
            "lambda_3: before lambda_2 the target is the layout."
        )
    if mask is not None and layout is None:
        raise ValueError(
            f"{NODE}: expected a layout for the mask to blend with, got none; connect layout, or disconnect mask."
        )
    if layout is not None and mask is None and (settings.early_swap == NONE or settings.lambda_2 == 0):
        raise ValueError(
            f"{NODE}: expected a use for the layout, got early_swap {settings.early_swap}, lambda_2 "
            f"{settings.lambda_2} and no mask; set early_swap to {FORK}, raise lambda_2, or connect mask."
        )
