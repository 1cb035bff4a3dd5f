"""Palettes: the features in them, at which levels, of how many pictures."""

import contextlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from likeness.patching.features.references import INVERTED, NOISED, References
from likeness.patching.host.window import ALWAYS, Window
from likeness.patching.pick_and_draw.build_palette import AVERAGE, PER_LEVEL, build_palette
from likeness.patching.pick_and_draw.palette import fill
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    SIDE,
    STEPS,
    Calls,
    clip_of,
    guided,
    levels,
    made,
    model_of,
    palette,
    picture,
    run,
    sampled,
    square,
)
from likeness.tests.patching.two_models import add_lora

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def names_of(given):
    return {
        (la, round(s, 3)): v.shape[1] for key, s, v in given.references.items[0].bank.items() for la in (key.layer,)
    }


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
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


def shortly_inverted(model):
    """A palette whose inversion has six steps."""
    made = palette(model, source=INVERTED)
    items = tuple(replace(item, inversion_steps=6) for item in made.references.items)
    return replace(made, references=References(items))


def test_features_are_computed_once_for_weights_and_levels():
    model = model_of()
    calls, given = Calls(model), palette(model)
    run(guided(calls.model, given)[0])
    first = len(calls.rows)
    run(guided(calls.model, given)[0], noise=None)
    again = len(calls.rows) - first
    assert first - again == STEPS  # noised: one call per level
    inverted = shortly_inverted(model)
    calls.rows.clear()
    run(guided(calls.model, inverted)[0])
    assert len(calls.rows) == again + STEPS + 6  # and one more per step of the inversion
    calls.rows.clear()
    run(guided(add_lora(calls.model), given)[0])
    assert len(calls.rows) == again + STEPS  # other weights see something else


@pytest.mark.parametrize("saliency", [AVERAGE, PER_LEVEL])
def test_a_pass_over_a_picture_ends_with_the_last_layer_that_is_read(saliency):
    """Another node's wrapper may call the network again with the same reader, so its passes run to their end."""
    found = {}
    for name, model in (("ends", model_of()), ("wrapped", Calls(model_of()).model)):
        given = build_palette(model, clip_of(), picture(mask=None), saliency=saliency, **CHOICES).palette
        with blocks_called(model) as called:
            fill(given, model, levels(model)[:-1], levels(model), "test")
        found[name] = (called, [values for _, _, values in given.references.items[0].bank.items()])
    assert found["ends"][0] == dict.fromkeys(range(9), STEPS)
    assert found["wrapped"][0] == dict.fromkeys(range(12), STEPS)
    assert all(torch.equal(a, b) for a, b in zip(found["ends"][1], found["wrapped"][1], strict=True))


CHOICES = {"source": NOISED, "seed": 5, "weight": 1.0, "blocks": "paper", "window": ALWAYS}


@contextlib.contextmanager
def blocks_called(model):
    """Counts the calls of a U-Net's output blocks by their number."""
    called = Counter()
    with contextlib.ExitStack() as stack:
        for number, block in enumerate(model.model.diffusion_model.output_blocks):
            for layer in list(block.children())[:1]:
                hook = layer.register_forward_pre_hook(lambda *_, number=number: called.update([number]))
                stack.callback(hook.remove)
        yield called


def test_sigmas_compute_ahead():
    model = model_of()
    calls, ahead = Calls(model), palette(model, sigmas=torch.tensor(levels(model)))
    assert len(names_of(ahead)) == STEPS * 3
    run(guided(calls.model, ahead)[0])
    plain = Calls(model)
    run(guided(plain.model, palette(model))[0])
    assert len(plain.rows) - len(calls.rows) == STEPS
    with pytest.raises(
        ValueError, match=r"^Appearance Palette: expected noise levels between .* got none of 2; connect .*\.$"
    ):
        palette(model, window=Window(0.0, 0.01), sigmas=torch.tensor([3.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="got none of 0"):
        palette(model, sigmas=torch.tensor([]))
    half = palette(model, window=Window(0.6, 1.0), sigmas=torch.tensor(levels(model)))
    assert {s for _, s in names_of(half)} < {s for _, s in names_of(ahead)}


def test_a_schedule_that_ends_early_is_inverted_as_the_whole():
    model = model_of()
    full, latents = levels(model, 4), []
    for schedule in (full[:-1], full[:2]):
        given = shortly_inverted(model)
        fill(given, model, full[:2], schedule, "test")
        (inversion,) = given.references.items[0].inversions.values()
        assert len(inversion.sigmas) == 7
        latents.append(inversion.latents)
    assert all(torch.equal(a, b) for a, b in zip(*latents, strict=True))


def test_guidance_acts_only_where_the_palette_has_features():
    model = model_of()
    given = palette(model, window=Window(0.0, 0.5))
    patched, log = guided(model, given)
    run(patched, steps=4)
    inside = Window(0.0, 0.5).resolve(model.get_model_object("model_sampling"))
    expected = [s for s in levels(model, 4)[:-1] if inside.contains(s)]
    assert 0 < len(expected) < 4
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
