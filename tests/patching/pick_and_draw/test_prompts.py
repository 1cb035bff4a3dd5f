"""Prompts of a guided run: several, of a part of sampling, of an area, or other than the node's text."""

import pytest
import torch
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    SCHEDULE,
    encoded,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
    square,
    warnings_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]


def test_another_prompt_than_the_samplers_is_told(caplog):
    model = model_of()
    run(guided(model, palette(model))[0], positive=encoded("a red cat in the snow"))
    (message,) = warnings_of(caplog)
    assert "expected text to be the sampler's positive prompt, got another one" in message
    caplog.clear()
    run(guided(model, palette(model))[0], positive=encoded("a red cat in the snow") + encoded(PROMPT))
    assert warnings_of(caplog) == []


def test_a_prompt_in_two_parts_of_sampling_is_the_prompt():
    model = model_of()
    patched, log = guided(model, palette(model), recorded())
    (text, rest), middle = encoded(PROMPT)[0], 0.5
    parts = [
        [text, {**rest, "start_percent": 0.0, "end_percent": middle}],
        [text, {**rest, "start_percent": middle, "end_percent": 1.0}],
    ]
    assert relative(run(patched, positive=parts), run(patched)) < 1e-5 and len(log.entries) == 2
    patched, log = guided(model, palette(model), recorded())
    assert torch.isfinite(run(patched, positive=parts[1:])).all()
    assert [sigma < 10 for sigma, _ in log.entries] == [True]  # nothing to guide where the host uses no prompt


def test_of_two_prompts_the_one_that_text_repeats_is_guided():
    """The words stand in other places of another prompt."""
    model, losses = model_of(), []
    given, other = palette(model), encoded("a drawing of a chair with a red cat on it")
    patched, log = guided(model, given)
    for positive in (encoded(PROMPT), encoded(PROMPT) + other):
        sampled(patched, schedule=SCHEDULE[:2], positive=positive)
        losses.append(float(log.entries[0][1]["appearance"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_two_prompts_are_guided_by_the_mean_of_their_losses():
    model, both = model_of(), []
    given, texts = (
        palette(model),
        (encoded("a photo of a red cat in the snow"), encoded("a drawing of a red cat on a chair")),
    )
    patched, log = guided(model, given)
    for positive in (*texts, texts[0] + texts[1]):
        sampled(patched, schedule=SCHEDULE[:2], positive=positive)
        assert len(log.entries) == 1
        both.append(float(log.entries[0][1]["appearance"]))
    assert both[0] != both[1] and both[2] == pytest.approx((both[0] + both[1]) / 2, rel=1e-5)


def test_a_prompt_for_an_area_is_guided_there_and_may_stand_beside_others():
    model = model_of()
    (text, rest), other = encoded(PROMPT)[0], encoded("a chair")[0]
    area = {"area": (8, 16, 0, 0), "strength": 1.0}
    patched, log = guided(model, palette(model), recorded())
    for positive in ([[text, {**rest, **area}]], [[text, rest], [other[0], {**other[1], **area}]]):
        found = sampled(patched, positive=positive)
        assert torch.isfinite(found).all() and len(log.entries) == 2
        assert relative(found, sampled(model, positive=positive)) > 0.003


def test_a_prompt_for_the_bounds_of_a_mask_is_guided_there():
    model = model_of()
    (text, rest) = encoded(PROMPT)[0]
    patched, log = guided(model, palette(model))
    inside = {"mask": square(), "mask_strength": 1.0, "set_area_to_bounds": True}
    assert torch.isfinite(run(patched, positive=[[text, {**rest, **inside}]])).all() and len(log.entries) == 2
    run(patched, positive=[[text, {**rest, **inside, "set_area_to_bounds": False}]], noise=noise_of(4))
