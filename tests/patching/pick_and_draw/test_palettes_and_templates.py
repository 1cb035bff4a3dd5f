"""What is picked from a reference, what is drawn from a vanilla run, and both as files."""

import json
from dataclasses import replace

import folder_paths
import pytest
import torch
from likeness.patching.features.references import INVERTED, NOISED
from likeness.patching.host.blocks import Layer
from likeness.patching.host.window import Window
from likeness.patching.pick_and_draw import palette_file, template_file
from likeness.patching.pick_and_draw.build_template import draw_template
from likeness.patching.pick_and_draw.palette import fill
from likeness.patching.pick_and_draw.previews import preview_template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    SIDE,
    STEPS,
    Calls,
    guided,
    levels,
    made,
    model_of,
    palette,
    recorded,
    run,
    sampled,
    square,
)
from likeness.tests.patching.pick_and_draw.guidance_runs import template as record
from likeness.tests.patching.tiny_models import latent
from likeness.tests.patching.two_models import add_lora

FAMILIES = pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])


pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path


def names_of(given):
    return {
        (la, round(s, 3)): v.shape[1] for key, s, v in given.references.items[0].bank.items() for la in (key.layer,)
    }


@FAMILIES
def test_a_palette_holds_the_subjects_tokens_at_the_guided_levels(family):
    model = model_of(family)
    given = palette(model, family)
    assert not names_of(given)
    run(guided(model, given, None, family)[0], family)
    found = names_of(given)
    side = {"sd1": SIDE // 2, "sd2": SIDE // 2, "sdxl": SIDE // 2}[family]
    inside = int(torch.nn.functional.interpolate(square()[None], (side, side), mode="area").ge(0.5).sum())
    assert set(found.values()) == {inside} and inside < side * side
    assert {s for _, s in found} == {round(s, 3) for s in levels(model)[:-1]}
    assert {f"{layer.kind}{layer.number}" for layer, _ in found} == set(given.blocks)
    assert str(given).splitlines()[0] == f"palette of {', '.join(given.blocks)}" and "MiB" in str(given)


def test_features_are_computed_once_for_weights_and_levels():
    model = model_of()
    calls, given = Calls(model), palette(model)
    run(guided(calls.model, given)[0])
    first = len(calls.rows)
    run(guided(calls.model, given)[0], noise=None)
    again = len(calls.rows) - first
    assert first - again == STEPS  # noised: one call per level
    inverted = palette(model, source=INVERTED)
    calls.rows.clear()
    run(guided(calls.model, inverted)[0])
    assert len(calls.rows) == again + 2 * STEPS  # and one more per level of the inversion
    calls.rows.clear()
    run(guided(add_lora(calls.model), given)[0])
    assert len(calls.rows) == again + STEPS  # other weights see something else


def test_sigmas_compute_ahead():
    model = model_of()
    calls, ahead = Calls(model), palette(model, sigmas=torch.tensor(levels(model)))
    assert len(names_of(ahead)) == STEPS * 3
    run(guided(calls.model, ahead)[0])
    plain = Calls(model)
    run(guided(plain.model, palette(model))[0])
    assert len(plain.rows) - len(calls.rows) == STEPS
    with pytest.raises(
        ValueError, match=r"^AppearancePalette: expected noise levels between .* got none of 2; connect .*\.$"
    ):
        palette(model, window=Window(0.0, 0.01), sigmas=torch.tensor([3.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="got none of 0"):
        palette(model, sigmas=torch.tensor([]))
    half = palette(model, window=Window(0.6, 1.0), sigmas=torch.tensor(levels(model)))
    assert {s for _, s in names_of(half)} < {s for _, s in names_of(ahead)}


def test_a_schedule_that_ends_early_is_inverted_from_a_clean_picture():
    """The first step of an inversion takes the picture for its lowest noise level's."""
    model = model_of()
    full = levels(model, 12)
    for schedule in (full[:-1], full[:4]):
        given = palette(model, source=INVERTED)
        fill(given, model, full[:2], schedule, "test")
        (inversion,) = given.references.items[0].inversions.values()
        assert inversion.visits(full[:2]) and 0 < inversion.sigmas[1] < 0.2


def test_the_mask_comes_from_the_words():
    model = model_of()
    found = made(model, mask=None, threshold=0.5)
    assert found.mask.shape[0] == 1 and set(found.mask.unique().tolist()) == {0.0, 1.0}
    more = made(model, mask=None, threshold=0.2).mask
    assert bool((more >= found.mask).all()) and more.sum() > found.mask.sum()
    with pytest.raises(ValueError, match="where the map of 'cat' is above threshold 1, got nothing; lower threshold"):
        made(model, mask=None, threshold=1.0)


def test_the_mask_is_looked_for_without_the_packs_other_patches():
    model = model_of()
    expected = made(model, mask=None).mask
    guided_model, _ = guided(model, palette(model), recorded())
    torch.testing.assert_close(made(guided_model, mask=None).mask, expected)


def test_the_preview_shows_picture_mask_and_features():
    found = made(model_of())
    assert found.preview.shape[0] == 1 and found.preview.shape[3] == 3
    assert float(found.preview.min()) >= 0 and float(found.preview.max()) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.zeros(1, 128, 128)}, "expected a mask with the subject in it for each of 1 pictures"),
        ({"latent": None}, "expected a picture, as image with vae or as latent, got neither"),
        ({"word": "dog", "mask": None}, "expected a word of the prompt"),
        ({"blocks": ""}, "expected at least one block to take features from, got none"),
        ({"blocks": "output99"}, "output99"),
        ({"window": Window(0.5, 0.5)}, "expected start_percent below end_percent"),
        ({"map_blocks": "", "mask": None}, "expected at least one block in map_blocks"),
    ],
)
def test_a_palette_refuses(changes, message):
    model = model_of()
    with pytest.raises(ValueError, match=r"^AppearancePalette: ") as failure:
        made(model, **changes)
    assert message in str(failure.value) and "\n" not in str(failure.value)


