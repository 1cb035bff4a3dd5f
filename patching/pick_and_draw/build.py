"""Builds the guided MODEL from the widgets of UREMDGuidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...kernels.pick_and_draw import RAW, RELATIVE
from ...kernels.uremd import REF_TO_GEN
from ..host.attach import attach_guidance
from ..host.blocks import Block, layers_of, parse
from ..host.checks import check_text, given_clip
from ..host.families import discover, family_of, presets
from ..host.family import COARSE, MAPS, SELF_INPUT
from ..host.noise import is_flow
from ..host.notices import Notices
from ..host.window import Window
from ..host.words import find_word
from .guidance import UREMDGuidance
from .loss_log import LossLog
from .palette import Palette
from .settings import NODE, GuidanceSettings, Term, Terms, Widgets
from .template import Template

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP


def guide(
    model: ModelPatcher,
    clip: CLIP | None,
    palette: Palette | None,
    template: Template | None,
    widgets: Widgets,
    *,
    notices: Notices | None = None,
) -> tuple[ModelPatcher, LossLog]:
    """A guided clone of MODEL, or a plain one where the widgets are neutral, and the log of its losses.

    notices: those of the node, for warnings and the current losses. Raises ValueError in one sentence.
    """
    told = notices or Notices(NODE)
    log = LossLog(told)
    check_sources(palette is not None, template is not None)
    clip = given_clip(clip, NODE)
    family, available = family_of(model, NODE), discover(model, NODE)
    words = find_word(clip, widgets.text, widgets.word, NODE)
    terms = Terms(
        appearance=None if palette is None else _appearance(model, palette, widgets, family.name, available),
        layout=None if template is None else _layout(template, widgets, family.name, model),
    )
    map_blocks = parse(widgets.map_blocks, available, NODE, presets(model, COARSE, NODE), "map_blocks")
    if terms.appearance is not None and not map_blocks:
        raise ValueError(f"{NODE}: expected at least one block, got none; write paper into map_blocks.")
    if terms.appearance is not None and widgets.threshold >= 1:
        raise ValueError(
            f"{NODE}: expected threshold below 1, got {widgets.threshold:g}, which no map exceeds; lower threshold."
        )
    check_kernel(widgets.kernel_size)
    if widgets.step_size > 0:
        _tell(told, widgets, palette, template)
    if not terms.present or widgets.step_size == 0:
        log.start(())
        return model.clone(), log
    _check_step(model, widgets.step)
    settings = GuidanceSettings(
        family=family,
        words=words,
        map_layers=layers_of(map_blocks),
        terms=terms,
        threshold=widgets.threshold,
        direction=widgets.direction,
        step=widgets.step,
        step_size=widgets.step_size,
        iterations=widgets.iterations,
        every=widgets.every,
        features=SELF_INPUT if palette is None else palette.kind,
        kernel_size=widgets.kernel_size,
        kernel_width=widgets.kernel_width,
        decay=widgets.decay,
        decay_over=widgets.decay_over,
    )
    guidance = UREMDGuidance(
        settings,
        prompt=clip.encode_from_tokens_scheduled(clip.tokenize(widgets.text))[0][0],
        palette=palette if terms.appearance else None,
        template=template if terms.layout else None,
        log=log,
    )
    return attach_guidance(model, guidance), log


def _check_step(model: ModelPatcher, step: str) -> None:
    """Raises ValueError for RAW steps of a flow model: they are stated for the latents of diffusion models."""
    if step == RAW and is_flow(model.get_model_object("model_sampling")):
        raise ValueError(
            f"{NODE}: expected step {RELATIVE} for a flow-matching model such as {type(model.model).__name__}, got "
            f"{RAW}, whose step sizes hold for diffusion models; set step to {RELATIVE}."
        )


def check_sources(palette: bool, template: bool) -> None:
    """Raises ValueError for a node without both."""
    if not palette and not template:
        raise ValueError(
            f"{NODE}: expected a palette or a template, got neither; connect Appearance Palette or Layout Template."
        )


def _appearance(
    model: ModelPatcher, palette: Palette, widgets: Widgets, family: str, available: tuple[Block, ...]
) -> Term | None:
    """The appearance term inside the palette's window; None where it does nothing."""
    blocks = _palette_blocks(palette, family, available)
    for item in palette.references.items:
        check_text(model, item.conditioning, "palette", NODE)
    start, end = widgets.appearance_start, widgets.appearance_end
    window = Window(max(start, palette.window.start_percent), min(end, palette.window.end_percent))
    if window.empty and widgets.appearance_weight > 0 and start < end:
        raise ValueError(
            f"{NODE}: expected a palette for {start:g} to {end:g} of sampling, got one for "
            f"{palette.window.start_percent:g} to {palette.window.end_percent:g}; change appearance_start and "
            "appearance_end, or start_percent and end_percent of Appearance Palette."
        )
    return _term(widgets.appearance_weight, window, blocks)


