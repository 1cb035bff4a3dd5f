"""Sentences on UREMDGuidance and AppearancePalette about what has no effect, and silence about what is neutral."""

import pytest
import torch
from likeness.patching.features.references import References
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window
from likeness.patching.pick_and_draw.build_palette import build_palette
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    clip_of,
    encoded,
    guided,
    levels,
    made,
    model_of,
    palette,
    picture,
    recorded,
    sampled,
    template,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def told(run=True, given=None, layout=None, positive=None, **changes):
    """The sentences of one guided run, and whether its picture is the unguided one's."""
    model, notices = model_of(), Notices("Subject Guidance")
    patched, _ = guided(
        model,
        palette(model) if given is None else given,
        recorded() if layout is None else layout,
        notices=notices,
        **changes,
    )
    same = run and torch.equal(sampled(patched, positive=positive), sampled(model, positive=positive))
    return notices.sentences, same


def test_a_sampler_that_skips_the_guided_steps_is_told():
    """With two steps asked for, dpm_fast takes one."""
    model, notices = model_of(), Notices("Subject Guidance")
    schedule = levels(model, 2)
    late = {"appearance_start": 0.4, "appearance_end": 1.0, "layout_weight": 0.0}
    patched, _ = guided(model, palette(model), None, notices=notices, **late)
    sampled(patched, schedule=schedule, sampler="dpm_fast")
    assert any("the model was called in none of the guided steps" in s for s in notices.sentences), notices.sentences


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layout_start": 0.5, "layout_end": 0.3}, "expected layout_start below layout_end, got 0.5 and 0.3, so that"),
        ({"layout_start": 0.3, "layout_end": 0.3}, "expected layout_start below layout_end, got 0.3 and 0.3, so that"),
        (
            {"appearance_start": 1.0, "appearance_end": 0.0},
            "expected appearance_start below appearance_end, got 1 and 0",
        ),
        ({"step": "raw", "step_size": 0.001}, "expected steps that change the picture, got none longer than"),
        (
            {"step_size": 1e-6},
            "expected steps that change the picture, got none longer than 1e-06 of the latent's norm",
        ),
    ],
)
def test_what_has_no_effect_is_told(changes, sentence):
    (found,), _ = told(run="step_size" in changes, **changes)
    assert found.startswith("Warning: E" + sentence[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"layout_weight": 0.0, "layout_start": 0.5, "layout_end": 0.3},
        {"layout_weight": 0.0, "appearance_weight": 0.0},
        {"step_size": 0.0, "layout_start": 0.5, "layout_end": 0.3},
        {"layout_blocks": "", "appearance_weight": 0.0},
    ],
)
def test_neutral_values_are_silent(changes):
    sentences, same = told(**changes)
    assert sentences == ()
    if "appearance_weight" in changes or "step_size" in changes:
        assert same


@pytest.mark.parametrize("missing", ["palette", "template"])
def test_a_weight_without_its_source_is_told_where_nothing_else_acts(missing):
    model = model_of()
    if missing == "palette":
        sources, acting, idle = (None, recorded()), "layout_weight", "appearance_weight"
    else:
        sources, acting, idle = (palette(model), None), "appearance_weight", "layout_weight"
    found = {}
    for weight in (0.0, 1.0):
        notices = Notices("Subject Guidance")
        guided(model, *sources, notices=notices, **{acting: weight, idle: 1.0})
        found[weight] = notices.sentences
    assert found[1.0] == ()
    assert found[0.0][0].startswith(f"Warning: Expected a {missing} or {acting} above 0, got")


def test_a_text_that_is_not_the_samplers_prompt_is_told():
    (found,), _ = told(positive=encoded("a photo of a red cat on a red chair"))
    assert "expected text to be the sampler's positive prompt, got another one" in found.replace("Expected", "expected")
    assert told(positive=encoded(PROMPT))[0] == ()


def test_a_conditioning_that_is_not_the_caption_is_told():
    model, notices = model_of(), Notices("Appearance Palette")

    def build(**changes):
        given = picture(mask=None, **changes)
        build_palette(
            model,
            clip_of(),
            given,
            source="noised",
            seed=5,
            weight=1.0,
            blocks="paper",
            window=Window(),
            notices=notices,
        )
        return notices.sentences

    assert build(conditioning=encoded("a photo of a cat")) == ()
    (found,) = build(conditioning=encoded("a chair"))
    assert "xpected conditioning to encode text, got another caption" in found


def test_a_weight_without_effect_is_told():
    model = model_of()
    (found,), _ = told(given=palette(model, weight=2.0), run=False)
    assert "xpected several pictures for a weight of 2, got one" in found
    both = made(model, seed=33, more=palette(model, weight=2.0)).palette
    assert isinstance(both.references, References)
    (found,), _ = told(given=both, run=False, direction="ref_to_gen")
    assert "xpected pictures of one weight with direction ref_to_gen" in found
    assert told(given=both, run=False)[0] == ()


def test_a_template_without_the_levels_that_follow_it_is_told():
    late = template(model_of(), steps=4, window=Window(0.5, 1.0))
    (found,), _ = told(layout=late)
    assert "xpected a template recorded wherever the layout loss acts, got one without noise levels near 3;" in found
    assert late.uncovered([0.5]) == [] and late.uncovered([3.0]) == [3.0]
