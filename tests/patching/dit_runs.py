"""Runs of tiny diffusion transformers with one reading or change of their attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from likeness.patching.host.attach import attach
from likeness.patching.host.blocks import layers_of
from likeness.patching.host.families import discover, family_of
from likeness.patching.host.window import ALWAYS, Window
from likeness.tests.patching import tiny_dits


@dataclass(frozen=True, eq=False)
class WithOptions:
    """A patch that gives every model call other options."""

    change: Callable[[dict], dict]
    node: str = "Test"
    window: Window = ALWAYS

    def __call__(self, call, forward):
        return forward(replace(call, options=self.change(call.options)))


def layers(model):
    return layers_of(discover(model, "Test"))


def tapped(model, read, outputs=False):
    """The MODEL with a reading of every layer's attention."""
    family, every = family_of(model, "Test"), layers(model)
    return attach(model, WithOptions(lambda o: family.tap_attention(o, every, read, outputs)))


def changed(model, *changes):
    """The MODEL with changes of every layer's attention."""
    family, every = family_of(model, "Test"), layers(model)

    def options(given):
        for change in changes:
            given = family.change_self_attention(given, every, change)
        return given

    return attach(model, WithOptions(options))


def run(model, family, height=8, width=8, rows=1, tokens=7, **settings):
    """Two steps of KSampler."""
    image = tiny_dits.latent(family, rows, height, width)
    positive = tiny_dits.conditioning(tokens=tokens, seed=10)
    return tiny_dits.run_ksampler(model, family, positive, latent_image=image, **{"steps": 2, **settings})


class Counting:
    """Another pack's override, which counts its calls by block and multiplies their outputs."""

    def __init__(self, factor: float = 1.0):
        self.calls: dict[Any, int] = {}
        self.factor = factor

    def __call__(self, func, *args, **kwargs):
        options = kwargs["transformer_options"]
        block = (options.get("block_type"), options.get("block_index"))
        self.calls[block] = self.calls.get(block, 0) + 1
        return func(*args, **kwargs) * self.factor

    def on(self, model):
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = self
        return clone
