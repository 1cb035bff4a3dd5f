"""UREMD guidance among all else that the host does: samplers, other patches, failures; and that it leaves nothing
behind."""

import functools
import gc
import logging
import weakref
from dataclasses import replace

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import Reference
from likeness.patching.host import frozen_autograd
from likeness.patching.host.run import KEY, RunState
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider, Switch
from likeness.patching.pick_and_draw import reading as guidance_reading
from likeness.patching.pick_and_draw import run as guidance_run
from likeness.patching.pick_and_draw.build import guide
from likeness.tests.patching.host.test_frozen_layers import control_network, controlled
from likeness.tests.patching.host.test_run import snapshot
from likeness.tests.patching.layout_and_retouch.retouch_runs import retouched
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SCHEDULE,
    SIDE,
    WIDGETS,
    Calls,
    clip_of,
    encoded,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
)
from likeness.tests.patching.tiny_models import latent
from likeness.tests.patching.two_models import add_lora

INTERRUPT = comfy.model_management.InterruptProcessingException


pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def tensors(graphs=False):
    gc.collect()
    return sum(1 for o in gc.get_objects() if isinstance(o, torch.Tensor) and (o.requires_grad or not graphs))


def whole(model):
    """A MODEL's options and patches with the identity of everything in them, and its weights."""
    parts = ("model_options", "wrappers", "callbacks", "patches", "object_patches", "attachments", "additional_models")
    weights = {name: (id(p), float(p.sum())) for name, p in model.model.diffusion_model.named_parameters()}
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())
    return {name: snapshot(getattr(model, name)) for name in parts}, weights


class Trouble:
    """An attn1 patch that fails in the second gradient, in its forward or backward pass; it keeps weak references to
    the run's state."""

    def __init__(self, error, where):
        self.error, self.where, self.passes, self.states = error, where, -9, set()

    def __call__(self, n, context, value, extra_options):
        self.states.add(weakref.ref(RunState.of(extra_options)))
        if n.requires_grad and extra_options["block"] == ("output", 3):
            self.passes += 1
            if self.passes == 2 and self.where == "forward":
                self.fail()
            if self.passes == 2 and self.where == "backward":
                n.register_hook(lambda slope: self.fail())
        return n, context, value

    def fail(self):
        if self.error is INTERRUPT:
            comfy.model_management.interrupt_current_processing(True)  # noticed by whichever layer is next
        else:
            raise self.error("stop")

    def callback(self, step, *args):
        if self.where == "between":
            raise self.error("stop")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (None, None),
        (RuntimeError, "forward"),
        (RuntimeError, "backward"),
        (INTERRUPT, "forward"),
        (INTERRUPT, "backward"),
        (KeyboardInterrupt, "between"),
    ],
)
def test_nothing_is_left_however_a_run_ends(error, where):
    model, image, trouble = model_of(), latent(1, SIDE, SIDE, 20), Trouble(error, where)
    model.set_model_attn1_patch(trouble)
    given, wanted, texts = palette(model, latent=image), recorded(), (encoded(PROMPT), encoded(""))
    patched, _ = guided(model, given, wanted)
    run(patched)  # fills the palette
    trouble.passes = 0
    trouble.states.clear()
    inputs = [image["samples"], texts[0][0][0], given.references.items[0].mask]
    before, patched_before, copies = whole(model), whole(patched), [t.clone() for t in inputs]
    alive, graphs = tensors(), tensors(graphs=True)
    if error is None:
        run(patched, positive=texts[0])
    else:
        with pytest.raises(error) as held:
            run(patched, positive=texts[0], callback=trouble.callback)
        assert tensors(graphs=True) <= graphs and held.type is error  # also while someone keeps the exception
        del held
    assert trouble.passes == (1 if where == "between" else 2)
    assert whole(model) == before and whole(patched) == patched_before
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
    assert image.keys() == {"samples"} and texts[0][0][1].keys() == {"pooled_output"}
    assert tensors(graphs=True) <= graphs and tensors() <= alive + 1
    assert trouble.states and all(state() is None or not state()._memory for state in trouble.states)
    comfy.model_management.interrupt_current_processing(False)
    assert torch.isfinite(run(patched)).all()


def test_a_gradient_that_is_no_number_moves_nothing(monkeypatch, caplog):
    model, noise = model_of(), noise_of(3, 4)
    patched, _ = guided(model, palette(model))
    expected = torch.cat([sampled(model, noise=noise)[:1], sampled(patched, noise=noise)[1:]])
    take, broken = guidance_run.gradient, []

    def gradient(*args, **kwargs):
        found = take(*args, **kwargs)
        broken.append(float("nan") if len(broken) % 2 else float("inf"))
        found.latents[0, 1, 2, 3] = broken[-1]
        return found

    monkeypatch.setattr(guidance_run, "gradient", gradient)
    with caplog.at_level(logging.WARNING):
        found = sampled(patched, noise=noise)
    assert len(broken) == 2 and relative(found, expected) < 1e-5
    assert [r.getMessage() for r in caplog.records].count(
        "UREMDGuidance: a gradient was not a finite number; its step was skipped, and so will be others like it."
    ) == 1


