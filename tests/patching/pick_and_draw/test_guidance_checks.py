"""UREMD guidance: what it refuses, warns of, plans for, and leaves alone."""

import itertools
import logging

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from likeness.patching.host.attach import bare
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    SIDE,
    encoded,
    guided,
    levels,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def warnings_of(caplog) -> list[str]:
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelno == logging.WARNING and r.getMessage().startswith("UREMDGuidance")
    ]


def test_a_run_as_it_should_be_warns_of_nothing(caplog):
    model = model_of()
    run(guided(model, palette(model), recorded())[0])
    assert warnings_of(caplog) == []


def test_another_prompt_than_the_samplers_is_told(caplog):
    model = model_of()
    run(guided(model, palette(model))[0], positive=encoded("a red cat in the snow"))
    (message,) = warnings_of(caplog)
    assert "expected text to be the sampler's positive prompt, got another one" in message
    caplog.clear()
    run(guided(model, palette(model))[0], positive=encoded("a red cat in the snow") + encoded(PROMPT))
    assert warnings_of(caplog) == []


def test_a_loss_without_steps_is_told(caplog):
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), layout_end=0.3)
    run(patched, denoise=0.5)
    (message,) = warnings_of(caplog)
    assert "between layout_start and layout_end, got none" in message
    assert log.entries and all(entry.keys() == {"appearance"} for _, entry in log.entries)


def test_a_run_without_any_step_to_guide_is_told(caplog):
    model = model_of()
    sampled(guided(model, palette(model), recorded(), layout_end=0.01, appearance_start=0.99)[0], schedule=(3.0, 1.75))
    assert [
        name in message for name, message in zip(("appearance_start", "layout_start"), warnings_of(caplog), strict=True)
    ] == [True] * 2


def test_it_refuses_a_prompt_for_an_area():
    model = model_of()
    (text, rest), other = encoded(PROMPT)[0], encoded("a chair")[0]
    area = {"area": (8, 16, 0, 0), "strength": 1.0}
    patched = guided(model, palette(model), recorded())[0]
    with pytest.raises(
        ValueError,
        match=r"^UREMDGuidance: expected a prompt for the whole picture, .*; remove ConditioningSetArea from",
    ):
        sampled(patched, positive=[[text, {**rest, **area}]])
    beside = [[text, rest], [other[0], {**other[1], **area}]]  # what is not guided may have one
    assert torch.isfinite(sampled(patched, positive=beside)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.0}, "expected threshold below 1, got 1, which no place is above"),
        ({"word": "dog"}, "expected a word of the prompt (a, photo, of, red, cat, on, table), got 'dog'"),
    ],
)
def test_it_refuses_widgets_that_cannot_work(changes, message):
    model = model_of()
    with pytest.raises(ValueError, match=r"^UREMDGuidance: ") as failure:
        guided(model, palette(model), recorded(), **changes)
    assert message in str(failure.value)


def test_it_refuses_neither_palette_nor_template():
    with pytest.raises(
        ValueError, match="expected a palette or a template, got neither; connect AppearancePalette or LayoutTemplate"
    ):
        guided(model_of())


def test_it_refuses_a_template_of_another_shape():
    model = model_of()
    patched, _ = guided(model, None, recorded())
    wide = torch.cat([noise_of(3), noise_of(4)], 3)
    with pytest.raises(
        ValueError, match=f"^UREMDGuidance: expected a template of the latent's shape, {2 * SIDE} x {SIDE}, got one of"
    ):
        run(patched, noise=wide)
    two = noise_of(3, 4)
    run(patched, noise=two)  # one layout for all images
    both = recorded()
    patched, _ = guided(
        model,
        None,
        type(both)(both.family, {la: {s: m.repeat(3, 1, 1) for s, m in x.items()} for la, x in both.maps.items()}),
    )
    with pytest.raises(ValueError, match="expected a template of 1 image or 2"):
        run(patched, noise=two)


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_it_refuses_a_model_that_answers_from_a_cache(node):
    model = model_of()
    given = palette(model)
    cached = node.execute(model, 0.2, 0.15, 0.95, False)[0]
    name = node.__name__.removesuffix("Node")
    with pytest.raises(
        ValueError, match=f"^UREMDGuidance: expected a model that runs at every step, got one with {name}"
    ):
        run(guided(cached, given)[0])


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


def test_what_inpainting_keeps_is_not_moved():
    model, mask = model_of(), torch.zeros(1, 1, SIDE, SIDE)
    mask[..., SIDE // 2 :] = 1
    moves = []
    step_of = guidance_run.step_of_gradient
    patched, _ = guided(model, palette(model), recorded(), step_size=0.05)

    def step_of_gradient(latent, *args, **kwargs):
        moves.append((latent, step_of(latent, *args, **kwargs)))
        return moves[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance_run, "step_of_gradient", step_of_gradient)
        guider = comfy.samplers.CFGGuider(patched)
        guider.set_conds(encoded(PROMPT), encoded(""))
        guider.set_cfg(4.0)
        noise, known = noise_of(3), noise_of(8)
        sampler, schedule = comfy.samplers.sampler_object("euler"), torch.tensor(levels(model, 3))
        found = guider.sample(noise, known, sampler, schedule, denoise_mask=mask, disable_pbar=True, seed=0)
    assert len(moves) == 3
    for latent, step in moves:
        assert not step[..., : SIDE // 2].any()
        assert float(step.norm()) == pytest.approx(0.05 * float(latent[..., SIDE // 2 :].norm()), rel=1e-4)
    torch.testing.assert_close(found[..., : SIDE // 2], known[..., : SIDE // 2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["dpm_2", "dpmpp_2s_ancestral", "dpm_fast", "dpm_adaptive"])
def test_calls_between_levels_are_not_shifted_without_bounds(sampler):
    """From such a call's own level the rest of the step may be next to nothing."""
    model, shifts = model_of(), []
    shift_of = guidance_run.denoised_shift
    patched, _ = guided(model, palette(model), step_size=0.02)

    def denoised_shift(step, sigma, following):
        shifts.append(following / sigma)
        return shift_of(step, sigma, following)

    schedule = [float(s) for s in torch.linspace(3.0, 1.0, 9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance_run, "denoised_shift", denoised_shift)
        found = sampled(patched, noise=noise_of(3, side=8), schedule=schedule, sampler=sampler)
    ratios = {round(b / a, 4) for a, b in itertools.pairwise(schedule)} | {0.0}
    assert shifts and {round(ratio, 4) for ratio in shifts} <= ratios
    assert (
        torch.isfinite(found).all()
        and relative(found, sampled(model, noise=noise_of(3, side=8), schedule=schedule, sampler=sampler)) < 1
    )


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
