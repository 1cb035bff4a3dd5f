"""Each method under each of the host's attention functions that run on any device.

The other tests use PyTorch's own.
"""

import comfy.ldm.modules.attention as host_attention
import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import NOISED
from likeness.patching.layout_and_retouch.settings import APPEND, NONE
from likeness.tests.patching.jedi import joint_runs
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, layout, mask, reference, retouched, run
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, model_of, noise_of, palette, recorded, sampled
from likeness.tests.patching.tiny_models import tiny_model

pytestmark = pytest.mark.slow

FUNCTIONS = ("attention_basic", "attention_split", "attention_sub_quad")


@pytest.fixture(params=FUNCTIONS)
def chosen(request, monkeypatch):
    """Calls of the function that the host uses during the test; `use` makes it the host's choice."""
    function, calls = getattr(host_attention, request.param), []

    def attend(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    def use():
        for name in ("optimized_attention", "optimized_attention_masked"):
            monkeypatch.setattr(host_attention, name, attend)
        return calls

    return use


def test_a_retouch_in_every_mode(chosen):
    model, steps = tiny_model("sd1"), 2
    subject = torch.zeros(64, 64)
    subject[8:56, 16:48] = 1
    settings = {"attention": APPEND, "early_swap": NONE, "layout": layout(model, steps=steps)[1]}

    def drawn(mode):
        found = mask(tokens=(1, 3), prompt_length=7)
        items = [reference(model, kind=NOISED, mask=subject)]
        return run(retouched(model, items, mode=mode, mask=found, **settings), steps=steps)

    expected, calls = drawn(SEQUENTIAL), chosen()
    for mode in (SEQUENTIAL, BATCHED, BANKED):
        close(drawn(mode), expected)
    assert calls


def test_a_joint_set(chosen):
    model = tiny_model("sd1")
    given = {"references": [joint_runs.reference(model)], "guidance": "image_first", "image_cfg": 2.5}
    expected, calls = joint_runs.run(model, **given), chosen()
    close(joint_runs.run(model, **given), expected)
    assert calls


@pytest.mark.usefixtures("as_the_host_runs")
def test_a_guided_run(chosen):
    model = model_of()

    def drawn():
        return sampled(guided(model, palette(model), recorded())[0], noise=noise_of(3))

    expected, calls = drawn(), chosen()
    close(drawn(), expected)
    assert calls