def test_a_palette_of_another_family_or_blocks_is_refused():
    with pytest.raises(
        ValueError, match=r"^UREMDGuidance: expected a palette of this model's family and blocks .*output6, output7"
    ):
        guided(model_of("sdxl"), palette(model_of()), None, "sdxl")
    with pytest.raises(ValueError, match=r"^UREMDGuidance: expected a palette of this model's family"):
        guided(model_of(), replace(palette(model_of()), family="another"))
    with pytest.raises(ValueError, match=r"^UREMDGuidance: expected a template of this model's family"):
        guided(model_of(), None, replace(recorded(), family="another"))
    with pytest.raises(ValueError, match=r"^UREMDGuidance: expected a template with maps of .*, got one without"):
        guided(model_of(), None, record(model_of(), blocks="output6"))
    one, two = palette(model_of(), blocks="output6"), {"blocks": "output7"}
    with pytest.raises(ValueError, match="expected palettes of the same blocks, got output6 and output7"):
        made(model_of(), more=one, **two)


def test_two_pictures_are_one_palette():
    model = model_of()
    one, other = made(model, seed=20).palette, made(model, seed=33).palette
    both = made(model, seed=33, more=one).palette
    assert len(both.references.items) == 2
    for given in (one, other):
        losses = []
        for used in (given, both):
            patched, log = guided(model, used, step_size=1e-6)
            sampled(patched, schedule=(3.0, 1.75))
            losses.append(float(log.entries[0][1]["appearance"]))
        assert losses[1] <= losses[0] + 1e-6  # more to choose from is never farther


def test_a_reference_of_more_weight_is_found_first():
    """A weight changes which token of the palette is the nearest, not how far that one is."""
    model = model_of()
    one, losses = made(model, seed=20).palette, []
    for weight in (1.0, 1e4):
        both = made(model, seed=33, more=one, weight=weight).palette
        assert [item.weight for item in both.references.items] == [1.0, weight]
        patched, log = guided(model, both, step_size=1e-6)
        sampled(patched, schedule=(3.0, 1.75))
        losses.append(float(log.entries[0][1]["appearance"]))
    patched, log = guided(model, made(model, seed=33).palette, step_size=1e-6)
    sampled(patched, schedule=(3.0, 1.75))
    other = float(log.entries[0][1]["appearance"])
    assert losses[0] < losses[1] == pytest.approx(other, rel=1e-5)


def saved_and_loaded(store, given):
    path = store.save(given, "test/one")
    assert path.suffix == ".safetensors" and not list(path.parent.glob("*.tmp"))
    return path, store.load(store.STORE.names()[0])


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("source", [NOISED, INVERTED])
def test_a_saved_palette_guides_alike_without_being_computed_again(output, pictures, source):
    model = model_of()
    given = made(model, latent=latent(pictures, SIDE, SIDE, 20), source=source).palette
    expected = run(guided(model, given)[0])
    _, loaded = saved_and_loaded(palette_file, given)
    assert (loaded.blocks, loaded.family, loaded.context, loaded.window) == (
        given.blocks,
        given.family,
        given.context,
        given.window,
    )
    calls = Calls(model)
    assert torch.equal(run(guided(calls.model, loaded)[0]), expected)
    known = Calls(model)
    run(guided(known.model, given)[0])
    assert len(calls.rows) == len(known.rows)