def test_with_little_memory_the_same_is_computed_again(monkeypatch):
    """With activations kept, recomputed, and recomputed after the memory has run out, when nothing may be left of the
    first attempt."""
    model, given = model_of(), None
    given = palette(model)
    patched, log = guided(model, given, recorded())
    expected, losses, take = sampled(patched, schedule=SCHEDULE[:2]), log.entries, guidance_run.gradient
    monkeypatch.setattr(guidance_run, "gradient", functools.partial(take, checkpointed=True))
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    monkeypatch.setattr(guidance_run, "gradient", take)
    attempts, uremd = [], guidance_reading.uremd

    def short(features, *args, **kwargs):
        attempts.append(weakref.ref(features._base))
        if len(attempts) == 1:
            raise torch.OutOfMemoryError("out of memory")
        assert attempts[0]() is None
        return uremd(features, *args, **kwargs)

    monkeypatch.setattr(guidance_reading, "uremd", short)
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    assert len(attempts) == 4 and len(log.entries) == len(losses) == 1


def test_a_gradient_that_overflows_is_taken_again_without_scale(monkeypatch):
    model = model_of()
    patched, log = guided(model, palette(model), recorded())
    expected = sampled(patched, schedule=SCHEDULE[:2])
    monkeypatch.setattr(frozen_autograd, "_LOSS_SCALES", (float("inf"), 1.0))
    assert relative(sampled(patched, schedule=SCHEDULE[:2]), expected) < 1e-5
    assert len(log.entries) == 1


@pytest.mark.parametrize(
    "sampler",
    [
        "heun",
        "dpm_2",
        "dpmpp_2m",
        "dpmpp_2s_ancestral",
        "euler_ancestral",
        "dpmpp_sde",
        "uni_pc",
        "lcm",
        "euler_cfg_pp",
        "dpm_fast",
    ],
)
def test_samplers_of_all_kinds(sampler):
    model, noise = model_of(), noise_of(3, side=8)
    patched, log = guided(model, palette(model), step_size=0.02)
    found, plain = (sampled(m, noise=noise, schedule=(3.0, 2.1, 1.5, 1.0), sampler=sampler) for m in (patched, model))
    print(sampler, len(log.entries), relative(found, plain))
    assert torch.isfinite(found).all() and 0.01 < relative(found, plain) < 0.3
    assert len(log.entries) >= 3


def test_calls_between_two_levels_go_with_the_higher_one():
    model, noise = model_of(), noise_of(3, side=8)
    patched, log = guided(model, palette(model), None, every=2)
    sampled(patched, noise=noise, schedule=(6.0, 3.0, 1.75, 1.0), sampler="dpm_2")
    found = [sigma for sigma, _ in log.entries]
    assert found == pytest.approx([6.0, 18**0.5, 1.75, 1.75**0.5], rel=1e-4)


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


def test_half_precision():
    model, exact = model_of(dtype=torch.float16), model_of()
    given = palette(model)
    found = sampled(guided(model, given, recorded())[0])
    assert {values.dtype for _, _, values in given.references.items[0].bank.items()} == {torch.float16}
    assert torch.isfinite(found).all()
    assert (
        relative(found, sampled(guided(exact, palette(exact), recorded())[0])) < 0.02 < relative(found, sampled(model))
    )


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


def test_a_compiled_model_is_refused_before_anything_runs():
    model = model_of()
    given, calls = palette(model), Calls(model)
    set_torch_compile_wrapper(calls.model, "eager")
    with pytest.raises(
        ValueError, match=r"^UREMDGuidance: expected a model without torch.compile, got a compiled one"
    ) as failure:
        sampled(guided(calls.model, given)[0])
    assert not calls.rows and str(failure.value).count(". ") == 0


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
    """In another the words stand elsewhere."""
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


def test_one_guidance_after_the_other():
    """Each moves the latent in its turn; neither reads through the other."""
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


def test_a_model_that_is_not_reached_is_refused():
    """Caches answer in the model's place."""
    model = model_of()
    model.set_model_unet_function_wrapper(lambda apply, given: given["input"].clone())
    with pytest.raises(
        ValueError, match=r"^UREMDGuidance: expected the model to reach input1, .*without them; remove the node"
    ) as failure:
        sampled(guided(model, None, recorded())[0])
    assert "\n" not in str(failure.value)


def of_caption(model):
    return Reference(latent(1, SIDE, SIDE, 23), encoded(CAPTION), "noised", 0)


@pytest.mark.parametrize("mode", [BATCHED, SEQUENTIAL, BANKED])
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
