"""Step-blended runs: their first and last steps, their interrupts, and their results."""

import comfy.controlnet
import comfy.hooks
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from likeness.patching.host import passes
from likeness.patching.layout_and_retouch import step_blended
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.layout_and_retouch.step_blended_runs import STEPS, alone, guider_of, run
from likeness.tests.patching.tiny_models import ONE_LEVEL, conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora, zeros

import nodes


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_all_steps_are_the_vanilla_model_whatever_the_scheduler_makes_of_them(scheduler):
    """Some schedulers make a step more or less than was asked for."""
    vanilla, steps = tiny_model(ONE_LEVEL), 6
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=steps, of=steps))
    assert torch.equal(run(guider, steps=steps, scheduler=scheduler), alone(vanilla, steps=steps, scheduler=scheduler))


def test_no_steps_at_all_give_the_latent_back():
    vanilla = tiny_model()
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=2))
    start = torch.randn(1, 4, 8, 8)
    result = guider.sample(
        torch.zeros_like(start), start, comfy.samplers.sampler_object("euler"), torch.FloatTensor([]), seed=1
    )
    assert torch.equal(result, start)
    assert len(guider.trajectory) == 0


def test_latent_keeps_and_loses_the_fields_that_ksampler_does():
    vanilla = tiny_model()
    start = {"samples": zeros(2), "batch_index": [4, 7], "downscale_ratio_spacial": 8, "mine": 1}
    before = dict(start)
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=STEPS))
    result = passes.sample(guider, start, 3, STEPS, "euler", "normal", 1.0, "test")
    assert set(result) == {"samples", "batch_index", "mine"}
    assert start.keys() == before.keys() and torch.equal(start["samples"], zeros(2))
    expected = nodes.common_ksampler(
        vanilla, 3, STEPS, 4.0, "euler", "normal", conditioning(vanilla, seed=0), conditioning(vanilla, seed=1), start
    )[0]
    assert torch.equal(result["samples"], expected["samples"])


def test_the_users_interrupt_ends_the_run():
    vanilla = tiny_model()
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=2))
    expected, done = alone(vanilla), []

    def callback(step, *_):
        done.append(step)
        if step == 2:
            comfy.model_management.interrupt_current_processing()

    sigmas = comfy.samplers.KSampler(vanilla, STEPS, vanilla.load_device, "euler", "normal", 1.0).sigmas
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            guider.sample(
                torch.randn(1, 4, 8, 8),
                zeros(),
                comfy.samplers.sampler_object("euler"),
                sigmas,
                callback=callback,
                seed=1,
            )
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert done == [0, 1, 2]
    assert guider.trajectory is None
    assert torch.equal(alone(vanilla), expected)


def test_a_failing_load_at_the_switch_leaves_both_models_usable(monkeypatch):
    vanilla = tiny_model()
    personalized = add_lora(vanilla)
    expected = [alone(vanilla), alone(personalized, 2)]
    guider = guider_of(vanilla, personalized, Switch(steps=2))

    def fail(*_args, **_kwargs):
        raise MemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(personalized, "partially_load", fail)
        with pytest.raises(MemoryError):
            run(guider)
    assert torch.equal(alone(vanilla), expected[0])
    assert torch.equal(alone(personalized, 2), expected[1])
    whole = run(guider)
    assert torch.equal(whole, run(guider_of(vanilla, personalized, Switch(steps=2))))


def test_a_difference_beside_the_weights_is_not_refused():
    vanilla = tiny_model()
    wrapped = vanilla.clone()
    wrapped.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, "test", lambda executor, *a, **k: executor(*a, **k)
    )
    guider_of(vanilla, wrapped, Switch(steps=2), 0, 0)
    area = [[conditioning(vanilla, seed=0)[0][0], {"area": (4, 8, 0, 0)}]]
    guider_of(vanilla, vanilla, Switch(steps=2), 0, area)


@pytest.mark.parametrize("matched", [{}, {"no.such.layer": (torch.ones(1),)}])
def test_a_lora_that_matched_nothing_is_refused(matched):
    vanilla = add_lora(tiny_model())
    useless = vanilla.clone()
    useless.add_patches(matched, 1.0)
    with pytest.raises(ValueError, match="got the same weights and the same conditioning"):
        guider_of(vanilla, useless, Switch(steps=2), 0, 0)


def test_a_trajectory_belongs_to_the_latent_of_its_run():
    vanilla = tiny_model()
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=2))
    first = {"samples": run(guider)}
    assert step_blended.recorded(guider, first) is guider.trajectory
    second = {"samples": run(guider, "heun")}
    assert len(step_blended.recorded(guider, second)) == 2 * STEPS - 1
    with pytest.raises(ValueError, match="Recorded Layout: expected the latent of this guider's last run"):
        step_blended.recorded(guider, first)


def test_recorded_latents_can_be_used_with_gradients():
    vanilla = tiny_model()
    guider = guider_of(vanilla, add_lora(vanilla), Switch(steps=2))
    with torch.inference_mode():
        run(guider)
    for recorded in guider.trajectory.latents:
        assert not recorded.is_inference() and recorded.device.type == "cpu"
