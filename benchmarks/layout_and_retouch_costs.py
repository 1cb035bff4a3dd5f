"""Cost of the retouch in time and memory, as ratios to plain sampling in the same run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..kernels.layout_and_retouch import MaskRules
from ..patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from ..patching.features.references import INVERTED, Reference, References
from ..patching.features.word_maps import word_maps
from ..patching.host.passes import sample
from ..patching.host.window import Window
from ..patching.host.words import find_word
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.mask import PER_STEP, SubjectMask, build_mask
from ..patching.layout_and_retouch.settings import FORK, NONE, RetouchSettings
from ..patching.layout_and_retouch.step_blended import StepBlendedGuider
from ..patching.layout_and_retouch.switch import Switch
from .generate import Settings as Sampling
from .layout_and_retouch_comparison import MAP_LEVELS, Recipe
from .memory import peak_bytes
from .networks import Network
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, plain

MODES = (BANKED, BATCHED, SEQUENTIAL)


def retouch_variants(network: Network) -> list[Variant]:
    """Variants: a retouch at each step in every mode, with reference and mask, and the whole method."""

    def reference():
        return plain(network, network.personalized, network.personalized_positive)

    def variant(name: str, figure: str, run: Callable[[], object]) -> Variant:
        return Variant(name, figure, network.personalized, run, reference)

    return [
        *(variant(f"retouch, {mode}", f"retouch_step_{mode}_ratio", steps_of(network, mode)) for mode in MODES),
        variant(
            "retouch, banked, appended with a weight",
            "retouch_step_appended_ratio",
            steps_of(network, BANKED, "append", 3.0),
        ),
        variant("layout, preparation and retouch", "whole_ratio", lambda: whole(network)),
    ]


def steps_of(network: Network, mode: str, attention: str = "replace", weight: float = 1.0) -> Callable[[], object]:
    """Makes a run that retouches every step; its first call fills the banks."""
    patched = at_strength(network, 1.0, mode, attention, weight)
    return lambda: plain(network, patched, network.personalized_positive)


def at_strength(network: Network, strength: float, mode: str = BANKED, attention: str = "replace", weight: float = 1.0):
    """Patches the personalized model to retouch every step with reference and mask."""
    # Switch 0: every mode reads the steps of a vanilla model, which would hide the cost of these steps.
    _, trajectory = layout(network, "paper" if mode == BANKED else "", 0)
    settings = RetouchSettings(
        early_swap=NONE, lambda_2=0, lambda_3=0, attention=attention, mode=mode, strength=strength
    )
    return retouch(network.personalized, picture(network, weight), trajectory, mask(network), settings)


def whole(network: Network):
    """Runs the whole method: layout, inversion of a new reference, the subject's map and mask, and the retouch.

    Step counts are the shipped workflow's, scaled to the network's number of steps; the blocks are the paper's.
    """
    recipe = Recipe()

    def part(steps: int) -> int:
        return max(1, round(steps * network.steps / Sampling().steps))

    made, trajectory = layout(network, "paper", part(recipe.switch_step))
    maps = word_maps(
        network.personalized,
        network.clip,
        made,
        text=network.text,
        word=network.word,
        blocks="all",
        group_by="together",
        window=Window(0.2, 0.8),
        levels=part(MAP_LEVELS),
        seed=SEED,
    )
    rules = MaskRules(threshold=recipe.threshold)
    subject = build_mask(
        None, maps.heatmaps, PER_STEP, network.clip, network.text, network.word, recipe.map_blocks, rules
    )
    settings = RetouchSettings(
        early_swap=FORK,
        lambda_2=part(recipe.lambda_2),
        lambda_3=part(recipe.lambda_3),
        attention=recipe.attention,
        mode=BANKED,
    )
    patched = retouch(network.personalized, picture(network, recipe.weight), trajectory, subject, settings)
    return plain(network, patched, network.personalized_positive)


def layout(network: Network, record: str, switch_step: int):
    guider = StepBlendedGuider(network.model, network.personalized, Switch(steps=switch_step), "bench", record)
    guider.set_blended_conds(network.positive, network.personalized_positive, network.negative)
    guider.set_cfg(CFG)
    return sample(guider, network.latent, SEED, network.steps, SAMPLER, SCHEDULER, 1.0, "bench"), guider.trajectory


def picture(network: Network, weight: float = 1.0) -> References:
    """Makes a reference of random pixels, as large as the target, whose subject covers a quarter of it."""
    side = network.side
    latent = {"samples": torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(SEED))}
    subject = torch.zeros(8 * side, 8 * side)
    subject[2 * side : 6 * side, 2 * side : 6 * side] = 1
    return References((Reference(latent, network.personalized_positive, INVERTED, SEED, subject, weight),))


def mask(network: Network) -> SubjectMask:
    side = network.side
    subject = torch.zeros(1, 8 * side, 8 * side, dtype=torch.bool)
    subject[:, 2 * side : 6 * side, 2 * side : 6 * side] = True
    where = find_word(network.clip, network.text, network.word, "bench")
    tokens = network.personalized_positive[0][0].shape[1]
    return SubjectMask(
        subject, subject.float(), tokens=where.tokens, prompt_length=tokens, blocks="decoder", node="bench"
    )


def memory_ratios(network: Network) -> dict[str, float]:
    """Peak tensor memory of each variant, as a ratio to a plain run's."""
    variants, figures = retouch_variants(network), {}
    variants[0].reference()  # patches the weights
    base = peak_bytes(variants[0].reference)
    for variant in variants:
        variant.sample()  # fills banks
        figures[variant.figure.replace("_ratio", "_memory_ratio")] = peak_bytes(variant.sample) / base
    return figures
