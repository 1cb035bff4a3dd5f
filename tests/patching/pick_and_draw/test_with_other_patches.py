"""Guidance beside other patches of the model: LoRAs, ControlNets, retouches, other guidance."""

from dataclasses import replace

import comfy.ldm.modules.attention as host_attention
import comfy.samplers
import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import Reference
from likeness.patching.host.run import KEY
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.patching.pick_and_draw.build import guide
from likeness.tests.patching.host.test_frozen_layers import control_network, controlled
from likeness.tests.patching.layout_and_retouch.retouch_runs import retouched
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SCHEDULE,
    SIDE,
    WIDGETS,
    clip_of,
    encoded,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    sampled,
)
from likeness.tests.patching.tiny_models import latent
from likeness.tests.patching.two_models import add_lora

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]


def test_what_already_sits_in_a_slot_is_called_with_and_without_gradients():
    model, given, seen = model_of(), palette(model_of()), []

    def hidden(n, context, value, extra_options):
        seen.append(("attn1_patch", n.requires_grad))
        return n, context, value

    def cross(q, k, v, extra_options):
        seen.append(("attn2", q.requires_grad))
        return host_attention.attention_pytorch(q, k, v, extra_options["n_heads"])

    expected = sampled(guided(model, given, recorded())[0])
    model.set_model_attn1_patch(hidden)
    model.set_model_attn2_replace(cross, "output", 6, 0)
    assert relative(sampled(guided(model, given, recorded())[0]), expected) < 1e-5
    assert set(seen) == {(slot, grad) for slot in ("attn1_patch", "attn2") for grad in (False, True)}


def test_a_lora_is_guided_with_its_own_weights():
    model = model_of()
    tuned, given = add_lora(model), palette(model)
    plain = sampled(guided(model, given, recorded())[0])
    found = sampled(guided(tuned, given, recorded())[0])
    assert torch.equal(
        found, sampled(guided(tuned, palette(tuned), recorded())[0])
    )  # features of the model that is guided
    assert relative(found, plain) > 0.01 and relative(found, sampled(tuned)) > 0.01
    assert torch.equal(sampled(guided(model, given, recorded())[0]), plain)


def test_a_control_net_is_part_of_what_is_guided():
    model = model_of()
    (text, rest), (_, controls) = encoded(PROMPT)[0], controlled(model, [control_network()])[0]
    positive = [[text, {**rest, **{k: v for k, v in controls.items() if "control" in k}}]]
    patched, log = guided(model, palette(model), recorded())
    plain = sampled(patched, schedule=SCHEDULE[:2])
    without = log.entries[0][1]
    found = sampled(patched, schedule=SCHEDULE[:2], positive=positive)
    assert torch.isfinite(found).all() and relative(found, plain) > 0.01
    assert all(
        abs(float(log.entries[0][1][name]) / float(without[name]) - 1) > 1e-3 for name in ("appearance", "layout")
    )
    assert relative(found, sampled(model, schedule=SCHEDULE[:2], positive=positive)) > 0.01


def test_one_guidance_after_the_other():
    """Both move the latent in turn; neither reads through the other."""
    model = model_of()
    given, settings = palette(model), {"schedule": SCHEDULE[:2]}
    first, log = guided(model, given, None, step_size=0.03)
    twice, second_log = guide(first, clip_of(), None, recorded(), WIDGETS)
    found = sampled(twice, **settings)
    for changes in ((given, None), (None, recorded())):
        assert relative(found, sampled(guided(model, *changes)[0], **settings)) > 0.01
    assert len(log.entries) == len(second_log.entries) == 1
    alone, alone_log = guided(model, given, None, step_size=0.03)
    sampled(alone, **settings)
    torch.testing.assert_close(log.entries[0][1]["appearance"], alone_log.entries[0][1]["appearance"])
    twice, _ = guide(first, clip_of(), given, None, replace(WIDGETS, step_size=0.03))
    once, _ = guided(model, given, None, step_size=0.03, iterations=2)
    assert relative(sampled(twice, **settings), sampled(once, **settings)) < 1e-4


def of_caption(model):
    return Reference(latent(1, SIDE, SIDE, 23), encoded(CAPTION), "noised", 0)


@pytest.mark.parametrize("mode", (BATCHED, SEQUENTIAL, BANKED))
def test_a_retouch_and_a_guidance_on_one_model(mode):
    model = model_of()
    given = palette(model)
    alone, log = guided(model, given, recorded())
    plain = sampled(alone)
    first = log.entries[0]
    both = guided(retouched(model, [of_caption(model)], mode=mode), given, recorded())
    found = sampled(both[0])
    assert torch.isfinite(found).all() and relative(found, plain) > 0.003
    assert relative(found, sampled(retouched(model, [of_caption(model)], mode=mode))) > 0.01
    for name, loss in first[1].items():  # the prompt's own rows are scored, without the retouch
        torch.testing.assert_close(both[1].entries[0][1][name], loss, rtol=1e-4, atol=1e-6)
    late = guided(retouched(model, [of_caption(model)], mode=mode, start_percent=0.99), given, recorded())[0]
    assert relative(sampled(late), plain) < 1e-5
    reverse = retouched(alone, [of_caption(model)], mode=mode)
    assert relative(sampled(reverse), found) < 1e-4


def test_a_guided_model_in_a_step_blended_run():
    vanilla, model = model_of("sd1"), add_lora(model_of("sd1"))
    patched, log = guided(model, palette(model), recorded())
    results = []
    for personalized in (model, patched):
        guider = StepBlendedGuider(vanilla, personalized, Switch(steps=1))
        guider.set_blended_conds(encoded(CAPTION), encoded(PROMPT), encoded(""))
        guider.set_cfg(4.0)
        noise = noise_of(3)
        sampler = comfy.samplers.sampler_object("euler")
        results.append(
            guider.sample(noise, torch.zeros_like(noise), sampler, torch.tensor(SCHEDULE), disable_pbar=True, seed=0)
        )
    assert [sigma for sigma, _ in log.entries] == [SCHEDULE[1]]
    assert torch.isfinite(results[1]).all() and relative(results[1], results[0]) > 0.01
    assert KEY not in patched.model_options["transformer_options"]