def _layout(template: Template, widgets: Widgets, family: str, model: ModelPatcher) -> Term | None:
    """The layout term; None where it does nothing."""
    blocks = parse(widgets.layout_blocks, discover(model, NODE), NODE, presets(model, MAPS, NODE), "layout_blocks")
    _check_template(template, family, blocks)
    return _term(widgets.layout_weight, Window(widgets.layout_start, widgets.layout_end), blocks)


def check_kernel(size: int) -> None:
    """Raises ValueError for the side of a kernel that has no middle."""
    if size % 2 == 0:
        raise ValueError(f"{NODE}: expected an odd kernel_size, got {size}; change it by 1.")


def _tell(told: Notices, widgets: Widgets, palette: Palette | None, template: Template | None) -> None:
    """Tells of widgets that cannot have the effect that their values ask for."""
    if palette is None and widgets.appearance_weight > 0 and widgets.layout_weight == 0:
        told.tell(
            "expected a palette or layout_weight above 0, got a template alone with layout_weight 0, which does "
            "nothing; connect Appearance Palette, or raise layout_weight."
        )
    if template is None and widgets.layout_weight > 0 and widgets.appearance_weight == 0:
        told.tell(
            "expected a template or appearance_weight above 0, got a palette alone with appearance_weight 0, which "
            "does nothing; connect Layout Template, or raise appearance_weight."
        )
    for name, given, weight, start, end in (
        ("appearance", palette, widgets.appearance_weight, widgets.appearance_start, widgets.appearance_end),
        ("layout", template, widgets.layout_weight, widgets.layout_start, widgets.layout_end),
    ):
        if given is not None and weight > 0 and start >= end:
            told.tell(
                f"expected {name}_start below {name}_end, got {start:g} and {end:g}, so that loss does nothing; change "
                f"them, or set {name}_weight to 0."
            )
    weights = [] if palette is None or widgets.appearance_weight == 0 else [i.weight for i in palette.references.items]
    if len(weights) == 1 and weights[0] != 1:
        told.tell(
            f"expected several pictures for a weight of {weights[0]:g}, got one, for which it does nothing; set weight "
            "of Appearance Palette to 1, or add pictures by more."
        )
    if len(set(weights)) > 1 and widgets.direction == REF_TO_GEN:
        told.tell(
            "expected pictures of one weight with direction ref_to_gen, got several weights, which do nothing; choose "
            "another direction, or set weight of each Appearance Palette to 1."
        )


def _term(weight: float, window: Window, blocks: tuple[Block, ...]) -> Term | None:
    layers = layers_of(blocks)
    return Term(weight, window, layers) if weight > 0 and not window.empty and layers else None


def _palette_blocks(palette: Palette, family: str, available: tuple[Block, ...]) -> tuple[Block, ...]:
    """The palette's blocks in this model; raises ValueError where it has others."""
    known = {block.name for block in available}
    missing = [name for name in palette.blocks if name not in known]
    if palette.family != family or missing:
        raise ValueError(
            f"{NODE}: expected a palette of this model's family and blocks ({family}: "
            f"{', '.join(b.name for b in available)}), got one of {palette.family}: {', '.join(palette.blocks)}; make "
            "the palette with this model."
        )
    return parse(" ".join(palette.blocks), available, NODE)


def _check_template(template: Template, family: str, blocks: tuple[Block, ...]) -> None:
    """Raises ValueError for a template of another family, or one without maps of some of the blocks."""
    if template.family != family:
        raise ValueError(
            f"{NODE}: expected a template of this model's family, {family}, got one of {template.family}; make it "
            "with this model."
        )
    recorded = template.layers
    missing = [] if recorded is None else [block.name for block in blocks if not recorded.issuperset(block.layers)]
    if missing:
        raise ValueError(
            f"{NODE}: expected a template with maps of {', '.join(missing)}, got one without; set blocks of "
            "Layout Template to all, or leave these out of layout_blocks."
        )
