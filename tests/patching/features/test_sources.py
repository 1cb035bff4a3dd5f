"""Sources: a picture at every noise level, in the space in which samplers hold their latents."""

import math

import comfy.sample
import comfy.samplers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.patching.features.sources import Inverted, Noised, invert, noised_source
from likeness.patching.features.trajectory import Trajectory
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler, tiny_model


def schedule(model, steps, name="normal"):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), name, steps).tolist()


def test_noised_is_what_the_sampler_starts_from(family):
    """At the first noise level of an image-to-image run the model sees exactly the Source's latent."""
    model, image, seen = tiny_model(family), latent(3, 8, 9), []

    def keep(executor, x, t, *args, **kwargs):
        seen.append((float(t[0]), x.clone()))
        return executor(x, t, *args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key("apply_model", "watch", keep)
    run_ksampler(watched, latent_image=image, seed=7, denoise=0.5, cfg=1.0)
    sigma, x = seen[0]
    torch.testing.assert_close(noised_source(model, image, 7, "Node").at(sigma), x.cpu(), rtol=1e-5, atol=1e-5)


def test_noise_follows_the_batch_index():
    model = tiny_model("sd1")
    image = latent(2)
    third = noised_source(model, {**image, "batch_index": [2, 0]}, 5, "Node").noise
    torch.testing.assert_close(third[0], comfy.sample.prepare_noise(torch.zeros(3, 4, 8, 8), 5)[2])


@given(st.floats(0, 20), st.floats(0, 20))
def test_noised_differs_by_noise_alone(low, high):
    source = Noised(torch.randn(1, 4, 3, 3, dtype=torch.float64), torch.randn(1, 4, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(source.at(high) - source.at(low), (high - low) * source.noise)


def gaussian(model):
    """A model that knows pictures of unit variance: D(x) = x / (1 + sigma^2), whose path is x0 * sqrt(1 + sigma^2)."""
    clone = model.clone()
    clone.set_model_unet_function_wrapper(lambda _, a: a["input"] / (1 + a["timestep"].view(-1, 1, 1, 1) ** 2))
    return clone


def test_inversion_follows_the_exact_path():
    model, image = gaussian(tiny_model("sd1")), latent(2)
    clean = model.model.process_latent_in(image["samples"])
    errors = []
    for steps in (50, 400):
        source = invert(model, conditioning(model), image, schedule(model, steps), "Node")
        top = source.sigmas[-1]
        errors.append(float((source.at(top) / (clean * math.sqrt(1 + top**2)) - 1).abs().mean()))
    assert errors[1] < 0.2 * errors[0] and errors[1] < 0.03  # the first step from zero noise keeps an error of its own


def test_one_step_of_inversion_by_hand():
    model, image = gaussian(tiny_model("sd1")), latent()
    clean = model.model.process_latent_in(image["samples"])
    source = invert(model, conditioning(model), image, [2.0, 1.0, 1.0, 0.0], "Node")
    assert source.sigmas == (0.0, 1.0, 2.0)
    first = clean + 1.0 * (clean - clean / 2) / 1.0  # eps at the lowest level
    torch.testing.assert_close(source.at(1.0), first)
    torch.testing.assert_close(source.at(2.0), first + (2.0 - 1.0) * (first - first / 2) / 1.0)
    torch.testing.assert_close(source.at(1.25), source.at(1.0) + 0.25 * (source.at(2.0) - source.at(1.0)))
    torch.testing.assert_close(source.at(0.5), (clean + first) / 2)
    assert torch.equal(source.at(0.0), clean)
    assert source.size_in_bytes == 3 * clean.numel() * 4


def test_sampling_down_from_the_inversion_returns(family):
    """Euler at CFG 1 is DDIM: run down from the top of the inversion, it gives the picture back, better with more
    steps."""
    model, image, text, errors = tiny_model(family), latent(), conditioning(tiny_model(family), seed=10), []
    clean = model.model.process_latent_in(image["samples"])
    for steps in (4, 32):
        sigmas = [s for s in schedule(model, steps) if s < 3]
        source = invert(model, text, image, sigmas, "Node")
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": text})
        # KSampler's first latent is image + sigma * noise: with no image, the noise carries the source.
        start = source.at(sigmas[0]) / sigmas[0]
        result = guider.sample(
            start, torch.zeros_like(start), comfy.samplers.sampler_object("euler"), torch.tensor(sigmas), seed=0
        )
        errors.append(float((model.model.process_latent_in(result).cpu() - clean).pow(2).mean().sqrt()))
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("slot", ["sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function"])
def test_an_inversion_has_no_guidance_of_other_packs(slot):
    model, image = tiny_model("sd1"), latent()
    expected = invert(model, conditioning(model), image, schedule(model, 3), "Node")
    other = model.clone()
    getattr(other, f"set_model_{slot}")(lambda args: pytest.fail("guided"))
    found = invert(other, conditioning(model), image, schedule(model, 3), "Node")
    assert all(torch.equal(a, b) for a, b in zip(found.latents, expected.latents, strict=True))
    assert slot in other.model_options


def test_inversion_leaves_its_inputs_alone():
    model, image = tiny_model("sd1"), latent()
    before = image["samples"].clone()
    invert(model, conditioning(model), image, schedule(model, 3), "Node")
    assert torch.equal(image["samples"], before)
    assert torch.equal(run_ksampler(model), run_ksampler(tiny_model("sd1")))


@given(st.lists(st.floats(0.05, 14.0), min_size=1, max_size=6, unique=True), st.floats(0, 14.0))
def test_an_inversion_is_continuous_and_exact_where_recorded(levels, sigma):
    sigmas = (0.0, *sorted(levels))
    source = Inverted(sigmas, tuple(torch.full((1, 1), s**2, dtype=torch.float64) for s in sigmas))
    for level in sigmas:
        assert source.at(level).item() == level**2
    if sigma <= sigmas[-1]:
        low, high = max(s for s in sigmas if s <= sigma), min(s for s in sigmas if s >= sigma)
        assert low**2 - 1e-9 <= source.at(sigma).item() <= high**2 + 1e-9


def test_a_trajectory_is_a_source():
    picture = torch.randn(1, 4, 2, 2)
    assert torch.equal(Trajectory((2.0, 1.0), (picture, 2 * picture)).at(1.0), 2 * picture)


@pytest.mark.parametrize("make", [noised_source, invert], ids=["noised", "inverted"])
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(1, 4, 8, 8), "expected the LATENT of a picture, got an empty one"),
        (torch.ones(1, 16, 8, 8), "expected a LATENT of 4 channels, as the model has, got 16"),
        (torch.ones(1, 4, 3, 8, 8), "expected a LATENT of shape"),
    ],
)
def test_latents_that_are_no_picture_are_refused(make, samples, message):
    model = tiny_model("sd1")
    arguments = (
        (model, {"samples": samples}, 0, "Node")
        if make is noised_source
        else (
            model,
            conditioning(model),
            {"samples": samples},
            [1.0, 0.0],
            "Node",
        )
    )
    with pytest.raises(ValueError, match=f"^Node: {message}"):
        make(*arguments)


def test_a_schedule_without_noise_is_refused():
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match=r"^Node: expected a schedule with a noise level above 0, got none"):
        invert(model, conditioning(model), latent(), [0.0], "Node")
