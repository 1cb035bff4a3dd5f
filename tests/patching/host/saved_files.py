"""One whole file of each kind that the pack saves."""

from __future__ import annotations

import torch
from likeness.patching.features import reference_file, trajectory_file
from likeness.patching.features.bank import Key
from likeness.patching.features.references import INVERTED, NOISED, Reference, References
from likeness.patching.features.sources import Inverted
from likeness.patching.features.trajectory import Trajectory
from likeness.patching.host.blocks import Layer
from likeness.patching.host.window import Window
from likeness.patching.host.words import WordTokens
from likeness.patching.pick_and_draw import palette_file, template_file
from likeness.patching.pick_and_draw.null_text import NULL_TEXT
from likeness.patching.pick_and_draw.palette import Palette
from likeness.patching.pick_and_draw.subject import Subject
from likeness.patching.pick_and_draw.template import Template

FORMATS = (reference_file, trajectory_file, palette_file, template_file)
WEIGHTS = "0123456789abcdef"


def prompt() -> list:
    return [[torch.randn(1, 7, 8), {"pooled_output": torch.randn(1, 8), "guidance": 3.5}]]


def references(*kinds: str) -> References:
    items = []
    for kind in kinds:
        inverted = Inverted((0.0, 1.0, 2.0), tuple(torch.randn(3, 1, 4, 8, 8)), 2)
        item = Reference({"samples": torch.randn(1, 4, 8, 8)}, prompt(), kind, 3, torch.ones(64, 64))
        item.inversions[WEIGHTS] = inverted
        for conditional in (True, False):
            key = Key(WEIGHTS, "hidden", Layer("output", 3, 0), conditional, "" if conditional else "ab")
            item.bank.put(key, 1.0, torch.randn(1, 16, 4))
        items.append(item)
    return References(tuple(items))


def given(form):
    torch.manual_seed(0)
    if form is reference_file:
        return references(NOISED, INVERTED)
    if form is trajectory_file:
        parts = {name: tuple(torch.randn(2, 1, 4, 8, 8)) for name in ("latents", "denoised", "conditional")}
        made = Trajectory((2.0, 1.0), **parts, positive=prompt(), negative=prompt(), starts=(0, 1), schedule=(2.0, 1.0))
        made.bank.put(Key("", "hidden", Layer("output", 3, 0), True), 1.0, torch.randn(1, 16, 4))
        return made
    if form is palette_file:
        subjects = (Subject(WordTokens((2, 3), 7), 0.3, ("output3",)), None)
        made = references(NOISED, NULL_TEXT)
        return Palette(made, ("output3",), "SD 1.x", 8, Window(0.0, 0.5), subjects=subjects, empty_prompt=prompt())
    return Template("SD 1.x", {Layer("output", n, 0): {1.0: torch.rand(1, 8, 8)} for n in (3, 4)}, torch.rand(1, 8, 8))
