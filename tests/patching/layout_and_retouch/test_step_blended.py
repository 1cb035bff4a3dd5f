"""Step-blended denoising on tiny real U-Nets: what each model contributes, and what a run leaves behind."""

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import pytest
import torch
from likeness.patching.features.trajectory import Trajectory
from likeness.patching.host import passes
from likeness.patching.layout_and_retouch import step_blended
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.tiny_models import ONE_LEVEL, conditioning, run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora, zeros

STEPS = 4


def blended(
    vanilla,
    personalized,
    switch,
    *,
    sampler="euler",
    cfg=4.0,
    batch=1,
    denoise=1.0,
    noise_mask=None,
    rows=None,
    **other,
):
    """Samples and guider of a step-blended run, with the prompts that `alone` gives each model."""
    guider = StepBlendedGuider(vanilla, personalized, switch)
    seed = 0 if other.get("same_prompt") else 2
    guider.set_blended_conds(
        conditioning(vanilla, seed=0), conditioning(vanilla, seed=seed), conditioning(vanilla, seed=1)
    )
    guider.set_cfg(cfg)
    start = {"samples": zeros(batch)} if rows is None else {"samples": rows}
    if noise_mask is not None:
        start["noise_mask"] = noise_mask
    return passes.sample(guider, start, 3, other.get("steps", STEPS), sampler, "normal", denoise, "test")[
        "samples"
    ], guider


def alone(model, personalized: bool, **settings):
    image = {"samples": zeros(settings.pop("batch", 1))}
    positive = conditioning(model, seed=2 if personalized else 0)
    return run_ksampler(model, positive, conditioning(model, seed=1), image, **{"steps": STEPS, **settings})


def models_of(pair, family=ONE_LEVEL):
    vanilla = tiny_model(family)
    return vanilla, add_lora(vanilla) if pair == "lora" else tiny_model(family, seed=9)


@pytest.fixture(params=["lora", "checkpoint"])
def pair(request):
    return request.param


@pytest.fixture
def models(pair):
    return models_of(pair, "sd1")


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim", "dpmpp_2m_sde", "heun"])
def test_ends_of_the_switch_are_the_models_alone(pair, sampler):
    vanilla, personalized = models_of(pair)
    none, every = (blended(vanilla, personalized, Switch(steps=n), sampler=sampler)[0] for n in (0, STEPS))
    assert torch.equal(none, alone(personalized, True, sampler=sampler))
    assert torch.equal(every, alone(vanilla, False, sampler=sampler))
    assert not torch.equal(none, every)


@pytest.mark.parametrize("settings", [{"cfg": 1.0}, {"batch": 3}, {"denoise": 0.6}], ids=str)
def test_ends_agree_under_other_settings(settings):
    vanilla, personalized = models_of("lora")
    none, every = (blended(vanilla, personalized, Switch(steps=n), **settings)[0] for n in (0, STEPS))
    assert torch.equal(none, alone(personalized, True, **settings))
    assert torch.equal(every, alone(vanilla, False, **settings))


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_other_families(family):
    vanilla, personalized = models_of("lora", family)
    none, _ = blended(vanilla, personalized, Switch(steps=0))
    middle, guider = blended(vanilla, personalized, Switch(steps=2))
    assert torch.equal(none, alone(personalized, True))
    assert not torch.equal(middle, none)
    assert len(guider.trajectory) == STEPS


def euler_by_hand(vanilla, personalized, tau):
    """Euler steps written out, each with the model that the paper names: k < tau vanilla, then personalized."""
    schedule = comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "euler", "normal", 1.0)
    x = None
    for k in range(STEPS):
        model, seed = (vanilla, 0) if k < tau else (personalized, 2)
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(conditioning(model, seed=seed), conditioning(model, seed=1))
        guider.set_cfg(4.0)
        start = torch.zeros(1, 4, 8, 8)
        noise = comfy.sample.prepare_noise(start, 3) if x is None else torch.zeros_like(start)
        x = guider.sample(
            noise, start if x is None else x, comfy.samplers.sampler_object("euler"), schedule.sigmas[k : k + 2], seed=3
        )
    return x


