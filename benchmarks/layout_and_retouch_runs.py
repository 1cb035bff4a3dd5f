"""Runs of Layout-and-Retouch whose time and memory are measured, each beside a plain run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
from .networks import Network
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, plain

MODES = (BANKED, BATCHED, SEQUENTIAL)


def retouch_variants(network: Network) -> list[Variant]:
    """Variants: a retouch at each step in every mode, with reference and mask, and the whole method."""
    modes = [(f"retouch, {mode}", f"retouch_step_{mode}_ratio", steps_of(network, mode)) for mode in MODES]
    appended = steps_of(network, BANKED, "append", 3.0)
    return [
        *(_beside_plain(network, *mode) for mode in modes),
        _beside_plain(network, "retouch, banked, appended with a weight", "retouch_step_appended_ratio", appended),
        _beside_plain(network, "layout, preparation and retouch", "whole_ratio", lambda: whole(network)),
    ]


def kept_variants(network: Network) -> list[Variant]:
    """The whole method with a reference that outlives the runs; the first run inverts it and reads its features."""
    kept = new_reference(network, Recipe().weight)
    name = "layout and retouch, reference kept"
    return [_beside_plain(network, name, "whole_kept_ratio", lambda: whole(network, kept))]


def _beside_plain(network: Network, name: str, figure: str, run: Callable[[], object]) -> Variant:
    model, text = network.personalized, network.personalized_positive
    return Variant(name, figure, model, run, lambda: plain(network, model, text))


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
    return retouch(network.personalized, new_reference(network, weight), trajectory, mask(network), settings)


def whole(network: Network, known: References | None = None):
    """Runs the whole method: layout, inversion of a reference, the subject's map and mask, and the retouch.

    Step counts are the shipped workflow's, scaled to the network's number of steps; the blocks are the paper's. known:
    a reference that an earlier run may have inverted; by default a new one.
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
        None, maps.heatmaps, PER_STEP, network.clip, network.text, network.word, network.map_blocks, rules
    )
    settings = RetouchSettings(
        early_swap=FORK,
        lambda_2=part(recipe.lambda_2),
        lambda_3=part(recipe.lambda_3),
        attention=recipe.attention,
        mode=BANKED,
    )
    known = known or new_reference(network, recipe.weight)
    patched = retouch(network.personalized, known, trajectory, subject, settings)
    return plain(network, patched, network.personalized_positive)


def layout(network: Network, record: str, switch_step: int):
    guider = StepBlendedGuider(network.model, network.personalized, Switch(steps=switch_step), "bench", record)
    guider.set_blended_conds(network.positive, network.personalized_positive, network.negative)
    guider.set_cfg(CFG)
    return sample(guider, network.latent, SEED, network.steps, SAMPLER, SCHEDULER, 1.0, "bench"), guider.trajectory


def new_reference(network: Network, weight: float) -> References:
    """Makes a reference whose inversion has as many steps as the run; by default both have 50."""
    return inverted_alike(network, picture(network, weight))


def inverted_alike(network: Network, references: References) -> References:
    """The references, whose inversions shall have as many steps as the run."""
    return References(tuple(replace(item, inversion_steps=network.steps) for item in references.items))


def picture(network: Network, weight: float = 1.0) -> References:
    """Makes a reference of random pixels, as large as the target, whose subject covers a quarter of it."""
    side = network.side
    generator = torch.Generator().manual_seed(SEED)
    latent = {"samples": torch.randn(1, network.channels, side, side, generator=generator)}
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
        subject, subject.float(), tokens=where.tokens, prompt_length=tokens, blocks=network.map_blocks, node="bench"
    )
