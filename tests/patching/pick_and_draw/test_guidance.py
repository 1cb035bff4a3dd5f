"""Guided runs of tiny U-Nets: neutral settings, batches, and the steps that are guided."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_sag import SelfAttentionGuidance
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.patching.pick_and_draw.template import Template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    SCHEDULE,
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
    template,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


NEUTRAL = {
    "weights": {"appearance_weight": 0.0, "layout_weight": 0.0},
    "step": {"step_size": 0.0},
    "windows": {"appearance_start": 0.5, "appearance_end": 0.5, "layout_start": 0.9, "layout_end": 0.2},
    "blocks": {"appearance_weight": 0.0, "layout_blocks": ""},
}


@pytest.mark.parametrize("neutral", NEUTRAL)
def test_neutral_settings_change_no_bit(neutral):
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), **NEUTRAL[neutral])
    assert not any(patched.wrappers.values()) and patched.model_options == model.model_options and patched is not model
    assert torch.equal(run(patched), run(model)) and not log.entries


def test_a_step_of_almost_nothing_changes_almost_nothing():
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), step_size=1e-7)
    assert relative(sampled(patched), sampled(model)) < 1e-5 and len(log.entries) == 2


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_host_may_run_cond_and_uncond_apart(family):
    model = model_of(family)
    patched, _ = guided(model, palette(model, family), recorded(family), family)
    together, apart = (sampled(patched, family, apart=a) for a in (False, True))
    assert relative(apart, together) < 1e-5 < 0.02 < relative(together, sampled(model, family))


class OneByOne(comfy.samplers.CFGGuider):
    """A guider that evaluates its conditionings in calls of their own, the negative first."""

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        without, given = (
            comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, model_options)[0]
            for name in ("negative", "positive")
        )
        return without + self.cfg * (given - without)


def test_a_guider_may_evaluate_its_conditionings_one_by_one():
    model = model_of()
    patched, log = guided(model, palette(model))
    expected = sampled(patched)
    assert relative(sampled(patched, guider=OneByOne), expected) < 1e-5
    assert len(log.entries) == 2  # the gradient is taken once for both


@pytest.mark.parametrize(("family", "images"), [("sd1", 3), ("sdxl", 1)])
def test_images_of_a_batch_do_not_see_each_other(family, images):
    """images: of the template."""
    model, seeds, schedule = model_of(family), (3, 4, 5), SCHEDULE[:2]
    given, wanted = palette(model, family), template(model, family, batch=images, steps=1)
    patched, log = guided(model, given, wanted, family)
    together = sampled(patched, family, noise=noise_of(*seeds), schedule=schedule)
    losses = log.entries[0][1]
    for i, seed in enumerate(seeds):
        maps = {la: {s: m[min(i, images - 1)][None] for s, m in found.items()} for la, found in wanted.maps.items()}
        patched, log = guided(model, given, Template(wanted.family, maps), family)
        assert relative(together[i : i + 1], sampled(patched, family, noise=noise_of(seed), schedule=schedule)) < 1e-4
        for name in ("appearance", "layout"):
            torch.testing.assert_close(losses[name][i : i + 1], log.entries[0][1][name], rtol=1e-4, atol=1e-6)


def test_windows_and_every_choose_the_steps():
    model, noise = model_of(), noise_of(3, side=8)
    given = palette(model)
    sigmas = levels(model, 5)[:-1]
    for changes, appearance, layout in (
        ({"every": 2}, [0, 2, 4], [0, 2, 4]),
        ({"appearance_end": 0.4, "layout_start": 0.6}, [0, 1], [3, 4]),
        ({"appearance_start": 0.2, "layout_end": 0.6, "every": 3}, [3], [0]),
    ):
        patched, log = guided(model, given, recorded(), **changes)
        run(patched, steps=5, noise=noise)
        found = [
            [sigmas.index(sigma) for sigma, entry in log.entries if name in entry] for name in ("appearance", "layout")
        ]
        assert found == [appearance, layout], changes


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


def test_a_denoised_blurred_picture_is_not_guided():
    model = model_of()
    beside = SelfAttentionGuidance.execute(model, 0.5, 2.0)[0]
    patched, log = guided(beside, palette(model), recorded())
    found = run(patched, steps=4)
    assert len(log.entries) == 4
    assert torch.isfinite(found).all() and not torch.equal(
        found, run(guided(model, palette(model), recorded())[0], steps=4)
    )


def test_half_precision():
    model, exact = model_of(dtype=torch.float16), model_of()
    given = palette(model)
    found = sampled(guided(model, given, recorded())[0])
    assert {values.dtype for _, _, values in given.references.items[0].bank.items()} == {torch.float16}
    assert torch.isfinite(found).all()
    assert (
        relative(found, sampled(guided(exact, palette(exact), recorded())[0])) < 0.02 < relative(found, sampled(model))
    )