def test_switch_falls_where_the_paper_says(models):
    vanilla, personalized = models
    for tau in (1, 3):
        result, _ = blended(vanilla, personalized, Switch(steps=tau))
        torch.testing.assert_close(result, euler_by_hand(vanilla, personalized, tau), rtol=1e-4, atol=1e-3)


def denoised_by_hand(model, seed, x, sigma):
    """The guided prediction of a clean latent: an Euler step from sigma to zero ends on it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(model, seed=seed), conditioning(model, seed=1))
    guider.set_cfg(4.0)
    sigmas = torch.tensor([float(sigma), 0.0])
    return guider.sample(
        torch.zeros_like(x), x, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=3
    )


def test_multistep_sampler_uses_the_vanilla_step_before_the_switch(models):
    """DPM-Solver++(2M), eq. of its paper's algorithm 2, written out; two runs in a row lose the previous prediction."""
    vanilla, personalized = models
    tau, sigmas = 2, comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "dpmpp_2m", "normal", 1.0).sigmas
    results = {}
    for history in (True, False):
        x = (
            comfy.sample.prepare_noise(zeros(), 3)
            * torch.sqrt(1.0 + sigmas[0] ** 2)
            / vanilla.model.latent_format.scale_factor
        )
        previous, last_h = None, None
        for k in range(STEPS):
            denoised = denoised_by_hand(*((vanilla, 0) if k < tau else (personalized, 2)), x, sigmas[k])
            if k == STEPS - 1:
                x = denoised
                break
            h = torch.log(sigmas[k] / sigmas[k + 1])
            if previous is None or (k == tau and not history):
                mix = denoised
            else:
                r = last_h / h
                mix = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * previous
            x = sigmas[k + 1] / sigmas[k] * x - torch.expm1(-h) * mix
            previous, last_h = denoised, h
        results[history] = x
    whole, _ = blended(vanilla, personalized, Switch(steps=tau), sampler="dpmpp_2m")
    difference = (results[True] - results[False]).abs().max()
    assert (whole - results[True]).abs().max() < 1e-3 * difference


def test_multistep_history_survives_the_switch():
    vanilla = tiny_model()
    whole, _ = blended(vanilla, add_lora(vanilla, strength=0.0), Switch(steps=2), sampler="dpmpp_2m", same_prompt=True)
    assert torch.equal(whole, alone(vanilla, False, sampler="dpmpp_2m"))


def test_switch_by_percent_equals_the_step_at_that_sigma():
    vanilla, personalized = models_of("lora", "sd1")
    sampling = vanilla.get_model_object("model_sampling")
    sigmas = comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "euler", "normal", 1.0).sigmas
    percent = next(p / 1000 for p in range(1000) if sampling.percent_to_sigma(p / 1000) < float(sigmas[2]) * 1.02)
    by_percent, _ = blended(vanilla, personalized, Switch(percent=percent))
    by_step, _ = blended(vanilla, personalized, Switch(steps=2))
    assert torch.equal(by_percent, by_step)
    assert torch.equal(blended(vanilla, personalized, Switch(percent=0.0))[0], alone(personalized, True))
    assert torch.equal(blended(vanilla, personalized, Switch(percent=1.0))[0], alone(vanilla, False))


def test_inpainting_keeps_the_unmasked_part():
    vanilla = tiny_model()
    known = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    result, _ = blended(vanilla, add_lora(vanilla), Switch(steps=2), rows=known, noise_mask=mask)
    torch.testing.assert_close(result[..., :4], known[..., :4], rtol=1e-3, atol=1e-3)
    assert (result[..., 4:] - known[..., 4:]).abs().max() > 0.1


def test_trajectory_is_what_the_models_saw():
    vanilla, personalized = models_of("lora", "sd1")
    seen = []

    def spy(apply_model, arguments):
        seen.append((float(arguments["timestep"][0]), arguments["input"][:1].clone()))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    for model in (vanilla, personalized):
        model.set_model_unet_function_wrapper(spy)
    _, guider = blended(vanilla, personalized, Switch(steps=2), sampler="heun")
    trajectory = guider.trajectory
    assert isinstance(trajectory, Trajectory)
    assert trajectory.sigmas == tuple(s for s, _ in seen)
    assert all(torch.equal(a, b) for a, (_, b) in zip(trajectory.latents, seen, strict=True))
    assert trajectory.size_in_bytes == 2 * len(seen) * 4 * 8 * 8 * 4
    assert torch.equal(trajectory.at(seen[0][0]), seen[0][1])
    with pytest.raises(ValueError, match="expected a noise level of the recorded run"):
        trajectory.at(2 * seen[0][0])


