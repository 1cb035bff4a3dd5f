"""A palette's features, its saliency masks per noise level, and null-text inversion."""

from dataclasses import replace

import pytest
import torch
from likeness.kernels.diffusion import ddim_step
from likeness.patching.features.references import INVERTED
from likeness.patching.features.sources import invert
from likeness.patching.host.family import CROSS_INPUT, CROSS_OUTPUT, FEATURES
from likeness.patching.host.words import find_word
from likeness.patching.pick_and_draw import palette_file
from likeness.patching.pick_and_draw.build_palette import AVERAGE, PER_LEVEL, build_palette
from likeness.patching.pick_and_draw.null_text import NULL_TEXT, null_text
from likeness.patching.pick_and_draw.palette import fill
from likeness.tests.patching.pick_and_draw.guidance_by_hand import ByHand
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    SCHEDULE,
    SIDE,
    SUBJECT,
    clip_of,
    encoded,
    guided,
    model_of,
    picture,
    relative,
    sampled,
)
from likeness.tests.patching.tiny_models import latent

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
LEVELS = SCHEDULE[:2]


def chosen(model, *, source="noised", features=FEATURES[0], saliency=AVERAGE, more=None, **changes):
    return build_palette(
        model,
        clip_of(),
        picture(**changes),
        source=source,
        seed=5,
        weight=1.0,
        blocks="paper",
        window=guided_window(),
        more=more,
        features=features,
        saliency=saliency,
    ).palette


def guided_window():
    from likeness.patching.host.window import ALWAYS

    return ALWAYS


def features_of(given, sigma):
    return {key.layer: values[0] for key, s, values in given.references.items[0].bank.items() if s == sigma}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_are_what_the_layers_modules_get_and_give(kind):
    model, by_hand = model_of(), ByHand("sd1")
    given, found = chosen(model, features=kind), {}
    fill(given, model, LEVELS, SCHEDULE, "test")
    for block in by_hand.base.diffusion_model.output_blocks[6][1].transformer_blocks:
        block.attn2.register_forward_hook(
            lambda module, inputs, output: found.update({CROSS_INPUT: inputs[0], CROSS_OUTPUT: output})
        )
        block.attn1.register_forward_pre_hook(lambda module, inputs: found.update({FEATURES[0]: inputs[0]}))
    clean = by_hand.base.process_latent_in(latent(1, SIDE, SIDE, 20)["samples"])
    noise = torch.randn(clean.shape, generator=torch.manual_seed(5))
    with torch.no_grad():
        by_hand.denoised(clean + LEVELS[0] * noise, LEVELS[0], CAPTION)
    layer = next(la for la in features_of(given, LEVELS[0]) if la.number == 6)
    expected = found[kind][0].view(SIDE // 2, SIDE // 2, -1)[2:6, 2:6].flatten(0, 1)
    torch.testing.assert_close(features_of(given, LEVELS[0])[layer], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FEATURES[1:])
def test_guidance_reads_the_palettes_kind(kind):
    model = model_of()
    patched, log = guided(model, chosen(model, features=kind), None)
    found = sampled(patched)
    other = sampled(guided(model, chosen(model), None)[0])
    assert torch.isfinite(found).all() and relative(found, other) > 1e-3
    assert relative(found, sampled(model)) > 0.01 and len(log.entries) == 2


def test_palettes_of_different_features_are_not_added():
    model = model_of()
    with pytest.raises(ValueError, match=r"^Appearance Palette: expected palettes of the same features, got cross"):
        chosen(model, more=chosen(model, features=CROSS_INPUT))


def test_each_noise_level_has_the_mask_of_its_own_maps():
    model, by_hand = model_of(), ByHand("sd1")
    given = chosen(model, saliency=PER_LEVEL, mask=None, map_blocks="output3-8", threshold=0.5)
    fill(given, model, LEVELS, SCHEDULE, "test")
    clean = by_hand.base.process_latent_in(latent(1, SIDE, SIDE, 20)["samples"])
    noise = torch.randn(clean.shape, generator=torch.manual_seed(5))
    column = find_word(clip_of(), CAPTION, SUBJECT, "test").tokens[0]
    counts = []
    for sigma in LEVELS:
        with torch.no_grad():
            by_hand.denoised(clean + sigma * noise, sigma, CAPTION)
        maps = []
        for layer in by_hand.layers("q", range(3, 9)):
            q, k, heads = (by_hand.seen[what, layer] for what in ("q", "k", "heads"))
            q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
            share = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)[..., column].mean(1)
            side = round(share.shape[1] ** 0.5)
            maps.append(torch.nn.functional.interpolate(share.view(1, 1, side, side), (8, 8), mode="bilinear")[0, 0])
        mean = torch.stack(maps).mean(0)
        subject = ((mean - mean.min()) / (mean.max() - mean.min()) > 0.5).flatten()
        expected = by_hand.seen["hidden", layer][0][subject]
        torch.testing.assert_close(features_of(given, sigma)[layer], expected, rtol=1e-4, atol=1e-5)
        counts.append(subject.tolist())
    assert counts[0] != counts[1]


