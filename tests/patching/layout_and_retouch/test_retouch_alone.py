"""Retouches beside other packs, with weights, and with inputs that they refuse or must not change."""

import functools

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.layout_and_retouch.settings import APPEND, REPLACE
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEUTRAL,
    STEPS,
    close,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora

MODES = (BATCHED, SEQUENTIAL, BANKED)


def far(a, b):
    return float((a - b).abs().mean() / b.abs().mean()) > 1e-3


def test_a_weight_of_one_is_neutral_and_a_small_one_forgets_the_reference():
    model = tiny_model("sd1")
    one, two = reference(model), functools.partial(reference, model, 21)

    def drawn(*items):
        return run(retouched(model, items), steps=4)

    close(drawn(one, two(weight=1e-7)), drawn(one))
    assert far(drawn(one, two(weight=3.0)), drawn(one, two(weight=1.0)))


def test_a_weight_without_anything_to_weigh_against_is_told(caplog):
    model = tiny_model("sd1")
    plain = run(retouched(model, [reference(model)], attention=REPLACE))
    assert not caplog.records
    assert torch.equal(run(retouched(model, [reference(model, weight=3.0)], attention=REPLACE)), plain)
    assert [r.getMessage().startswith("Reference Retouch: a weight of 3 changes nothing") for r in caplog.records] == [
        True
    ]
    caplog.clear()
    run(retouched(model, [reference(model, weight=3.0)], attention=APPEND))
    assert not caplog.records


def attention_of_another_pack(model, called):
    patched = model.clone()

    def attend(q, k, v, extra_options):
        called.append(k.shape[1])
        return optimized_attention(q, k, v, extra_options["n_heads"]) * 0.5

    for number in range(6, 12):
        patched.set_model_attn1_replace(attend, "output", number)
    return patched


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("attention", [REPLACE, APPEND])
def test_the_attention_of_another_pack_is_kept(attention, mode):
    model, called = tiny_model("sd1"), []
    patched = attention_of_another_pack(model, called)
    result = run(retouched(patched, [reference(model)], attention=attention, mode=mode, strength=0.5))
    assert called and far(
        result, run(retouched(model, [reference(model)], attention=attention, mode=mode, strength=0.5))
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_attention_of_another_pack_knows_no_weights(mode):
    model = tiny_model("sd1")
    patched = retouched(
        attention_of_another_pack(model, []), [reference(model, weight=3.0)], attention=APPEND, mode=mode
    )
    with pytest.raises(ValueError, match=r"Reference Retouch: expected references of weight 1 .* got 3;"):
        run(patched)


@pytest.mark.parametrize("mode", MODES)
def test_two_models(mode):
    """A layout of the vanilla model first, then the tuned one, retouched by the tuned one; neither is left changed."""
    vanilla = tiny_model("sd1")
    tuned = add_lora(vanilla)
    trajectory = layout(tuned, vanilla, switch=2)[1]
    before = run(vanilla)
    result = run(retouched(tuned, [reference(tuned)], layout=trajectory, mask=mask(), lambda_3=2, mode=mode))
    assert torch.isfinite(result).all() and far(result, run(tuned))
    assert torch.equal(run(vanilla), before)


REFUSALS = {
    "lambda": ({"lambda_2": 9}, {}, "lambda_2"),
    "blend": ({"lambda_3": STEPS + 1, "mask": mask()}, {}, "lambda_3"),
    "size": ({}, {"height": 6}, "one latent"),
    "steps": ({}, {"steps": 5}, "same steps"),
    "sampler": ({}, {"sampler": "heun"}, "sampler, euler, for early_swap fork, got heun"),
    "mask": ({"mask": mask(6, 6)}, {}, "mask of the picture's size"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_come_before_sampling_and_in_one_sentence(case):
    options, settings, words = REFUSALS[case]
    model = tiny_model("sd1")
    patched = retouched(model, [reference(model)], **{"layout": layout(model)[1], **options})
    calls = []
    with pytest.raises(ValueError, match=words) as failure:
        run(patched, callback=lambda *_: calls.append(1), **settings)
    assert "Reference Retouch" in str(failure.value) or "Adaptive Mask" in str(failure.value)
    assert not calls and str(failure.value).count(".") <= 2


def test_nothing_is_taken_from_the_inputs():
    model = tiny_model("sd1")
    options = repr(model.model_options)
    trajectory, items = layout(model)[1], [reference(model)]
    latents = [t.clone() for t in trajectory.latents]
    run(retouched(model, items, layout=trajectory, mask=mask()))
    assert repr(model.model_options) == options
    assert all(torch.equal(a, b) for a, b in zip(latents, trajectory.latents, strict=True))
    assert conditioning(model, seed=NEUTRAL)[0][1].keys() == items[0].conditioning[0][1].keys()