def fingerprint(model):
    return {key: float(value.double().sum()) for key, value in model.model.state_dict().items()}


def test_at_most_one_new_load_of_weights_per_run(models, monkeypatch):
    vanilla, personalized = models
    blended(vanilla, personalized, Switch(steps=0))
    alone(vanilla, False)
    patched = []
    original = comfy.model_patcher.ModelPatcher.load

    def counting(self, *args, **kwargs):
        patched.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "load", counting)
    blended(vanilla, personalized, Switch(steps=2))
    assert patched.count(personalized) <= 1
    assert len(patched) <= 1


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), comfy.model_management.InterruptProcessingException()], ids=["error", "interrupt"]
)
@pytest.mark.parametrize("at", [0, 3])
def test_nothing_is_left_after_a_failure(models, error, at):
    vanilla, personalized = models
    expected = alone(vanilla, False)
    before = fingerprint(vanilla)  # of the vanilla weights, whichever were loaded last
    guider = StepBlendedGuider(vanilla, personalized, Switch(steps=2))
    guider.set_blended_conds(
        conditioning(vanilla, seed=0), conditioning(vanilla, seed=2), conditioning(vanilla, seed=1)
    )
    options = [m.model_options for m in (vanilla, personalized)]

    def callback(step, *_):
        if step == at:
            raise error

    noise = torch.randn(1, 4, 8, 8)
    sigmas = comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "euler", "normal", 1.0).sigmas
    with pytest.raises(type(error)):
        guider.sample(
            noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, callback=callback, seed=1
        )
    assert guider.model_patcher is vanilla and guider._run is None
    assert [m.model_options for m in (vanilla, personalized)] == options
    assert torch.equal(alone(vanilla, False), expected)
    assert fingerprint(vanilla) == before


def test_progress_reports_every_step_once():
    vanilla = tiny_model()
    guider = StepBlendedGuider(vanilla, add_lora(vanilla), Switch(steps=2))
    guider.set_blended_conds(
        conditioning(vanilla, seed=0), conditioning(vanilla, seed=2), conditioning(vanilla, seed=1)
    )
    steps = []
    noise = torch.randn(1, 4, 8, 8)
    sigmas = comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "dpmpp_2m", "normal", 1.0).sigmas
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, callback=lambda step, *_: steps.append(step), seed=1)
    assert steps == list(range(STEPS))


def test_refuses_what_cannot_be_blended():
    vanilla, personalized = models_of("lora", "sd1")
    with pytest.raises(
        ValueError, match=f"Two-Model Sampler: expected switch_step within the {STEPS} steps of this run, got 6"
    ):
        blended(vanilla, personalized, Switch(steps=6))
    with pytest.raises(ValueError, match=r"one latent format, got SD15 .* and SDXL "):
        StepBlendedGuider(vanilla, tiny_model("sdxl"), Switch(steps=2))
    with pytest.raises(ValueError, match=r"one prediction type, got .*EPS.* and .*V_PREDICTION"):
        StepBlendedGuider(vanilla, tiny_model("sd2"), Switch(steps=2))
    with pytest.raises(ValueError, match="expected a LATENT of shape"):
        blended(vanilla, personalized, Switch(steps=2), rows=torch.zeros(1, 4, 2, 8, 8))
    guider = StepBlendedGuider(vanilla, vanilla.clone(), Switch(steps=2))
    with pytest.raises(ValueError, match="got the same weights and the same conditioning"):
        guider.set_blended_conds(
            conditioning(vanilla, seed=0), conditioning(vanilla, seed=0), conditioning(vanilla, seed=1)
        )


def test_a_trajectory_needs_a_guider_that_sampled():
    vanilla = tiny_model()
    with pytest.raises(ValueError, match="got CFGGuider"):
        step_blended.recorded(comfy.samplers.CFGGuider(vanilla), {"samples": zeros()})
    with pytest.raises(ValueError, match="expected a guider that has sampled"):
        step_blended.recorded(StepBlendedGuider(vanilla, add_lora(vanilla), Switch(steps=1)), {"samples": zeros()})
