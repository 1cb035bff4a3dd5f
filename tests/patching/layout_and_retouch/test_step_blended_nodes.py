"""The step-blended nodes as the host executes them."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from likeness.nodes.step_blended import LikenessStepBlendedGuider, StepBlendedSampler
from likeness.nodes.trajectory import LikenessRecordedTrajectory
from likeness.tests.patching.tiny_models import conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora, zeros

pytestmark = pytest.mark.slow

STEPS = 5


def inputs(**changes):
    model = tiny_model()
    prompts = {"positive": 0, "personalized_positive": 2, "negative": 1}
    common = {name: conditioning(model, seed=seed) for name, seed in prompts.items()}
    common |= {"model": model, "personalized_model": add_lora(model), "cfg": 4.0}
    return {**common, "switch_by": "step", "switch_step": 2, "switch_percent": 0.1, **changes}


def all_in_one(**changes):
    latent, denoise = changes.pop("latent", {"samples": zeros(2)}), changes.pop("denoise", 1.0)
    return StepBlendedSampler.execute(
        **inputs(**changes), latent=latent, seed=3, steps=STEPS, sampler="dpmpp_2m", scheduler="normal", denoise=denoise
    ).result


def custom(guider, latent=None):
    sigmas = comfy.samplers.KSampler(guider.model_patcher, STEPS, "cpu", "dpmpp_2m", "normal", 1.0).sigmas
    sampler, latent = comfy.samplers.sampler_object("dpmpp_2m"), {"samples": zeros(2)} if latent is None else latent
    return SamplerCustomAdvanced.execute(Noise_RandomNoise(3), guider, sampler, sigmas, latent).result


def test_the_guider_gives_what_the_sampler_node_gives():
    samples, trajectory = all_in_one()
    (guider,) = LikenessStepBlendedGuider.execute(**inputs()).result
    output, denoised = custom(guider)
    (recorded,) = LikenessRecordedTrajectory.execute(guider, output).result
    assert torch.equal(output["samples"], samples["samples"])
    assert recorded.sigmas == trajectory.sigmas and len(recorded) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(recorded.latents, trajectory.latents, strict=True))
    with pytest.raises(ValueError, match=r"connect the output \(not denoised_output\)"):
        LikenessRecordedTrajectory.execute(guider, {"samples": denoised["samples"] + 1})


def test_the_negative_of_the_personalized_model_is_its_own():
    negative = conditioning(tiny_model(), seed=8)
    assert not torch.equal(all_in_one(personalized_negative=negative)[0]["samples"], all_in_one()[0]["samples"])
    same = conditioning(tiny_model(), seed=1)
    assert torch.equal(all_in_one(personalized_negative=same)[0]["samples"], all_in_one()[0]["samples"])


def test_each_switch_widget_counts_when_it_is_chosen():
    none = all_in_one(switch_step=0)[0]["samples"]
    assert torch.equal(all_in_one(switch_by="percent", switch_percent=0.0, switch_step=3)[0]["samples"], none)
    assert not torch.equal(all_in_one(switch_by="percent", switch_percent=0.5, switch_step=0)[0]["samples"], none)


def test_refusals_name_the_node_that_refuses():
    with pytest.raises(ValueError, match=r"^Two-Model Sampler: expected switch_step within the run's 5 steps, got 9; "):
        all_in_one(switch_step=9)
    (guider,) = LikenessStepBlendedGuider.execute(**inputs(switch_step=9)).result
    with pytest.raises(
        ValueError, match=r"^Two-Model Guider: expected switch_step within the 5 steps of this run, got 9; "
    ):
        custom(guider)
    with pytest.raises(ValueError, match=r"^Two-Model Guider: expected models with one latent format"):
        LikenessStepBlendedGuider.execute(**inputs(personalized_model=tiny_model("sdxl")))
    with pytest.raises(ValueError, match=r"^Two-Model Sampler: expected a LATENT of shape"):
        all_in_one(latent={"samples": torch.zeros(1, 4, 2, 8, 8)})
    from comfy.nested_tensor import NestedTensor

    with pytest.raises(ValueError, match=r"^Two-Model Sampler: expected a LATENT of images, got a nested latent"):
        all_in_one(latent={"samples": NestedTensor([zeros(), zeros()])})


def test_the_log_tells_who_did_how_much(caplog):
    caplog.set_level("INFO")
    all_in_one()
    assert (
        "Two-Model Sampler: 2 calls of the vanilla model, then 3 of the personalized one; trajectory of 5 model calls"
        in caplog.text
    )
    caplog.clear()
    all_in_one(switch_by="percent", denoise=0.5)
    assert ": the vanilla model did nothing" in caplog.text
