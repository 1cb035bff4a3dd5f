"""Noise as the host adds it, in every kind of model sampling."""

import math

import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3
from likeness.patching.features.sources import inversion_levels, invert, noised_source
from likeness.patching.host.noise import is_flow, noise_scales
from likeness.patching.host.passes import run_pass
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


def flow():
    return ModelSamplingSD3().patch(tiny_model("sdxl"), shift=3.0)[0]


def velocity():
    return ModelSamplingDiscrete().patch(tiny_model("sd1"), "v_prediction", False)[0]


@pytest.mark.parametrize("make", [flow, velocity, lambda: tiny_model("sdxl")], ids=["flow", "v", "eps"])
@pytest.mark.parametrize("sigma", [0.02, 0.5, 0.999])
def test_a_noised_picture_is_the_hosts(make, sigma):
    model = make()
    source = noised_source(model, latent(2), 7, "Node")
    host = model.get_model_object("model_sampling").noise_scaling
    expected = host(torch.tensor([sigma]), source.noise.clone(), source.clean.clone(), False)
    torch.testing.assert_close(source.at(sigma), expected)


def test_flow_matching_is_told_from_diffusion():
    found = [
        is_flow(make().get_model_object("model_sampling")) for make in (flow, velocity, lambda: tiny_model("sdxl"))
    ]
    assert found == [True, False, False]


def test_the_factors_of_flow_and_diffusion():
    assert noise_scales(flow().get_model_object("model_sampling"), 0.25) == (0.75, 0.25)
    assert noise_scales(velocity().get_model_object("model_sampling"), 3.5) == (1.0, 3.5)


@pytest.mark.parametrize("make", [flow, velocity], ids=["flow", "v"])
def test_a_pass_gets_the_clean_picture(make):
    """The host's latent at the highest noise level of a flow model has nothing of the picture left."""
    model, seen = make(), []
    top = float(model.get_model_object("model_sampling").sigma_max)
    run_pass(model, conditioning(model), latent()["samples"], [top, top / 2], lambda _, clean: seen.append(clean))
    torch.testing.assert_close(seen[0].cpu(), model.model.process_latent_in(latent()["samples"]))


def test_an_inversion_follows_a_flow_models_exact_path():
    """Pictures of unit variance move along x0 * sqrt((1 - sigma)^2 + sigma^2)."""
    model = flow()

    def denoised(_, given):
        sigma = given["timestep"].view(-1, 1, 1, 1)
        return given["input"] * (1 - sigma) / ((1 - sigma) ** 2 + sigma**2)

    model.set_model_unet_function_wrapper(denoised)
    clean = model.model.process_latent_in(latent()["samples"])
    source = invert(model, conditioning(model), latent(), inversion_levels(model, 50), "Node")
    for sigma in (0.1, 0.5, 0.9, 1.0):
        exact = clean * math.hypot(1 - sigma, sigma)
        assert float((source.at(sigma) - exact).norm() / exact.norm()) < 0.04
