"""Time of a hook that does nothing, and of references from a bank, on the demo transformer."""

from __future__ import annotations

from dataclasses import replace

from comfy.ldm.lumina.model import NextDiT

from ..demo.world.subjects import PersonalSubject
from ..patching.features.positions import BESIDE
from ..patching.features.taps import CrossAttentionTap
from ..patching.host.attach import attach
from ..patching.host.blocks import parse
from ..patching.host.families import discover, family_of
from ..patching.host.window import Window
from .networks import Network, network
from .overhead import Discard
from .timing import Variant, compare, plain
from .transformers_comparison import NODE, Drawn

IDLE, BANKED_APPEND = "idle_ratio", "banked_append_ratio"


def costs_of(drawn: Drawn, subject: PersonalSubject, seconds: float) -> dict[str, float]:
    """Ratios of time to plain sampling, with the ends of their intervals, and the ratio of multiplications."""
    side, steps = drawn.settings.size // 8, drawn.settings.steps
    timed = network("demo transformer", "", drawn.model, drawn.model, drawn.clip, subject.subject.name, side, steps)
    figures = {}
    for timing in compare(variants(timed, drawn, subject), seconds):
        for end, value in zip(("", "_low", "_high"), timing.ratio, strict=True):
            figures[f"{timing.variant.figure}{end}"] = value
    return figures | {"banked_append_flops_ratio": flops_ratio(drawn)}


def variants(timed: Network, drawn: Drawn, subject: PersonalSubject) -> list[Variant]:
    """A tap of no layer, whose hook sees every attention and leaves it alone; and references appended from a bank."""
    tokens = timed.positive[0][0].shape[1]
    empty = tuple(replace(block, depth=0) for block in discover(timed.model, NODE))
    family = family_of(timed.model, NODE)
    tap = CrossAttentionTap(NODE, family, empty, Discard(), Window(), tokens=(1,), prompt_length=tokens)
    idle, appended = attach(timed.model, tap), drawn.appended(subject, BESIDE)

    def reference():
        return plain(timed, timed.model)

    return [
        Variant("hook without a layer", IDLE, timed.model, lambda: plain(timed, idle), reference),
        Variant("references from a bank", BANKED_APPEND, timed.model, lambda: plain(timed, appended), reference),
    ]


def flops_ratio(drawn: Drawn) -> float:
    """Multiplications of a model call with appended keys, as a ratio to those of a plain call."""
    net = drawn.model.get_model_object("diffusion_model")
    assert isinstance(net, NextDiT)
    text, side = drawn.encode([""])[0][0].shape[1], drawn.settings.size // 8 // net.patch_size
    picture = side * side
    chosen = {layer for b in parse(drawn.recipe.blocks, discover(drawn.model, NODE), NODE) for layer in b.layers}

    def of(blocks, tokens: int) -> float:
        weights = sum(
            weight.numel()
            for block in blocks
            for name, weight in block.named_parameters()
            if weight.ndim == 2 and "adaLN" not in name
        )
        return tokens * weights + len(blocks) * 2 * tokens * tokens * net.dim

    whole = of(net.layers, text + picture) + of(net.noise_refiner, picture) + of(net.context_refiner, text)
    # The prompt's queries see no reference.
    return 1 + len(chosen) * 2 * picture * picture * drawn.recipe.pictures * net.dim / whole
