"""A run of the sampler that is interrupted or runs out of memory leaves nothing behind, and the next one is right."""

import functools
import gc

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.host.same import same_model
from likeness.tests.patching.subject.likeness_runs import models, sampled
from likeness.tests.patching.subject.subjects import mask, photo, prompt_of, subject_of

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
MEMORY = comfy.model_management.OOM_EXCEPTION
INTERRUPT = comfy.model_management.InterruptProcessingException
METHODS = {"palette guidance": ("vanilla", None), "retouch": ("vanilla", "personalized"), "joint": ("joint", None)}


class Trouble:
    """Counts the calls of the network, and fails in one of them."""

    likeness_identity = None

    def __init__(self, error: type[BaseException] | None = None, call: int = 0):
        self.error, self.call, self.calls = error, call, 0

    def __call__(self, executor, *args, **kwargs):
        self.calls += 1
        if self.error is not None and self.calls == self.call:
            if self.error is INTERRUPT:
                comfy.model_management.interrupt_current_processing(True)
            else:
                raise self.error("out of memory")
        return executor(*args, **kwargs)

    def on(self, name: str | None):
        if name is None:
            return None
        model = models()[name].clone()
        model.add_wrapper(WrappersMP.DIFFUSION_MODEL, self)
        return model


def fresh():
    """The subject without anything that another run has made for it."""
    return subject_of(photo(1, 64, 64), masks={"mask0": mask(64)}, inversion_steps=2)


def draw(method, subject, trouble):
    model, personal = METHODS[method]
    given = {"model": trouble.on(model), "personalized_model": trouble.on(personal)}
    return sampled(**given, method=method, subject=subject, subject_prompt=prompt_of(token=personal is not None))[0]


@functools.cache
def undisturbed(method):
    """The picture, and the number of the network's calls."""
    counted = Trouble()
    return draw(method, fresh(), counted), counted.calls


def dead() -> list:
    """Models that the host has lost while their weights live on, of which it warns in every prompt."""
    gc.collect()
    return [loaded for loaded in comfy.model_management.current_loaded_models if loaded.is_dead()]


@pytest.mark.parametrize(("error", "part"), [(INTERRUPT, 0.3), (MEMORY, 0.9)])
@pytest.mark.parametrize("method", METHODS)
def test_the_next_run_is_that_of_an_undisturbed_one(method, error, part):
    before = {name: model.clone() for name, model in models().items()}
    (expected, calls), lost = undisturbed(method), dead()
    subject, trouble = fresh(), Trouble(error, round(part * calls))
    try:
        with pytest.raises(error) as caught:
            draw(method, subject, trouble)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert "\n" not in str(caught.value)
    assert dead() == lost
    assert all(same_model(model, before[name]) for name, model in models().items())
    assert torch.equal(draw(method, subject, Trouble()), expected)
