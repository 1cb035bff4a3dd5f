"""Templates: recorded from a vanilla run or drawn."""

import comfy.k_diffusion.sampling
import comfy.sample
import comfy.samplers
import pytest
import torch
from likeness.kernels.pick_and_draw import scaled_to
from likeness.patching.host.blocks import Layer
from likeness.patching.host.window import ALWAYS, Window
from likeness.patching.pick_and_draw.build_template import Sampling, draw_template, record_template
from likeness.patching.pick_and_draw.previews import preview_template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SIDE,
    WORD,
    Calls,
    clip_of,
    encoded,
    guided,
    levels,
    model_of,
    recorded,
    relative,
    run,
    template,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_template_has_every_layers_map_at_every_level(family):
    model = model_of(family)
    found = template(model, family, batch=2, steps=3)
    assert found.images == 2 and found.layers
    for maps in found.maps.values():
        assert sorted(maps, reverse=True) == pytest.approx(levels(model, 3)[:-1], rel=1e-4)
        assert all(m.shape[0] == 2 and m.dtype == torch.float32 and float(m.min()) >= 0 for m in maps.values())
    early = template(model, family, window=Window(0.0, 0.4), steps=3)
    assert all(len(maps) < 3 for maps in early.maps.values())


@pytest.mark.parametrize("sampler", comfy.samplers.KSAMPLER_NAMES)
def test_without_its_picture_a_template_has_the_same_maps(sampler):
    model, early = model_of(), {"window": Window(0.0, 0.5), "steps": 5, "sampler": sampler}
    whole, ended = Calls(model), Calls(model)
    expected, found = template(whole.model, **early), template(ended.model, **early, picture=False)
    assert expected.maps.keys() == found.maps.keys()
    for layer, maps in expected.maps.items():
        assert maps.keys() == found.maps[layer].keys()
        assert all(torch.equal(m, found.maps[layer][sigma]) for sigma, m in maps.items())
    recorded_levels = len(next(iter(found.maps.values())))
    if sampler in ("euler", "ddim", "dpmpp_2m", "uni_pc"):  # one model call per step
        assert len(ended.rows) == recorded_levels < len(whole.rows)
    assert len(ended.rows) <= len(whole.rows)


def test_another_packs_sampler_runs_to_its_end(monkeypatch):
    stock = comfy.k_diffusion.sampling.sample_euler
    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_euler", lambda *given, **named: stock(*given, **named))
    calls = Calls(model_of())
    template(calls.model, window=Window(0.0, 0.5), steps=4, picture=False)
    assert len(calls.rows) == 4


def test_a_template_follows_its_own_seed():
    first, again, other = (template(model_of(), seed=seed) for seed in (9, 9, 10))
    layer = Layer("output", 6, 0)
    sigma = max(first.maps[layer])
    assert torch.equal(first.at(layer, sigma), again.at(layer, sigma)) and not torch.equal(
        first.at(layer, sigma), other.at(layer, sigma)
    )


def test_the_template_image_is_the_samplers():
    model, empty = model_of(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    sampling = Sampling(seed=9, steps=4, cfg=4.0, sampler="euler", scheduler="normal", denoise=1.0)
    _, found = record_template(
        model,
        clip_of(),
        text=PROMPT,
        word="cat",
        negative=encoded(""),
        latent=empty,
        sampling=sampling,
        blocks="all",
        window=ALWAYS,
    )
    expected = run(model, noise=comfy.sample.prepare_noise(empty["samples"], 9), steps=4)
    assert torch.equal(found["samples"], expected)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_template_that_is_followed_moves_nothing(family):
    """Near zero loss the gradient's direction is noise, and a relative step ignores its length."""
    model = model_of(family)
    followed = template(model, family, word=WORD)
    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, SIDE, SIDE), 9)
    plain = run(model, family, noise=noise)
    for changes, moved in (({}, False), ({"template": recorded(family)}, True)):
        patched, _ = guided(model, family=family, **{"template": followed, **changes})
        assert (relative(run(patched, family, noise=noise), plain) > 1e-3) is moved


def test_a_drawn_map_has_the_generated_ones_size_and_sum():
    box = draw_template(model_of(), None, "0 0.5 0.25 1", {"samples": torch.zeros(1, 4, SIDE, SIDE)}).mask
    assert box is not None
    found = scaled_to(box, torch.stack([torch.full((4, 4), 0.25), torch.full((4, 4), 0.5)]))
    expected = torch.zeros(4, 4)
    expected[2:, 0] = 1  # the left quarter of the lower half
    torch.testing.assert_close(found, torch.stack([expected * 2, expected * 4]))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("0.1 0.2 0.5", "got '0.1 0.2 0.5'"),
        ("0.5 0.2 0.1 0.9", "got '0.5"),
        ("a b c d", "got 'a b c d'"),
        ("0 0 2 1", "got '0 0 2 1'"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, message):
    with pytest.raises(ValueError, match=r"^Layout Template: expected four fractions per line of boxes") as failure:
        draw_template(model_of(), None, boxes, {"samples": torch.zeros(1, 4, SIDE, SIDE)})
    assert message in str(failure.value)


def test_a_template_refuses():
    model, nothing = model_of(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    with pytest.raises(ValueError, match="expected a mask with the subject in it, got an empty one"):
        draw_template(model, torch.zeros(1, 64, 64), "", nothing)
    with pytest.raises(ValueError, match="expected a mask or boxes, got both"):
        draw_template(model, torch.ones(1, 64, 64), "0 0 1 1", nothing)
    with pytest.raises(ValueError, match="expected a word of the prompt"):
        template(model, text=CAPTION, word="dog")
    with pytest.raises(ValueError, match=r"expected start_percent below end_percent, got 0\.5 and 0\.2"):
        template(model, window=Window(0.5, 0.2))


def test_the_template_image_comes_out():
    model = model_of()
    found = preview_template(model, recorded(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}, None)
    assert found.shape[0] == 1 and found.shape[3] == 3
