"""From the widgets of UREMDGuidance to a patched MODEL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..host.attach import attach_guidance
from ..host.blocks import Block, layers_of, parse
from ..host.checks import check_text
from ..host.families import discover, family_of, preset
from ..host.family import COARSE
from ..host.window import Window
from ..host.words import find_word
from .guidance import NODE, Term, UREMDGuidance
from .loss_log import LossLog
from .palette import Palette
from .template import Template


@dataclass(frozen=True)
class Settings:
    """The widgets."""

    text: str
    word: str
    appearance_weight: float
    appearance_start: float
    appearance_end: float
    layout_weight: float
    layout_start: float
    layout_end: float
    layout_blocks: str
    direction: str
    step_size: float
    step_kind: str
    iterations: int
    every: int
    threshold: float
    map_blocks: str = "paper"


def guide(
    model,
    clip,
    palette: Palette | None,
    template: Template | None,
    settings: Settings,
    show: Callable[[str], None] | None = None,
) -> tuple[object, LossLog]:
    """A clone of MODEL with the guidance on it, without it where the settings are neutral, and the log of its losses.

    Raises ValueError in one sentence.
    """
    s, log = settings, LossLog(show, NODE)
    if palette is None and template is None:
        raise ValueError(
            f"{NODE}: expected a palette or a template, got neither; connect AppearancePalette or LayoutTemplate."
        )
    if clip is None:
        raise ValueError(
            f"{NODE}: expected a CLIP, got none, as from a checkpoint without text encoder; connect a CLIP loader to "
            "clip."
        )
    family, available = family_of(model, NODE), discover(model, NODE)
    words = find_word(clip, s.text, s.word, NODE)
    appearance = layout = None
    if palette is not None:
        blocks = _palette_blocks(palette, family.name, available)
        for item in palette.references.items:
            check_text(model, item.conditioning, "palette", NODE)
        window = Window(
            max(s.appearance_start, palette.window.start_percent), min(s.appearance_end, palette.window.end_percent)
        )
        if window.empty and s.appearance_weight > 0 and s.appearance_start < s.appearance_end:
            raise ValueError(
                f"{NODE}: expected a palette for {s.appearance_start:g} to {s.appearance_end:g} of sampling, got one "
                f"for {palette.window.start_percent:g} to {palette.window.end_percent:g}; change appearance_start and "
                "appearance_end, or those of AppearancePalette."
            )
        appearance = _term(s.appearance_weight, window, blocks)
    if template is not None:
        blocks = _template_blocks(template, family.name, parse(s.layout_blocks, available, NODE))
        layout = _term(s.layout_weight, Window(s.layout_start, s.layout_end), blocks)
    map_blocks = parse(s.map_blocks, available, NODE, preset(model, COARSE, NODE))
    if appearance is not None and not map_blocks:
        raise ValueError(f"{NODE}: expected at least one block in map_blocks, got none; write paper, or decoder.")
    if appearance is not None and s.threshold >= 1:
        raise ValueError(
            f"{NODE}: expected threshold below 1, got {s.threshold:g}, which no place is above; lower threshold."
        )
    if (appearance is None and layout is None) or s.step_size == 0:
        log.start(())
        return model.clone(), log
    guidance = UREMDGuidance(
        family,
        words,
        layers_of(map_blocks),
        clip.encode_from_tokens_scheduled(clip.tokenize(s.text))[0][0],
        palette if appearance else None,
        template if layout else None,
        appearance,
        layout,
        s.threshold,
        s.direction,
        s.step_size,
        s.step_kind,
        s.iterations,
        s.every,
        log,
    )
    return attach_guidance(model, guidance), log


def _term(weight: float, window: Window, blocks: tuple[Block, ...]) -> Term | None:
    layers = layers_of(blocks)
    return Term(weight, window, layers) if weight > 0 and not window.empty and layers else None


def _palette_blocks(palette: Palette, family: str, available: tuple[Block, ...]) -> tuple[Block, ...]:
    known = {block.name for block in available}
    missing = [name for name in palette.blocks if name not in known]
    if palette.family != family or missing:
        raise ValueError(
            f"{NODE}: expected a palette of this model's family and blocks ({family}: "
            f"{', '.join(b.name for b in available)}), got one of {palette.family}: {', '.join(palette.blocks)}; make "
            "the palette with this model."
        )
    return parse(" ".join(palette.blocks), available, NODE)


def _template_blocks(template: Template, family: str, chosen: tuple[Block, ...]) -> tuple[Block, ...]:
    recorded = template.layers
    if template.family != family:
        raise ValueError(
            f"{NODE}: expected a template of this model's family, {family}, got one of {template.family}; make it "
            "with this model."
        )
    missing = [] if recorded is None else [block.name for block in chosen if not recorded.issuperset(block.layers)]
    if missing:
        raise ValueError(
            f"{NODE}: expected a template with maps of {', '.join(missing)}, got one without; set blocks of "
            "LayoutTemplate to all, or leave these out of layout_blocks."
        )
    return chosen
