"""Retouches of tiny models, and layouts and references to feed them."""

from __future__ import annotations

from dataclasses import fields

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.features.lending import SEQUENTIAL, Lending
from likeness.patching.features.references import NOISED, Reference
from likeness.patching.host.attach import attach
from likeness.patching.host.families import discover, family_of, preset
from likeness.patching.host.family import LATE
from likeness.patching.host.passes import sample
from likeness.patching.layout_and_retouch.mask import SubjectMask
from likeness.patching.layout_and_retouch.retouch import Retouch
from likeness.patching.layout_and_retouch.settings import NODE, RetouchSettings
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler

STEPS = 3
POSITIVE, NEGATIVE, NEUTRAL = 10, 11, 12


def reference(model, seed=20, height=8, width=8, kind=NOISED, mask=None, weight=1.0, tokens=7) -> Reference:
    prompt = conditioning(model, tokens=tokens, seed=NEUTRAL)
    return Reference(latent(1, height, width, seed), prompt, kind, seed, mask, weight, inversion_steps=1)


def layout(model, vanilla=None, batch=1, switch=0, record="", sampler="euler", steps=STEPS, height=8, width=8, seed=3):
    """The latent and the trajectory of a step-blended run."""
    guider = StepBlendedGuider(vanilla or model, model, Switch(steps=switch), record_blocks=record)
    guider.set_blended_conds(
        conditioning(model, seed=13), conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)
    )
    guider.set_cfg(4.0)
    empty = {"samples": torch.zeros(batch, 4, height, width)}
    return sample(guider, empty, seed, steps, sampler, "normal", 1.0, "test")["samples"], guider.trajectory


def mask(height=8, width=8, value=None, **options) -> SubjectMask:
    subject = torch.zeros(1, height, width, dtype=torch.bool)
    subject[:, 2:6, 2:6] = True
    fixed = subject.float() if value is None else torch.full((1, height, width), value)
    return SubjectMask(subject, fixed, **options)


def disc(height=64, width=64, radius=20):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (((y - height / 2) ** 2 + (x - width / 2) ** 2) < radius**2).float()[None]


_SETTINGS = {field.name for field in fields(RetouchSettings)}


def retouched(model, references=(), blocks=None, **options):
    """The MODEL with a Retouch on it. blocks: names, by default the paper's. options: its settings and fields."""
    family, every = family_of(model, "test"), discover(model, "test")
    names = preset(model, LATE, "test") if blocks is None else blocks
    chosen = tuple(b for b in every if b.name in names)
    options = {"lambda_2": 1, "lambda_3": 1, "mode": SEQUENTIAL, "mask_blocks": every, **options}
    settings = RetouchSettings(**{name: value for name, value in options.items() if name in _SETTINGS})
    others = {name: value for name, value in options.items() if name not in _SETTINGS}
    lending = Lending(NODE, family, chosen, tuple(references), settings.mode)
    return attach(model, Retouch(settings, lending, every, **others))


def run(model, batch=1, sampler="euler", steps=STEPS, height=8, width=8, prompt=POSITIVE, **settings):
    empty = {"samples": torch.zeros(batch, 4, height, width)}
    positive, negative = conditioning(model, seed=prompt), conditioning(model, seed=NEGATIVE)
    return run_ksampler(model, positive, negative, empty, sampler=sampler, steps=steps, seed=3, **settings)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4 * float(b.abs().max()))


def counting(model):
    """The MODEL, and a list that gets the rows of each of its calls."""
    calls, clone = [], model.clone()
    # Around the network itself: what is around the host's call does not see those that a patch makes.
    clone.add_wrapper(WrappersMP.DIFFUSION_MODEL, _Counter(calls))
    return clone, calls


class _Counter:
    likeness_identity = None  # it only watches

    def __init__(self, calls: list):
        self._calls = calls

    def __call__(self, executor, x, *args, **kwargs):
        self._calls.append(len(x))
        return executor(x, *args, **kwargs)


def levels(model, steps=STEPS) -> list[float]:
    return comfy.samplers.KSampler(model, steps, model.load_device, "euler", "normal").sigmas.tolist()
