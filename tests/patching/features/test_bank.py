"""Banks: what tells features apart, what is kept, and what it saves."""

import pytest
import torch
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key, digest_of
from likeness.patching.features.lending import BANKED, SEQUENTIAL
from likeness.patching.features.references import INVERTED, NOISED
from likeness.patching.host.blocks import Layer
from likeness.patching.layout_and_retouch.settings import NONE
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    POSITIVE,
    STEPS,
    counting,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora


def test_a_bank_finds_levels_that_are_nearly_equal():
    bank, key = FeatureBank(), Key("w", HIDDEN, Layer("output", 3, 0), True)
    bank.put(key, 1.0, torch.ones(1, 2, 3, dtype=torch.float16))
    assert bank.get(key, 1.00005).dtype == torch.float16
    assert bank.get(key, 1.01) is None and bank.get(key._replace(conditional=False), 1.0) is None
    assert bank.size_in_bytes == 12 and "1 noise levels of 1 layers" in bank.describe()


def test_a_bank_keeps_two_models():
    bank = FeatureBank()
    for weights in ("", "first", "second", "second", "third"):
        bank.put(Key(weights, HIDDEN, Layer("output", 3, 0), True), 1.0, torch.ones(1, 2, 3))
    assert [key.weights for key, _, _ in bank.items()] == ["", "second", "third"]
    bank.forget("third")
    assert [key.weights for key, _, _ in bank.items()] == ["", "second"]


def test_a_bank_keeps_two_negative_prompts():
    bank, own = FeatureBank(), Key("w", HIDDEN, Layer("output", 3, 0), True)
    for key in (own, *(own._replace(conditional=False, negative_digest=d) for d in ("first", "second", "third"))):
        bank.put(key, 1.0, torch.ones(1, 2, 3))
    assert [key.negative_digest for key, _, _ in bank.items()] == ["", "second", "third"]


def test_prompts_are_told_apart():
    text, pooled = torch.ones(1, 7, 4, dtype=torch.bfloat16), torch.ones(1, 3)
    prompts = [
        [[text, {}]],
        [[text * 2, {}]],
        [[text, {"pooled_output": pooled}]],
        [[text, {"pooled_output": pooled * 2}]],
        [[text, {"pooled_output": pooled, "width": 512}]],
        [[text, {"pooled_output": pooled, "width": 1024}]],
    ]
    assert len({digest_of(p) for p in prompts}) == 6
    assert digest_of(prompts[0]) == digest_of([[text.clone(), {"width": None, "pooled_output": None, "uuid": 1}]])


def test_a_bank_survives_and_costs_no_model_call():
    model = tiny_model("sd1")
    trajectory, items = layout(model, record="all")[1], [reference(model)]
    patched = retouched(model, items, layout=trajectory, mask=mask(), mode=BANKED)
    first = run(patched)
    size, (counted, calls) = items[0].bank.size_in_bytes, counting(patched)
    assert torch.equal(run(counted), first)
    assert items[0].bank.size_in_bytes == size > 0 and calls == [2] * (STEPS - 1)


@pytest.mark.parametrize(
    "kind, cfg, calls, again",
    [
        (NOISED, 4.0, [2] * 2 * STEPS, [2] * STEPS),
        (NOISED, 1.0, [1] * 2 * STEPS, [1] * STEPS),
        (INVERTED, 4.0, [1] * STEPS + [2] * 2 * STEPS, [2] * STEPS),
        (INVERTED, 1.0, [1] * 3 * STEPS, [1] * STEPS),
    ],
)
def test_what_a_new_reference_costs(kind, cfg, calls, again):
    """An inversion of the run's steps, the features of every level for both sides of guidance, and the run."""
    model, done = counting(tiny_model("sd1"))
    patched = retouched(model, [reference(model, kind=kind)], mode=BANKED, early_swap=NONE, lambda_2=0)
    run(patched, cfg=cfg)
    assert done == calls
    done.clear()
    run(patched, cfg=cfg)
    assert done == again


def test_another_negative_prompt_leaves_the_rest_in_the_bank():
    model, calls = counting(tiny_model("sd1"))
    item = reference(model)
    patched = retouched(model, [item], mode=BANKED, early_swap=NONE, lambda_2=0)
    positive, image = conditioning(model, seed=POSITIVE), {"samples": torch.zeros(1, 4, 8, 8)}
    sizes = []
    for seed in (30, 31, 32):
        calls.clear()
        run_ksampler(patched, positive, conditioning(model, seed=seed), image, steps=STEPS)
        sizes.append(item.bank.size_in_bytes)
    assert calls == [1, 2] * STEPS
    assert sizes[1] / sizes[0] == 1.5 and sizes[2] == sizes[1]


def test_a_bank_of_other_weights_is_not_used():
    model = tiny_model("sd1")
    items = [reference(model)]
    run(retouched(model, items, mode=BANKED))
    tuned = add_lora(model)
    expected = run(retouched(tuned, [reference(model)], mode=SEQUENTIAL))
    assert torch.equal(run(retouched(tuned, items, mode=BANKED)), expected)