def test_a_saved_template_guides_alike(output):
    model, given = model_of(), record(model_of())
    drawn = draw_template(model, None, "0.1 0.2 0.5 0.9", {"samples": torch.zeros(1, 4, SIDE, SIDE)})
    for wanted in (given, drawn):
        path, loaded = saved_and_loaded(template_file, wanted)
        assert torch.equal(run(guided(model, None, loaded)[0]), run(guided(model, None, wanted)[0]))
        path.unlink()


@pytest.mark.parametrize("store", [palette_file, template_file])
def test_names_cannot_leave_the_folder(output, store):
    (output / "secret.safetensors").write_bytes(b"x")
    for name in ("../secret.safetensors", str(output / "secret.safetensors"), "nothing.safetensors"):
        with pytest.raises(FileNotFoundError, match="expected a saved"):
            store.load(name)
    for prefix in ("../../escaped", "../escaped", str(output.parent / "escaped")):
        with pytest.raises(
            ValueError, match=r"expected a name below output/likeness_\w+, got .*; change filename_prefix"
        ):
            store.save(palette(model_of()) if store is palette_file else recorded(), prefix)
    assert not list(output.parent.rglob("escaped*"))


@pytest.mark.parametrize("store", [palette_file, template_file])
def test_a_broken_file_is_one_sentence(output, store):
    path = store.save(palette(model_of()) if store is palette_file else recorded(), "test/one")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="expected a whole safetensors file") as failure:
        store.load("test/" + path.name)
    assert "\n" not in str(failure.value)


def test_a_palettes_file_says_what_is_in_it(output):
    import safetensors

    model = model_of()
    given = palette(model, sigmas=torch.tensor(levels(model)))
    with safetensors.safe_open(palette_file.save(given, "one"), framework="pt") as file:
        facts = file.metadata()
    described = json.loads(facts["palette"])
    assert (described["family"], tuple(described["blocks"])) == (given.family, given.blocks)
    assert {round(entry[-1], 3) for entry in json.loads(facts["features"])} == {round(s, 3) for s in levels(model)[:-1]}
    assert json.loads(facts["mask_pixels"]) == [int(square().sum())]
    (counts,) = json.loads(facts["tokens"])
    assert set(counts.values()) == {16} and len(counts) == 3  # a quarter of 8 x 8


@FAMILIES
def test_a_template_has_every_layers_map_at_every_level(family):
    model = model_of(family)
    found = record(model, family, batch=2, steps=3)
    assert found.images == 2 and found.layers
    for maps in found.maps.values():
        assert sorted(maps, reverse=True) == pytest.approx(levels(model, 3)[:-1], rel=1e-4)
        assert all(m.shape[0] == 2 and m.dtype == torch.float32 and float(m.min()) >= 0 for m in maps.values())
    early = record(model, family, window=Window(0.0, 0.4), steps=3)
    assert all(len(maps) < 3 for maps in early.maps.values())


def test_a_template_follows_its_own_seed():
    first, again, other = (record(model_of(), seed=seed) for seed in (9, 9, 10))
    layer = Layer("output", 6, 0)
    sigma = max(first.maps[layer])
    assert torch.equal(first.at(layer, sigma), again.at(layer, sigma)) and not torch.equal(
        first.at(layer, sigma), other.at(layer, sigma)
    )


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
    with pytest.raises(ValueError, match=r"^LayoutTemplate: expected four fractions per line of boxes") as failure:
        draw_template(model_of(), None, boxes, {"samples": torch.zeros(1, 4, SIDE, SIDE)})
    assert message in str(failure.value)


def test_a_template_refuses():
    model, nothing = model_of(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}
    with pytest.raises(ValueError, match="expected a mask with the subject in it, got an empty one"):
        draw_template(model, torch.zeros(1, 64, 64), "", nothing)
    with pytest.raises(ValueError, match="expected a mask or boxes, got both"):
        draw_template(model, torch.ones(1, 64, 64), "0 0 1 1", nothing)
    with pytest.raises(ValueError, match="expected a word of the prompt"):
        record(model, text=CAPTION, word="dog")
    with pytest.raises(ValueError, match="expected blocks and a window to record in"):
        record(model, window=Window(0.5, 0.2))


def test_the_template_image_comes_out():
    model = model_of()
    found = preview_template(model, recorded(), {"samples": torch.zeros(1, 4, SIDE, SIDE)}, None)
    assert found.shape[0] == 1 and found.shape[3] == 3
