"""A retouch of layers whose self-attention another node computes."""

import comfy.ldm.modules.attention as host_attention
import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, reference, retouched, run
from likeness.tests.patching.tiny_models import tiny_model

SIDE = 16
"""Latent pixels per side; the middle block then has 4 tokens."""
BLOCKS = ("middle0",)


def values_alone(q, k, v, extra_options):
    """Attention of each token to itself alone, as perturbed-attention guidance computes it."""
    return v


def of_the_host(q, k, v, extra_options):
    return host_attention.optimized_attention(q, k, v, extra_options["n_heads"])


def replaced(attention):
    model = tiny_model("sd1")
    model.set_model_attn1_replace(attention, "middle", 0)
    return model


def sampled(model):
    return run(model, height=SIDE, width=SIDE, steps=2)


def swapped(model, **settings):
    size = {"height": SIDE, "width": settings.pop("width", SIDE)}
    return sampled(retouched(model, [reference(model, **size)], BLOCKS, lambda_2=0, lambda_3=0, **settings))


@pytest.fixture(scope="module")
def plain():
    return sampled(replaced(values_alone))


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        (BANKED, {}),
        (BANKED, {"attention": "append"}),
        (BANKED, {"strength": 0.5}),
        (BANKED, {"width": 2 * SIDE}),
        (BATCHED, {}),
        (BATCHED, {"attention": "append"}),
        (SEQUENTIAL, {}),
    ],
)
def test_values_in_place_of_attention_are_the_targets_own(plain, mode, settings):
    close(swapped(replaced(values_alone), mode=mode, **settings), plain)


@pytest.mark.parametrize(("mode", "settings"), [(BANKED, {}), (BATCHED, {"attention": "append"})])
def test_a_replacement_that_attends_sees_the_reference(mode, settings):
    found = swapped(replaced(of_the_host), mode=mode, **settings)
    close(found, swapped(tiny_model("sd1"), mode=mode, **settings))
    assert not torch.allclose(found, sampled(tiny_model("sd1")), atol=1e-4)
