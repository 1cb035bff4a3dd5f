"""Refusals and warnings of UREMDGuidance."""

from dataclasses import replace

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    SIDE,
    Calls,
    guided,
    made,
    model_of,
    noise_of,
    palette,
    recorded,
    run,
    sampled,
    template,
    warnings_of,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def test_a_run_as_it_should_be_warns_of_nothing(caplog):
    model = model_of()
    run(guided(model, palette(model), recorded())[0])
    assert warnings_of(caplog) == []


def test_a_loss_without_steps_is_told(caplog):
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), layout_end=0.3)
    run(patched, denoise=0.5)
    (message,) = warnings_of(caplog)
    assert "between layout_start and layout_end, got none" in message
    assert log.entries and all(entry.keys() == {"appearance"} for _, entry in log.entries)


def test_a_run_without_any_step_to_guide_is_told(caplog):
    model = model_of()
    sampled(guided(model, palette(model), recorded(), layout_end=0.01, appearance_start=0.99)[0], schedule=(3.0, 1.75))
    assert [
        name in message for name, message in zip(("appearance_start", "layout_start"), warnings_of(caplog), strict=True)
    ] == [True] * 2


def test_raw_steps_of_a_flow_model_are_refused():
    model = model_of()
    flow = ModelSamplingSD3().patch(model, shift=3.0)[0]
    with pytest.raises(
        ValueError, match=r"^Subject Guidance: expected step relative for a flow-matching model such as"
    ):
        guided(flow, palette(model), recorded(), step="raw")
    guided(flow, palette(model), recorded(), step="raw", step_size=0.0)
    guided(flow, palette(model), recorded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.0}, "expected threshold below 1, got 1, which no map exceeds"),
        ({"word": "dog"}, "expected a word of the prompt (a, photo, of, red, cat, on, table), got 'dog'"),
    ],
)
def test_it_refuses_widgets_that_cannot_work(changes, message):
    model = model_of()
    with pytest.raises(ValueError, match=r"^Subject Guidance: ") as failure:
        guided(model, palette(model), recorded(), **changes)
    assert message in str(failure.value)


def test_it_refuses_neither_palette_nor_template():
    with pytest.raises(
        ValueError, match="expected a palette or a template, got neither; connect Appearance Palette or Layout Template"
    ):
        guided(model_of())


def test_it_refuses_a_template_of_another_shape():
    model = model_of()
    patched, _ = guided(model, None, recorded())
    wide = torch.cat([noise_of(3), noise_of(4)], 3)
    with pytest.raises(
        ValueError,
        match=f"^Subject Guidance: expected a template of the latent's shape, {2 * SIDE} x {SIDE}, got one of",
    ):
        run(patched, noise=wide)
    two = noise_of(3, 4)
    run(patched, noise=two)  # one layout for all images
    both = recorded()
    patched, _ = guided(
        model,
        None,
        type(both)(both.family, {la: {s: m.repeat(3, 1, 1) for s, m in x.items()} for la, x in both.maps.items()}),
    )
    with pytest.raises(ValueError, match="expected a template of one image or of 2"):
        run(patched, noise=two)


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_it_refuses_a_model_that_answers_from_a_cache(node):
    model = model_of()
    given = palette(model)
    cached = node.execute(model, 0.2, 0.15, 0.95, False)[0]
    name = node.__name__.removesuffix("Node")
    with pytest.raises(
        ValueError, match=f"^Subject Guidance: expected a model that runs at every step, got one with {name}"
    ):
        run(guided(cached, given)[0])


def test_a_compiled_model_is_refused_before_anything_runs():
    model = model_of()
    given, calls = palette(model), Calls(model)
    set_torch_compile_wrapper(calls.model, "eager")
    with pytest.raises(
        ValueError, match=r"^Subject Guidance: expected a model without torch.compile, got a compiled one"
    ) as failure:
        sampled(guided(calls.model, given)[0])
    assert not calls.rows and str(failure.value).count(". ") == 0


def test_a_model_that_is_not_reached_is_refused():
    """Caches answer in the model's place."""
    model = model_of()
    model.set_model_unet_function_wrapper(lambda apply, given: given["input"].clone())
    with pytest.raises(
        ValueError, match=r"^Subject Guidance: expected the model to reach input1, .*without them; remove the node"
    ) as failure:
        sampled(guided(model, None, recorded())[0])
    assert "\n" not in str(failure.value)


def test_a_palette_of_another_family_or_blocks_is_refused():
    with pytest.raises(
        ValueError, match=r"^Subject Guidance: expected a palette of this model's family and blocks .*output6, output7"
    ):
        guided(model_of("sdxl"), palette(model_of()), None, "sdxl")
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected a palette of this model's family"):
        guided(model_of(), replace(palette(model_of()), family="another"))
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected a template of this model's family"):
        guided(model_of(), None, replace(recorded(), family="another"))
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected a template with maps of .*, got one without"):
        guided(model_of(), None, template(model_of(), blocks="output6"))
    one, two = palette(model_of(), blocks="output6"), {"blocks": "output7"}
    with pytest.raises(ValueError, match="expected palettes of the same blocks, got output6 and output7"):
        made(model_of(), more=one, **two)


def test_a_palette_of_another_text_encoder_is_refused():
    model = model_of()
    given = palette(model)
    items = tuple(replace(item, conditioning=[[torch.randn(1, 77, 32), {}]]) for item in given.references.items)
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected .*palette"):
        guided(model, replace(given, references=replace(given.references, items=items)))
