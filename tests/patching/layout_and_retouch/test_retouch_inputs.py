"""Retouches of layouts and prompts that are more than one plain run with one plain text."""

import math
from dataclasses import replace

import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import References
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import FORK, QKV_BOTH, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    STEPS,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora

MODES = (BATCHED, SEQUENTIAL, BANKED)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4 * float(b.abs().max()))


def combined(model, first=POSITIVE) -> list:
    return [*conditioning(model, seed=first), *conditioning(model, seed=14)]


@pytest.mark.parametrize("batch", [1, 2])
def test_combined_prompts_with_a_mask_that_follows(batch):
    """In one call, and in one call per prompt, as the host does it when memory is short."""
    model = tiny_model("sd1")
    patched = retouched(
        model, [reference(model)], layout=layout(model, batch=batch)[1], mask=mask(tokens=(1,), prompt_length=7)
    )
    empty = {"samples": torch.zeros(batch, 4, 8, 8)}
    together, apart = (
        run_ksampler(patched, combined(model), conditioning(model, seed=NEGATIVE), empty, steps=STEPS, apart=a)
        for a in (False, True)
    )
    assert torch.isfinite(together).all()
    close(apart, together)


@pytest.mark.parametrize(
    "settings", [{"early_swap": FORK, "lambda_2": 0}, {"early_swap": QKV_BOTH}, {"sampler": "ddim"}], ids=str
)
def test_samplers_that_can_follow_a_layout_of_euler(settings):
    """Another sampler can where it is not told the layout's answers; ddim is euler by another name."""
    model = tiny_model("sd1")
    sampler, options = settings.get("sampler", "heun"), {k: v for k, v in settings.items() if k != "sampler"}
    assert torch.isfinite(
        run(retouched(model, [reference(model)], layout=layout(model)[1], **options), sampler=sampler)
    ).all()


def test_blending_before_the_switch_agrees_between_modes():
    """The vanilla model's features are read where they were recorded; no mode computes them with personal weights."""
    vanilla = tiny_model("sd1")
    tuned = add_lora(vanilla)
    trajectory = layout(tuned, vanilla, switch=3, record="all")[1]
    first, *others = (run(retouched(tuned, [reference(tuned)], layout=trajectory, mask=mask(), mode=m)) for m in MODES)
    for other in others:
        close(other, first)
    unaware = run(
        retouched(
            tuned, [reference(tuned)], layout=replace(trajectory, switch_sigma=math.inf), mask=mask(), mode=SEQUENTIAL
        )
    )
    assert float((unaware - first).abs().max()) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_blending_before_the_switch_needs_a_record(mode):
    vanilla, calls = tiny_model("sd1"), []
    tuned = add_lora(vanilla)
    settings = {"layout": layout(tuned, vanilla, switch=3)[1], "mask": mask(), "mode": mode}
    with pytest.raises(
        ValueError,
        match=r"Reference Retouch: expected .* lambda_3 1 on, got none .* switch_step, or .* record_blocks",
    ):
        run(retouched(tuned, [reference(tuned)], **settings), callback=lambda *_: calls.append(1))
    assert not calls
    assert torch.isfinite(run(retouched(tuned, [reference(tuned)], **settings, lambda_3=3))).all()


def with_area(model) -> list:
    return [[text, {**rest, "area": (4, 8, 0, 0), "strength": 1.0}] for text, rest in conditioning(model, seed=14)]


def test_areas_in_the_samplers_prompt():
    model = tiny_model("sd1")
    positive = [*conditioning(model, seed=POSITIVE), *with_area(model)]
    with pytest.raises(
        ValueError, match=r"Reference Retouch: expected prompts for the whole picture, .* 64 x 32 pixels"
    ):
        patched = retouched(model, [reference(model)], layout=layout(model)[1], early_swap=QKV_BOTH)
        run_ksampler(patched, positive, steps=STEPS)
    assert torch.isfinite(run_ksampler(retouched(model, [reference(model)]), positive, steps=STEPS)).all()


PROMPTS = {
    "positive": ("positive", combined, "one positive prompt of the layout, got 2 combined"),
    "negative": ("negative", combined, "one negative prompt of the layout, got 2 combined"),
    "area": ("positive", with_area, "plain positive prompt of the layout, got one with area"),
}


@pytest.mark.parametrize("case", PROMPTS)
@pytest.mark.parametrize(
    "settings", [{"early_swap": QKV_BOTH}, {"early_swap": FORK, "mask": mask()}], ids=["early", "mask"]
)
def test_layouts_of_several_prompts_are_refused_where_they_would_run_again(case, settings):
    side, make, words = PROMPTS[case]
    model = tiny_model("sd1")
    trajectory = replace(layout(model)[1], **{side: make(model)})
    calls = []
    with pytest.raises(ValueError, match=f"^Reference Retouch: expected (a )?{words}"):
        run(retouched(model, [reference(model)], layout=trajectory, **settings), callback=lambda *_: calls.append(1))
    assert not calls


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_layouts_of_several_prompts_can_be_read(side):
    """fork reads what the layout's run answered, and a bank what it recorded; neither needs a prompt."""
    model = tiny_model("sd1")
    made = layout(model, record="all")[1]
    trajectory = replace(made, **{side: combined(model)})
    for settings in ({"mode": SEQUENTIAL}, {"mode": BANKED, "mask": mask()}):
        expected = run(retouched(model, [reference(model)], layout=made, **settings))
        assert torch.equal(run(retouched(model, [reference(model)], layout=trajectory, **settings)), expected)


def test_a_combined_layout_negative_is_refused():
    model = tiny_model("sd1")
    patched = retouched(model, layout=reference(model), layout_negative=combined(model), mask=mask())
    with pytest.raises(ValueError, match="one negative prompt of the layout"):
        run(patched)


@pytest.mark.parametrize("side", ["positive", "negative", "layout_negative"])
def test_prompts_of_another_family_are_refused(side):
    model = tiny_model("sd1")
    wide = [[torch.zeros(1, 7, 48), {}]]
    given, negative = (
        (References((reference(model),)), wide)
        if side == "layout_negative"
        else (
            replace(layout(model)[1], **{side: wide}),
            None,
        )
    )
    settings = RetouchSettings(early_swap=FORK, lambda_2=1, lambda_3=1, mode=SEQUENTIAL)
    with pytest.raises(ValueError, match="24 wide, got 48"):
        retouch(model, References((reference(model),)), given, mask(), settings, negative)
