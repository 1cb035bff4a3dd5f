"""The sampler draws what the expert nodes draw, bit for bit, and its dial begins at KSampler's picture."""

import pytest
import torch
from likeness.patching.host.same import same_model
from likeness.tests.patching.pick_and_draw.guidance_runs import model_of
from likeness.tests.patching.subject.likeness_runs import (
    PHOTO,
    SAMPLING,
    by_joint_node,
    by_palette_nodes,
    by_reference_alone,
    by_retouch_nodes,
    drawn,
    empty,
    models,
    sampled,
)
from likeness.tests.patching.subject.subjects import photo, prompt_of, subject_of
from likeness.tests.patching.two_models import add_lora

from nodes import ConditioningAverage, KSampler

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
METHODS = {
    "palette guidance": {},
    "retouch": {"personalized": "personalized"},
    "joint": {"model": "joint"},
}


def test_palette_guidance_is_that_of_the_expert_nodes():
    found, report = sampled(likeness=0.5)
    assert torch.equal(found, by_palette_nodes(prompt_of(token=False), step_size=0.025))
    assert "Pick-and-Draw" in report and "photographs alone" in report


def test_a_retouch_is_that_of_the_expert_nodes():
    prompt = prompt_of()
    found, report = sampled(personalized="personalized")
    assert torch.equal(found, by_retouch_nodes(prompt, prompt.neutral_conditioning, 1.0))
    assert "Layout-and-Retouch" in report and "personalized model" in report


@pytest.mark.parametrize("layout", ["own layout", "drawn mask"])
def test_other_layouts_are_those_of_the_expert_nodes(layout):
    given = {"layout": layout, "mask": drawn() if layout == "drawn mask" else None}
    guided, _ = sampled(likeness=0.5, **given)
    assert torch.equal(guided, by_palette_nodes(prompt_of(token=False), 0.025, layout))
    retouched, _ = sampled(personalized="personalized", likeness=0.5, **given)
    assert torch.equal(retouched, by_reference_alone(prompt_of(), 0.5, layout))


def test_a_photograph_without_a_mask_has_the_palette_s_own_of_each_noise_level():
    found, _ = sampled(subject=subject_of(PHOTO), likeness=0.5, layout="own layout")
    assert torch.equal(found, by_palette_nodes(prompt_of(token=False), 0.025, "own layout", masked=False))


def test_models_and_latent_stay_as_they_were():
    given = {"model": model_of(), "personalized_model": add_lora(model_of()), "latent": empty()}
    before = {name: model.clone() for name, model in given.items() if name != "latent"}
    sampled(**given, subject_prompt=prompt_of(), layout="own layout")
    assert all(same_model(given[name], model) for name, model in before.items())
    assert torch.equal(given["latent"]["samples"], empty()["samples"]) and given["latent"].keys() == empty().keys()


def test_half_a_retouch_has_a_prompt_between_both():
    prompt = prompt_of()
    to, start = prompt.neutral_conditioning, prompt.personalized_conditioning
    (between,) = ConditioningAverage().addWeighted(to, start, 0.5)
    found, _ = sampled(personalized="personalized", likeness=0.5)
    assert torch.equal(found, by_retouch_nodes(prompt, between, 0.5))


@pytest.mark.parametrize("model", ["joint", "vanilla"])
def test_a_set_is_that_of_the_joint_sampler(model):
    found, report = sampled(model, method="joint" if model == "vanilla" else "automatic", likeness=0.5)
    assert torch.equal(found, by_joint_node(model, prompt_of(token=False), 0.5))
    assert "JeDi" in report


@pytest.mark.parametrize("personal", [None, "personalized"])
@pytest.mark.parametrize("method", [*METHODS, "automatic"])
def test_likeness_0_is_ksampler_s_picture(personal, method):
    """Also of a batch, of a part of the noise schedule and of a part of the picture."""
    prompt, model = prompt_of(token=personal is not None), models()[personal or "vanilla"]
    hole = {"noise_mask": drawn(), "samples": torch.cat([photo(seed, 8, 8, 4).movedim(3, 1) for seed in (1, 2)])}
    for latent, denoise in ((empty(), 1.0), (hole, 0.6)):
        found, _ = sampled(
            personalized=personal, method=method, likeness=0.0, latent=latent, denoise=denoise, layout="own layout"
        )
        sampling = {**SAMPLING, "sampler_name": SAMPLING["sampler"], "latent_image": latent, "denoise": denoise}
        del sampling["sampler"]
        (expected,) = KSampler().sample(
            model, positive=prompt.personalized_conditioning, negative=prompt.negative_conditioning, **sampling
        )
        assert torch.equal(found, expected["samples"])


def test_likeness_0_of_a_joint_checkpoint_is_a_picture_without_references():
    expected = by_joint_node("joint", prompt_of(token=False), 0.0, references=False)
    assert torch.equal(sampled("joint", likeness=0.0)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_dial_is_continuous(method):
    def at(likeness: float) -> torch.Tensor:
        return sampled(**METHODS[method], likeness=likeness)[0]

    def apart(first: torch.Tensor, second: torch.Tensor) -> float:
        return float((first - second).norm() / first.norm())

    none, half = at(0.0), at(0.5)
    whole = apart(none, half)
    assert whole > 0.01
    assert 0 < apart(none, at(0.001)) < 0.05 * whole
    assert 0 < apart(half, at(0.501)) < 0.05 * whole
