"""Retouches of tiny diffusion transformers, and layouts and references to feed them."""

from __future__ import annotations

import torch
from likeness.patching.features.lending import SEQUENTIAL
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.host.passes import sample
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import NONE, RetouchSettings
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.tiny_dits import conditioning, latent, run_ksampler

STEPS = 2
POSITIVE, NEGATIVE, NEUTRAL = 10, 11, 12


def reference(family, seed=20, mask=None, weight=1.0, tokens=7, height=8, width=8) -> Reference:
    picture, prompt = latent(family, 1, height, width, seed), conditioning(tokens=tokens, seed=NEUTRAL)
    return Reference(picture, prompt, NOISED, seed, mask, weight)


def masked(family, **options) -> Reference:
    """A reference whose left half alone is the subject."""
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    return reference(family, mask=half, **options)


def retouched(model, references, layout=None, mask=None, *, vanilla=None, **settings):
    """The MODEL with a retouch of all its blocks on it."""
    if layout is None:
        settings = {"early_swap": NONE, "lambda_2": 0, **settings}
    chosen = RetouchSettings(**{"mode": SEQUENTIAL, "blocks": "all", "lambda_2": 1, "lambda_3": 1, **settings})
    return retouch(model, References(tuple(references)), layout, mask, chosen, vanilla_model=vanilla)


def layout(model, family, vanilla=None, switch=0, record="", rows=1):
    """The trajectory of a step-blended run."""
    guider = StepBlendedGuider(vanilla or model, model, Switch(steps=switch), record_blocks=record)
    guider.set_blended_conds(conditioning(seed=13), conditioning(seed=POSITIVE), conditioning(seed=NEGATIVE))
    guider.set_cfg(4.0)
    empty = {"samples": torch.zeros_like(latent(family, rows)["samples"])}
    sample(guider, empty, 3, STEPS, "euler", "simple", 1.0, "test")
    return guider.trajectory


def run(model, family, rows=1, height=8, width=8, **settings):
    """Two steps of KSampler over an empty latent."""
    empty = {"samples": torch.zeros_like(latent(family, rows, height, width)["samples"])}
    return run_ksampler(model, family, latent_image=empty, **{"steps": STEPS, **settings})


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4 * float(b.abs().max()))


def far(a, b) -> bool:
    return float((a - b).abs().mean()) > 2e-4 * float(b.abs().mean())
