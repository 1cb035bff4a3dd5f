"""The sampler draws what the expert nodes draw, bit for bit, and its dial begins at KSampler's picture."""

import pytest
import torch
from likeness.patching.host.same import same_model
from likeness.tests.patching.pick_and_draw.guidance_runs import model_of
from likeness.tests.patching.subject.likeness_runs import (
    by_joint_node,
    by_ksampler,
    by_palette_nodes,
    by_retouch_nodes,
    empty,
    models,
    sampled,
)
from likeness.tests.patching.subject.subjects import prompt_of
from likeness.tests.patching.two_models import add_lora

from nodes import ConditioningAverage

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


@pytest.mark.parametrize("given", [{}, {"personalized": "personalized"}, {"method": "joint"}])
def test_likeness_0_is_ksampler_s_picture(given):
    personal = given.get("personalized")
    prompt = prompt_of(token=personal is not None)
    expected = by_ksampler(models()[personal or "vanilla"], prompt.personalized_conditioning)
    assert torch.equal(sampled(**given, likeness=0.0)[0], expected)


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
