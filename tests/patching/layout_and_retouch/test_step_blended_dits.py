"""Step-blended denoising on diffusion transformers, which are flow models, some of them with a frame axis."""

import itertools

import comfy.samplers
import pytest
import torch
from likeness.patching.host import passes
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.tiny_dits import WITH_FRAMES, conditioning, latent, run_ksampler, tiny_dit
from likeness.tests.patching.tiny_models import tiny_model

STEPS = 3
NEGATIVE = conditioning(tokens=5, seed=1)
PROMPTS = {"vanilla": conditioning(tokens=7), "personalized": conditioning(tokens=9, seed=2)}


def pair(dit: str) -> dict:
    return {"vanilla": tiny_dit(dit), "personalized": tiny_dit(dit, seed=1)}


def blended(dit: str, switch: Switch, start: dict, cfg: float = 4.0, steps: int = STEPS):
    """Samples and guider of a step-blended run."""
    models = pair(dit)
    guider = StepBlendedGuider(models["vanilla"], models["personalized"], switch)
    guider.set_blended_conds(PROMPTS["vanilla"], PROMPTS["personalized"], NEGATIVE)
    guider.set_cfg(cfg)
    return passes.sample(guider, start, 3, steps, "euler", "simple", 1.0, "Node")["samples"], guider


def alone(dit: str, phase: str, start: dict, **settings) -> torch.Tensor:
    settings = {"steps": STEPS, "latent_image": start, **settings}
    return run_ksampler(pair(dit)[phase], dit, PROMPTS[phase], NEGATIVE, **settings)


def empty(dit: str, rows: int = 1, height: int = 8, width: int = 8) -> dict:
    return {"samples": torch.zeros_like(latent(dit, rows, height, width)["samples"])}


def denoised_by_hand(model, prompt: list, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The guided prediction of a clean latent at a level: an Euler step from there to zero ends on it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(prompt, NEGATIVE)
    guider.set_cfg(4.0)
    levels, sampler = torch.tensor([sigma, 0.0]), comfy.samplers.sampler_object("euler")
    # The host mixes no picture and the noise to sigma * noise.
    made = guider.sample(x / sigma, torch.zeros_like(x), sampler, levels, disable_pbar=True, seed=3)
    return model.model.process_latent_in(made)


@pytest.mark.parametrize(("rows", "height", "width"), [(1, 8, 8), (3, 7, 9)])
def test_is_euler_with_one_model_after_the_other(dit, rows, height, width):
    start, tau = empty(dit, rows, height, width), 1
    models = pair(dit)
    schedule = comfy.samplers.KSampler(models["vanilla"], STEPS, "cpu", "euler", "simple", 1.0).sigmas.tolist()
    x = schedule[0] * comfy.sample.prepare_noise(start["samples"], 3)
    for k, (sigma, following) in enumerate(itertools.pairwise(schedule)):
        phase = "vanilla" if k < tau else "personalized"
        denoised = denoised_by_hand(models[phase], PROMPTS[phase], x, sigma)
        x = denoised + (x - denoised) * following / sigma
    result, guider = blended(dit, Switch(steps=tau), start)
    expected = models["vanilla"].model.process_latent_out(x)
    assert result.shape == start["samples"].shape
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert not torch.allclose(result, alone(dit, "vanilla", start), atol=0.1)
    assert len(guider.trajectory) == STEPS


def test_ends_of_the_switch_are_the_models_alone(dit):
    start = empty(dit)
    for phase, switches in (
        ("personalized", (Switch(steps=0), Switch(percent=0.0))),
        ("vanilla", (Switch(steps=STEPS), Switch(percent=1.0))),
    ):
        expected = alone(dit, phase, start)
        assert all(torch.equal(blended(dit, switch, start)[0], expected) for switch in switches)


def test_a_batch_of_five_without_vanilla_steps_is_the_personalized_model_alone(dit):
    start = empty(dit, 5)
    alike = alone(dit, "personalized", start, steps=1)
    assert torch.equal(blended(dit, Switch(steps=0), start, steps=1)[0], alike)


def test_distilled_models_of_few_steps_without_guidance(dit):
    """The percentages of a switch are those of the flow's shifted schedule."""
    start, steps = empty(dit), 4
    model = tiny_dit(dit)
    sampling = model.get_model_object("model_sampling")
    levels = comfy.samplers.KSampler(model, steps, "cpu", "euler", "simple", 1.0).sigmas[:-1].tolist()
    above = sum(sigma > sampling.percent_to_sigma(0.6) for sigma in levels)
    by_percent, guider = blended(dit, Switch(percent=0.6), start, cfg=1.0, steps=steps)
    assert torch.equal(by_percent, blended(dit, Switch(steps=above), start, cfg=1.0, steps=steps)[0])
    assert f"Switch_percent 0.6 is {above} of {steps} steps." in " ".join(guider.notices.sentences)
    _, guider = blended(dit, Switch(percent=0.999), start, cfg=1.0, steps=steps)
    assert "The personalized model did nothing" in " ".join(guider.notices.sentences)


@pytest.mark.parametrize("dit", WITH_FRAMES, indirect=True)
def test_latents_with_a_frame_axis(dit):
    """An empty image's latent gets its axis, a picture's may have it, and more than one frame is refused."""
    framed = empty(dit)
    flat = {"samples": torch.zeros(1, 4, 8, 8)}
    assert torch.equal(blended(dit, Switch(steps=1), flat)[0], blended(dit, Switch(steps=1), framed)[0])
    video = {"samples": torch.zeros(1, 16, 5, 8, 8)}
    with pytest.raises(ValueError, match=r"^Node: expected a LATENT of images, got a video of 5 frames; connect"):
        blended(dit, Switch(steps=1), video)


@pytest.mark.parametrize("dit", ["flux", "qwen"], indirect=True)
def test_inpainting_keeps_the_unmasked_part(dit):
    known = latent(dit, 2)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    result, _ = blended(dit, Switch(steps=1), {**known, "noise_mask": mask})
    torch.testing.assert_close(result[..., :4], known["samples"][..., :4], rtol=1e-3, atol=1e-3)
    assert (result[..., 4:] - known["samples"][..., 4:]).abs().max() > 0.1


def test_a_frame_axis_that_a_model_has_not_is_refused():
    model = tiny_model("sd1")
    guider = StepBlendedGuider(model, tiny_model("sd1", seed=1), Switch(steps=1))
    with pytest.raises(ValueError, match=r"^Node: expected a LATENT of shape .*, got 5 dim"):
        passes.sample(guider, {"samples": torch.zeros(1, 4, 1, 8, 8)}, 3, STEPS, "euler", "simple", 1.0, "Node")
