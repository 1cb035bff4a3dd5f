"""The steps before a part of a sampling, found by the host's schedules."""

import comfy.samplers
import pytest
from likeness.patching.host.schedules import earlier_levels
from likeness.tests.patching.tiny_models import tiny_model


@pytest.fixture(scope="module")
def sampling():
    return tiny_model("sd1").get_model_object("model_sampling")


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize(("steps", "split"), [(10, 3), (25, 9), (60, 31)])
def test_the_steps_before_a_part(sampling, scheduler, steps, split):
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()
    assert earlier_levels(sigmas[split:], sampling) == tuple(sigmas[:split])
    assert earlier_levels(sigmas[split:-1], sampling) == tuple(sigmas[:split])
    assert earlier_levels(sigmas, sampling) == ()


def test_steps_of_no_schedule_are_unknown(sampling):
    assert earlier_levels([9.0, 4.3, 1.7, 0.4, 0.0], sampling) is None
    assert earlier_levels([1.0, 0.0], sampling) is None, "a single level is in many schedules"
