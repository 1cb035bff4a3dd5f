"""Sentences on the steps of a run that a part of sampling in percent stands for."""

import comfy.samplers
import pytest
import torch
from likeness.patching.host.window import Window, shown_steps
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.tiny_models import conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        (Window(0.1, 0.7), "start_percent 0.1 to end_percent 0.7: steps 3 to 14 of 20."),
        (Window(0.0, 0.05), "start_percent 0 to end_percent 0.05: step 1 of 20."),
        (Window(), ""),
        (Window(0.501, 0.502), ""),
        (Window(0.7, 0.1), ""),
    ],
)
def test_the_steps_of_a_window(window, shown):
    sampling = tiny_model("sd1").get_model_object("model_sampling")
    levels = comfy.samplers.calculate_sigmas(sampling, "normal", 20).tolist()[:-1]
    assert shown_steps(window, levels, sampling) == shown


def test_the_switch_in_percent_is_shown():
    vanilla = tiny_model("sd1")
    guider = StepBlendedGuider(vanilla, add_lora(vanilla), Switch(percent=0.5))
    guider.set_blended_conds(conditioning(vanilla), conditioning(vanilla), conditioning(vanilla, seed=3))
    guider.set_cfg(1.0)
    sigmas = comfy.samplers.calculate_sigmas(vanilla.get_model_object("model_sampling"), "normal", 4)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sampler = comfy.samplers.sampler_object("euler")
    guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=1)
    assert guider.notices.sentences == ("Switch_percent 0.5 is 2 of 4 steps.",)
