"""Forked steps: under every sampler, scheduler and guider of the host the target is the layout until lambda_2."""

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from likeness.patching.features.lending import SEQUENTIAL
from likeness.patching.features.references import NOISED
from likeness.patching.host.passes import sample
from likeness.patching.layout_and_retouch.settings import FORK, QKV_BOTH
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    mask,
    reference,
    retouched,
)
from likeness.tests.patching.tiny_models import ONE_LEVEL, conditioning, run_ksampler, tiny_model

STEPS = 3
ALL = comfy.samplers.KSampler.SAMPLERS


def layout(model, sampler="euler", scheduler="normal", seed=3, switch=0, vanilla=None):
    """A layout that the model draws alone with the target's prompts."""
    guider = StepBlendedGuider(vanilla or model, model, Switch(steps=switch))
    guider.set_blended_conds(
        conditioning(model, seed=13), conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)
    )
    guider.set_cfg(4.0)
    empty = {"samples": torch.zeros(1, 4, 8, 8)}
    return sample(guider, empty, seed, STEPS, sampler, scheduler, 1.0, "test")["samples"], guider.trajectory


def forked(model, trajectory, **options):
    return retouched(model, layout=trajectory, **{"early_swap": FORK, "lambda_2": 2, "lambda_3": 2, **options})


def run(model, sampler="euler", scheduler="normal", seed=3, **settings):
    prompts = {"positive": conditioning(model, seed=POSITIVE), "negative": conditioning(model, seed=NEGATIVE)}
    given = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}, **prompts, **settings}
    return run_ksampler(model, seed=seed, steps=STEPS, sampler=sampler, scheduler=scheduler, **given)


def apart(a, b) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("group", range(4))
def test_steps_of_every_sampler(group):
    """Forked steps cover two of three, and the seed of the target is another one: the result is the layout."""
    model, found = tiny_model(ONE_LEVEL), {}
    for sampler in ALL[group::4]:
        picture, trajectory = layout(model, sampler)
        found[sampler] = apart(run(forked(model, trajectory), sampler, seed=4), picture)
    assert all(distance < 1e-4 for distance in found.values()), found


def test_steps_of_every_scheduler():
    model, found = tiny_model(ONE_LEVEL), {}
    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        picture, trajectory = layout(model, "euler", scheduler)
        found[scheduler] = apart(run(forked(model, trajectory), "euler", scheduler, seed=4), picture)
    assert all(distance < 1e-4 for distance in found.values()), found


@pytest.mark.parametrize("sampler", ["heun", "dpm_2_ancestral", "euler_cfg_pp"])
def test_the_target_goes_its_own_way_from_lambda_2_on(sampler):
    """The network runs for the remaining steps alone, and there it counts."""
    model, calls = tiny_model("sd1"), []
    picture, trajectory = layout(model, sampler)

    def count(apply, given):
        calls.append(float(given["timestep"][0]))
        return apply(given["input"], given["timestep"], **given["c"])

    counted = model.clone()
    counted.set_model_unet_function_wrapper(count)
    result = run(forked(counted, trajectory, lambda_2=1, lambda_3=1), sampler, positive=conditioning(model, seed=30))
    assert max(calls) <= trajectory.schedule[1] * (1 + 1e-5)
    assert apart(result, picture) > 1e-3


def test_every_guider_forks():
    model = tiny_model("sd1")
    picture, trajectory = layout(model)
    positive, negative = conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)

    def of(kind, patched):
        guider = kind(patched)
        if kind is Guider_PerpNeg:
            guider.set_conds(positive, negative, conditioning(model, seed=31))
            guider.set_cfg(4.0, 1.0)
        elif kind is Guider_DualCFG:
            guider.set_conds(positive, conditioning(model, seed=31), negative)
            guider.set_cfg(4.0, 2.0)
        else:
            guider.set_conds(positive, negative)
            guider.set_cfg(4.0)
        return sample(guider, {"samples": torch.zeros(1, 4, 8, 8)}, 3, STEPS, "euler", "normal", 1.0, "test")["samples"]

    for kind in (comfy.samplers.CFGGuider, Guider_PerpNeg, Guider_DualCFG):
        assert apart(of(kind, forked(model, trajectory, lambda_2=STEPS, lambda_3=STEPS)), picture) < 1e-5
        part = of(kind, forked(model, trajectory))
        assert torch.isfinite(part).all() and float(part.std()) > 1e-2
        assert kind is comfy.samplers.CFGGuider or apart(part, of(kind, model)) > 1e-3
        literal = of(kind, forked(model, trajectory, early_swap=QKV_BOTH, references=[reference(model)]))
        assert torch.isfinite(literal).all() and float(literal.std()) > 1e-2


