"""Gradients that are not finite, that overflow, or that find too little memory."""

import functools
import logging
import weakref

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.host import frozen_autograd
from likeness.patching.host.attach import bare
from likeness.patching.pick_and_draw import reading as guidance_reading
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    SCHEDULE,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def test_a_gradient_that_is_no_number_moves_nothing(monkeypatch, caplog):
    model, noise = model_of(), noise_of(3, 4)
    patched, _ = guided(model, palette(model))
    expected = torch.cat([sampled(model, noise=noise)[:1], sampled(patched, noise=noise)[1:]])
    take, broken = guidance_run.gradient, []

    def gradient(*args, **kwargs):
        found = take(*args, **kwargs)
        broken.append(float("nan") if len(broken) % 2 else float("inf"))
        found.latents[0, 1, 2, 3] = broken[-1]
        return found

    monkeypatch.setattr(guidance_run, "gradient", gradient)
    with caplog.at_level(logging.WARNING):
        found = sampled(patched, noise=noise)
    assert len(broken) == 2 and relative(found, expected) < 1e-5
    assert [r.getMessage() for r in caplog.records].count(
        "Subject Guidance: a gradient was not finite, so its step was skipped; later ones are skipped without a "
        "warning."
    ) == 1


def test_with_little_memory_the_same_is_computed_again(monkeypatch):
    """Keeps activations, recomputes them, and recomputes them after running out of memory.

    Nothing of the first attempt may be left by then.
    """
    model, given = model_of(), None
    given = palette(model)
    patched, log = guided(model, given, recorded())
    expected, losses, take = sampled(patched, schedule=SCHEDULE[:2]), log.entries, guidance_run.gradient
    monkeypatch.setattr(guidance_run, "gradient", functools.partial(take, checkpointed=True))
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    monkeypatch.setattr(guidance_run, "gradient", take)
    attempts, uremd = [], guidance_reading.uremd

    def short(features, *args, **kwargs):
        attempts.append(weakref.ref(features._base))
        if len(attempts) == 1:
            raise torch.OutOfMemoryError("out of memory")
        assert attempts[0]() is None
        return uremd(features, *args, **kwargs)

    monkeypatch.setattr(guidance_reading, "uremd", short)
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    assert len(attempts) == 4 and len(log.entries) == len(losses) == 1


def test_too_little_memory_once_is_enough_to_know(monkeypatch):
    model, asked = model_of(), []
    patched, _ = guided(model, palette(model))
    take = guidance_run.gradient

    def gradient(*args, checkpointed, **kwargs):
        asked.append(checkpointed)
        return take(*args, checkpointed=checkpointed, **kwargs)._replace(checkpointed=True)

    monkeypatch.setattr(guidance_run, "gradient", gradient)
    run(patched, steps=3)
    run(patched, steps=1)
    assert asked == [False, True, True, False]


def test_a_gradient_that_overflows_is_taken_again_without_scale(monkeypatch):
    model = model_of()
    patched, log = guided(model, palette(model), recorded())
    expected = sampled(patched, schedule=SCHEDULE[:2])
    monkeypatch.setattr(frozen_autograd, "_LOSS_SCALES", (float("inf"), 1.0))
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    assert len(log.entries) == 1


def test_the_host_plans_for_the_gradients_memory():
    model, seen, shapes = model_of(), [], []

    def planned(executor, model, noise_shape, *args, **kwargs):
        seen.append(list(noise_shape))
        return executor(model, noise_shape, *args, **kwargs)

    for made in (model, guided(model, palette(model))[0], bare(guided(model, palette(model))[0])):
        watched = made.clone()
        watched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "watch", planned)
        run(watched)
        shapes.append(seen[-1])
    assert [shape[0] for shape in shapes] == [1, 2, 1]