def test_a_mask_beside_masks_per_level_is_told():
    from likeness.patching.host.notices import Notices

    told, model = Notices("node"), model_of()
    build_palette(
        model,
        clip_of(),
        picture(),
        source="noised",
        seed=5,
        weight=1.0,
        blocks="paper",
        window=guided_window(),
        saliency=PER_LEVEL,
        notices=told,
    )
    assert "which holds at all levels; disconnect mask" in told.sentences[0]


def followed(model, pivots, scale=7.5):
    """Guided DDIM sampling with the empty prompt from the top of an inversion down to the picture."""
    x, result = pivots.latents[-1], [pivots.latents[-1]]
    by_hand = ByHand("sd1")
    levels = pivots.sigmas
    with torch.no_grad():
        for high, low in zip(levels[:0:-1], levels[-2::-1], strict=True):
            without, given = by_hand.denoised(x, high, ""), by_hand.denoised(x, high, CAPTION)
            x = ddim_step(x, without + scale * (given - without), high, low)
            result.append(x)
    return result[::-1]


@pytest.mark.slow
def test_null_text_inversion_follows_the_inversion_under_guidance():
    model = model_of()
    reference = chosen(model, source=INVERTED).references.items[0]
    pivots = invert(model, encoded(CAPTION), reference.latent, (3.0, 1.5, 0.6), "test")
    weights = model.model.diffusion_model.named_parameters()
    before = {name: (value.clone(), value.requires_grad) for name, value in weights}
    found = null_text(model, reference, encoded(""), pivots, "test")
    plain = followed(model, pivots)
    assert found.sigmas == pivots.sigmas
    for i in range(len(pivots.sigmas) - 1):
        distances = [float((x[i] - pivots.latents[i]).norm()) for x in (found.latents, plain)]
        assert distances[0] < 0.9 * distances[1]
    assert torch.equal(found.latents[-1], pivots.latents[-1])
    without = null_text(model, reference, encoded(""), pivots, "test", steps=0)
    for each, expected in zip(without.latents, plain, strict=True):
        torch.testing.assert_close(each, expected, rtol=1e-3, atol=1e-3)
    for name, value in model.model.diffusion_model.named_parameters():
        assert torch.equal(value, before[name][0]) and value.requires_grad == before[name][1]


def test_null_text_beside_a_patch_that_changes_skip_connections_in_place():
    def halved(h, skipped, options):
        return h, skipped.mul_(0.5)

    model = model_of()
    reference = chosen(model, source=INVERTED).references.items[0]
    pivots = invert(model, encoded(CAPTION), reference.latent, (3.0, 1.5), "test")
    patched = model.clone()
    patched.set_model_output_block_patch(halved)
    found, plain = (null_text(each, reference, encoded(""), pivots, "test", steps=1) for each in (patched, model))
    assert not torch.equal(found.latents[0], plain.latents[0])


def test_a_palette_with_all_choices_is_saved_and_loaded(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    model = model_of()
    given = chosen(model, source=NULL_TEXT, features=CROSS_OUTPUT, saliency=PER_LEVEL, mask=None)
    assert given.subjects[0] is not None and given.empty_prompt is not None
    items = (replace(given.references.items[0], kind="noised"),)  # spares the test an inversion
    given = replace(given, references=replace(given.references, items=items))
    fill(given, model, LEVELS, SCHEDULE, "test")
    loaded = palette_file.load(palette_file.save(given, "subject").name)
    assert (loaded.kind, loaded.subjects) == (given.kind, given.subjects)
    assert torch.equal(loaded.empty_prompt[0][0], given.empty_prompt[0][0])
    found, expected = (features_of(each, LEVELS[1]) for each in (loaded, given))
    assert found.keys() == expected.keys() and all(torch.equal(found[la], expected[la]) for la in found)


def test_palettes_of_one_picture_do_not_mix_their_choices():
    """Executions of the node with the same picture share a bank."""
    model, pixels = model_of(), latent(1, SIDE, SIDE, 20)
    settings = {"mask": None, "map_blocks": "output3-8", "latent": pixels}
    found = {}
    for saliency in (AVERAGE, PER_LEVEL, AVERAGE):
        given = chosen(model, saliency=saliency, **settings)
        found.setdefault(saliency, []).append(sampled(guided(model, given, None)[0]))
    assert torch.equal(found[AVERAGE][0], found[AVERAGE][1])
    assert relative(found[AVERAGE][0], found[PER_LEVEL][0]) > 1e-3