def in_parts(model, cuts, sampler="euler", **settings):
    """KSamplerAdvanced as often as there are parts: only the first adds noise, only the last removes all."""
    noise, samples = comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 3), torch.zeros(1, 4, 8, 8)
    positive, negative = conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)
    ends = [*cuts, STEPS]
    for start, end in zip([0, *cuts], ends, strict=True):
        samples = comfy.sample.sample(
            model,
            noise if start == 0 else torch.zeros_like(noise),
            STEPS,
            4.0,
            sampler,
            "normal",
            positive,
            negative,
            samples,
            start_step=start,
            last_step=end,
            disable_noise=start > 0,
            force_full_denoise=end == STEPS,
            disable_pbar=True,
            seed=3,
            **settings,
        )
    return samples


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("early", [FORK, QKV_BOTH])
def test_steps_are_counted_over_all_parts(early, cuts):
    """lambda_2 and lambda_3 count on the layout's noise levels, not from the first step of each run."""
    model = tiny_model("sd1")
    trajectory = layout(model)[1]
    patched = forked(
        model, trajectory, references=[reference(model)], mask=mask(), lambda_3=2, early_swap=early, mode=SEQUENTIAL
    )
    assert apart(in_parts(patched, cuts), run(patched)) < 1e-5


def test_a_picture_cannot_be_counted_over_parts():
    model = tiny_model("sd1")
    patched = forked(model, reference(model, kind=NOISED))
    with pytest.raises(ValueError, match="without noise that continues another; connect the TRAJECTORY"):
        in_parts(patched, (2,))


REFUSED = {
    "window": ({"start_percent": 0.1}, {}, "start_percent 0 for early_swap fork"),
    "noise": ({}, {"latent_image": {"samples": torch.zeros(2, 4, 8, 8)}}, "stay on the layout's latents"),
    "adaptive": ({"early_swap": QKV_BOTH}, {"sampler": "dpm_adaptive"}, "dpm_adaptive, which chooses its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exact_is_refused_before_the_network_runs(case):
    options, settings, words = REFUSED[case]
    model, calls = tiny_model("sd1"), []
    sampler = settings.get("sampler", "euler_ancestral")
    patched = forked(model, layout(model, sampler)[1], **options)
    patched.set_model_unet_function_wrapper(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=f"^Reference Retouch: .*{words}"):
        run(patched, **{"sampler": sampler, **settings})
    assert not calls


def test_a_guider_that_hides_its_predictions_is_refused():
    model = tiny_model("sd1")

    class Hiding(comfy.samplers.CFGGuider):
        def outer_predict_noise(self, *args, **kwargs):
            return self.predict_noise(*args, **kwargs)

    guider = Hiding(forked(model, layout(model)[1]))
    guider.set_conds(conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE))
    guider.set_cfg(4.0)
    with pytest.raises(ValueError, match="one that hides them"):
        sample(guider, {"samples": torch.zeros(1, 4, 8, 8)}, 3, STEPS, "euler", "normal", 1.0, "test")


def test_half_a_fork_lies_between():
    """Also for a sampler that steps with the answer without the prompt."""
    model = tiny_model("sd1")
    for sampler in ("euler", "euler_cfg_pp"):
        picture, trajectory = layout(model, sampler)
        other = conditioning(model, seed=30)
        plain = run(model, sampler, positive=other)
        distances = [
            apart(
                run(forked(model, trajectory, strength=s, lambda_2=STEPS, lambda_3=STEPS), sampler, positive=other), p
            )
            for s, p in ((1e-6, plain), (0.5, plain), (1.0, picture))
        ]
        assert distances[0] < 1e-4 < distances[1] and distances[2] < 1e-3
