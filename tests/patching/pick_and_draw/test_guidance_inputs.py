"""What palettes and templates are made of: windows, sizes, prompts, drawn places, the vanilla run, and files that are
cut short."""

from dataclasses import replace

import comfy.sample
import folder_paths
import pytest
import torch
from comfy_extras.nodes_sag import SelfAttentionGuidance
from likeness.kernels.pick_and_draw import scaled_to
from likeness.patching.features.references import NOISED, references
from likeness.patching.host import files as saved_files
from likeness.patching.host.window import ALWAYS, Window
from likeness.patching.pick_and_draw import build_palette, palette_file
from likeness.patching.pick_and_draw.build_template import Sampling, draw_template, record_template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SIDE,
    WORD,
    clip_of,
    encoded,
    guided,
    levels,
    made,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    square,
    template,
)
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
STEPS = 4


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path


def test_guidance_acts_only_where_the_palette_has_features():
    model = model_of()
    given = palette(model, window=Window(0.0, 0.5))
    patched, log = guided(model, given)
    run(patched, steps=STEPS)
    inside = Window(0.0, 0.5).resolve(model.get_model_object("model_sampling"))
    expected = [s for s in levels(model, STEPS)[:-1] if inside.contains(s)]
    assert 0 < len(expected) < STEPS
    assert [s for s, _ in log.entries] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=r"expected a palette for 0.6 to 0.9 of sampling, got one for 0 to 0.5"):
        guided(model, given, appearance_start=0.6, appearance_end=0.9)


def test_chained_palettes_have_one_window():
    model = model_of()
    with pytest.raises(
        ValueError,
        match=r"expected palettes for the same part of sampling, got one for 0 to 0.5 in more and 0 to 1 here",
    ):
        made(model, more=palette(model, window=Window(0.0, 0.5)), window=ALWAYS)


def test_a_palette_of_another_text_encoder_is_refused():
    model = model_of()
    given = palette(model)
    items = tuple(replace(item, conditioning=[[torch.randn(1, 77, 32), {}]]) for item in given.references.items)
    with pytest.raises(ValueError, match=r"^UREMDGuidance: expected .*palette"):
        guided(model, replace(given, references=replace(given.references, items=items)))


def test_the_conditioning_stands_for_the_caption():
    model = model_of()
    same, other = (run(guided(model, palette(model, conditioning=encoded(text)))[0]) for text in (CAPTION, "a chair"))
    assert torch.equal(same, run(guided(model, palette(model))[0]))
    assert not torch.equal(same, other)


class Averages:
    """A VAE that only makes pictures smaller."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], 1)

    def decode(self, samples):
        return torch.nn.functional.interpolate(samples[:, :3], scale_factor=8).movedim(1, -1)


@pytest.mark.parametrize(("side", "expected"), [(8 * SIDE, SIDE), (16 * SIDE, SIDE), (12 * SIDE, SIDE)])
def test_large_pictures_are_scaled_down_with_their_masks(monkeypatch, side, expected):
    monkeypatch.setattr(build_palette, "_MOST_PIXELS", (8 * SIDE) ** 2)
    mask = torch.zeros(1, side, side)
    mask[:, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
    found = made(model_of(), latent=None, image=torch.rand(1, side, side, 3), vae=Averages(), mask=mask)
    (item,) = found.palette.references.items
    assert item.latent["samples"].shape[2:] == (expected, expected)
    torch.testing.assert_close(item.mask, square()[0])


def test_scaling_down_keeps_the_shape():
    found = references(
        torch.rand(2, 750, 1500, 3),
        Averages(),
        encoded(CAPTION),
        NOISED,
        0,
        torch.ones(1, 750, 1500),
        1.0,
        "",
        512 * 512,
    )
    shapes = [(item.latent["samples"].shape[2:], item.mask.shape) for item in found.items if item.mask is not None]
    assert shapes == [((45, 90), (360, 720))] * 2


def test_a_mask_is_of_the_picture_as_it_was_given(monkeypatch):
    monkeypatch.setattr(build_palette, "_MOST_PIXELS", (8 * SIDE) ** 2)
    with pytest.raises(ValueError, match="expected a mask of the picture's size, 256 x 256, got 1 of 100 x 100"):
        made(model_of(), latent=None, image=torch.rand(1, 256, 256, 3), vae=Averages(), mask=torch.ones(1, 100, 100))


def test_a_drawn_map_has_the_generated_ones_size_and_sum():
    box = draw_template(model_of(), None, "0 0.5 0.25 1", {"samples": torch.zeros(1, 4, SIDE, SIDE)}).mask
    assert box is not None
    found = scaled_to(box, torch.stack([torch.full((4, 4), 0.25), torch.full((4, 4), 0.5)]))
    expected = torch.zeros(4, 4)
    expected[2:, 0] = 1  # the left quarter of the lower half
    torch.testing.assert_close(found, torch.stack([expected * 2, expected * 4]))


def test_the_template_image_is_the_samplers():
    model, empty = model_of(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    sampling = Sampling(seed=9, steps=STEPS, cfg=4.0, sampler="euler", scheduler="normal", denoise=1.0)
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
    expected = run(model, noise=comfy.sample.prepare_noise(empty["samples"], 9), steps=STEPS)
    assert torch.equal(found["samples"], expected)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_template_that_is_followed_moves_nothing(family):
    """A loss of next to nothing has a gradient too, in an arbitrary direction, and a relative step does not look at its
    length."""
    model = model_of(family)
    followed = template(model, family, word=WORD)
    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, SIDE, SIDE), 9)
    plain = run(model, family, noise=noise)
    for changes, moved in (({}, False), ({"template": recorded(family)}, True)):
        patched, _ = guided(model, family=family, **{"template": followed, **changes})
        assert (relative(run(patched, family, noise=noise), plain) > 1e-3) is moved


def test_a_write_that_fails_leaves_nothing(output, monkeypatch):
    def broken(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(saved_files, "save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        palette_file.save(palette(model_of()), "one")
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_features_that_lack_tokens_are_refused(output):
    model = model_of()
    path = palette_file.save(palette(model, sigmas=torch.tensor(levels(model))), "one")
    with safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, path, metadata=facts)
    palette_file.load(path.name)
    facts["tokens"] = facts["tokens"].replace("16", "15")
    save_file(tensors, path, metadata=facts)
    with pytest.raises(
        ValueError,
        match=r"expected a complete palette, got .* without some of it .features of as many tokens as when",
    ):
        palette_file.load(path.name)


def test_a_denoised_blurred_picture_is_not_guided():
    model = model_of()
    beside = SelfAttentionGuidance.execute(model, 0.5, 2.0)[0]
    patched, log = guided(beside, palette(model), recorded())
    found = run(patched, steps=STEPS)
    assert len(log.entries) == STEPS
    assert torch.isfinite(found).all() and not torch.equal(
        found, run(guided(model, palette(model), recorded())[0], steps=STEPS)
    )


def test_a_prompt_for_the_bounds_of_a_mask_is_refused():
    model = model_of()
    (text, rest) = encoded(PROMPT)[0]
    patched = guided(model, palette(model))[0]
    inside = {"mask": square(), "mask_strength": 1.0, "set_area_to_bounds": True}
    with pytest.raises(
        ValueError, match=r"got one for an area of it; .* set set_cond_area of ConditioningSetMask to default"
    ):
        run(patched, positive=[[text, {**rest, **inside}]])
    run(patched, positive=[[text, {**rest, **inside, "set_area_to_bounds": False}]], noise=noise_of(4))
