"""Guided runs leave nothing behind, whether they finish, fail or are interrupted."""

import gc
import weakref

import comfy.model_management
import pytest
import torch
from likeness.patching.host.run import RunState
from likeness.tests.patching.host.test_run import snapshot
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    SIDE,
    encoded,
    guided,
    model_of,
    palette,
    recorded,
    run,
)
from likeness.tests.patching.tiny_models import latent
from likeness.tests.slow import slow_but

INTERRUPT = comfy.model_management.InterruptProcessingException


pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def tensors(graphs=False):
    gc.collect()
    return sum(1 for o in gc.get_objects() if isinstance(o, torch.Tensor) and (o.requires_grad or not graphs))


def whole(model):
    """Options and patches of a MODEL with the identity of everything in them, and its weights."""
    parts = ("model_options", "wrappers", "callbacks", "patches", "object_patches", "attachments", "additional_models")
    weights = {name: (id(p), float(p.sum())) for name, p in model.model.diffusion_model.named_parameters()}
    # The host's own bypass of a LoRA leaves such an attribute on models that other tests share.
    replaced = {name for name, module in model.model.diffusion_model.named_modules() if "forward" in vars(module)}
    return {name: snapshot(getattr(model, name)) for name in parts}, weights, replaced


class Trouble:
    """An attn1 patch that fails in the second gradient, in its forward or backward pass.

    It keeps weak references to the run's states.
    """

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


ENDINGS = (
    (None, None),
    (RuntimeError, "forward"),
    (RuntimeError, "backward"),
    (INTERRUPT, "forward"),
    (INTERRUPT, "backward"),
    (KeyboardInterrupt, "between"),
)


@pytest.mark.parametrize("ending", slow_but({(None, None), (RuntimeError, "backward")}, ENDINGS), ids=str)
def test_nothing_is_left_however_a_run_ends(new_objects_alone, ending):
    error, where = ending
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
