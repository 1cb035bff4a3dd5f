"""The patched MODEL that MultiSourceAttnSwap's inputs and settings make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..features.lending import Lending
from ..features.references import References
from ..features.trajectory import Trajectory
from ..host.attach import attach, patches_of
from ..host.blocks import parse
from ..host.checks import check_text, check_vae
from ..host.families import discover, family_of, presets
from ..host.family import KEYS, LATE
from ..host.notices import Notices
from .checks import check_settings
from .idle import idle_inputs
from .mask import SubjectMask, plain_mask
from .retouch import Retouch
from .settings import NODE, NONE, QK_BOTH, QK_SELF, Layout, RetouchSettings, prompts_of
from .vanilla import Vanilla

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def retouch(
    model: ModelPatcher,
    references: References,
    layout: Trajectory | References | None,
    mask: SubjectMask | torch.Tensor | None,
    settings: RetouchSettings,
    layout_negative: list | None = None,
    *,
    notices: Notices | None = None,
    vanilla_model: ModelPatcher | None = None,
    vanilla_conditioning: list | None = None,
) -> ModelPatcher:
    """A clone of MODEL with the retouch attached; a plain clone where the settings are neutral.

    notices: those of the node, for warnings. vanilla_model, vanilla_conditioning: those of the layout's first
    steps.
    Raises ValueError for inputs of another model family, unknown blocks and settings that contradict each other.
    """
    family, available = family_of(model, NODE), discover(model, NODE)
    blocks = parse(settings.blocks, available, NODE, presets(model, LATE, NODE))
    source = _layout(layout)
    check_settings(settings, source is not None, mask is not None)
    vanilla = None if vanilla_model is None else Vanilla(vanilla_model, vanilla_conditioning)
    if vanilla is not None:
        vanilla.check(model)
        if isinstance(source, Trajectory):
            vanilla.prompts(source)
    for item in references.items:
        check_text(model, item.conditioning, "reference", NODE)
        check_vae(model, item.vae, NODE)
    if source is not None:
        for prompt in prompts_of(source, layout_negative):
            check_text(model, prompt, "layout", NODE)
    soft = plain_mask(mask, NODE) if isinstance(mask, torch.Tensor) else mask
    if settings.strength == 0 or not blocks:
        return model.clone()  # neutral values stay silent, whatever else is connected
    told = notices or Notices(NODE)
    prompt_alone = vanilla_conditioning is not None and vanilla is None
    for sentence in idle_inputs(settings, source, soft, layout_negative, prompt_alone):
        told.tell(sentence)
    if settings.window.empty:
        return model.clone()
    patch = Retouch(
        settings=settings if source is not None else replace(settings, early_swap=NONE),
        lending=Lending(
            NODE,
            family,
            blocks,
            references.items,
            settings.mode,
            settings.bank_limit,
            settings.positions,
            settings.reference_every,
        ),
        every_block=available,
        layout=source,
        layout_negative=layout_negative,
        mask=soft,
        mask_blocks=parse(soft.blocks, available, soft.node) if soft is not None and soft.follows else (),
        vanilla=vanilla,
        notices=told,
    )
    if family.lends == KEYS:
        _check_alone(model, patch)
        if patch.settings.early_swap == QK_BOTH and patch.settings.follows_live:
            told.inform(f"early_swap {QK_BOTH} is {QK_SELF} on a transformer, whose prompt keeps its own attention.")
    return attach(model, patch)


def _check_alone(model: ModelPatcher, patch: Retouch) -> None:
    """Raises ValueError for a transformer with another retouch of the same blocks in the same part of sampling."""
    for other in patches_of(model):
        if not isinstance(other, Retouch) or not other.window.overlaps(patch.window):
            continue
        both = [block.name for block in patch.changed_blocks if block in other.changed_blocks]
        if both:
            raise ValueError(
                f"{NODE}: expected one {NODE} for each block of a transformer, got two for {', '.join(both)}; change "
                "blocks, or start_percent and end_percent, on one of them, or chain their references by more."
            )


def _layout(layout: Trajectory | References | None) -> Layout | None:
    if not isinstance(layout, References):
        return layout
    if len(layout.items) != 1:
        raise ValueError(
            f"{NODE}: expected one layout picture, got {len(layout.items)}; connect a Reference Picture of a single "
            "image."
        )
    return layout.items[0]
