"""Memory of gradients: none is left behind, and recomputing lowers the peak."""

import gc
import weakref

import comfy.model_management
import pytest
import torch
from likeness.patching.host import frozen_autograd
from likeness.patching.host.frozen_autograd import gradient
from likeness.tests.patching.host.gradients import (
    CHECKPOINTED,
    LAST,
    LAYERS,
    SIGMA,
    Features,
    error,
    inference_model,
    noisy,
    ours,
    sampling,
    untouched,
    weights_of,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


class Faulty(Features):
    """Fails or is interrupted in the middle of the forward or backward pass."""

    def __init__(self, fault, where):
        super().__init__()
        self.fault, self.where = fault, where

    def read(self, layer, hidden, size):
        super().read(layer, hidden, size)
        if self.where == "forward" and layer == LAYERS[1]:
            self.fail()
        if self.where == "gradient":
            hidden.register_hook(lambda slope: self.fail() if layer == LAYERS[1] else None)

    def fail(self):
        if self.fault is not None:
            raise self.fault("broken")
        comfy.model_management.interrupt_current_processing(True)  # the next layer notices it


INTERRUPT = comfy.model_management.InterruptProcessingException
FAULTS = {
    "none": (None, None),
    "error forward": (RuntimeError, "forward"),
    "error gradient": (RuntimeError, "gradient"),
    "user forward": (None, "forward"),
    "user gradient": (None, "gradient"),
}


def graphs():
    gc.collect()
    return {id(o) for o in gc.get_objects() if type(o) is torch.Tensor and o.requires_grad}


@CHECKPOINTED
@pytest.mark.usefixtures("new_objects_alone")
@pytest.mark.parametrize(("fault", "where"), FAULTS.values(), ids=list(FAULTS))
def test_nothing_stays_behind(fault, where, checkpointed):
    """Nothing stays even while the exception is held, as the host does until the next run."""
    model, x, features, held = inference_model(), noisy(2, 8, 8), Faulty(fault, where), None
    before, known = weights_of(model.model.diffusion_model), graphs()
    with sampling(model, x) as conds:
        options = features.options(model)
        copies = [dict(options), dict(options["transformer_options"])]
        call = (model.model, conds, x, torch.full([2], SIGMA), options, features.loss, "Node")
        if where is None:
            assert gradient(*call, checkpointed=checkpointed) is not None
        else:
            with pytest.raises((RuntimeError, INTERRUPT)) as held:
                gradient(*call, checkpointed=checkpointed)
            assert held.type is (fault or INTERRUPT)
        assert [options, options["transformer_options"]] == copies
        features.seen.clear()
    untouched(model.model.diffusion_model, before)
    assert graphs() <= known
    with torch.inference_mode(False), torch.enable_grad():  # a checkpoint hook left behind would intercept this
        y = torch.ones(3).requires_grad_()
        assert torch.equal(torch.autograd.grad(y.exp().sum(), y)[0], y.detach().exp())
    assert where is None or held.value.__traceback__ is not None


class Memory(TorchDispatchMode):
    """Counts the bytes of live tensors created inside, and their peak; other tensors in a model's memory are none."""

    def __init__(self, model):
        super().__init__()
        self.alive = self.peak = 0
        self._known = WeakIdKeyDictionary()
        self._weights = {weight.data_ptr() for weight in model.model.diffusion_model.parameters()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):  # weights, of which a result may be a view
            self._known[storage] = True
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known and storage.data_ptr() not in self._weights:
                self._known[storage] = True
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size):
        self.alive -= size


def _storages(values):
    return [tensor.untyped_storage() for tensor in tree_leaves(values) if isinstance(tensor, torch.Tensor)]


def test_checkpoints_give_the_same_with_less_memory(family):
    model, x, peaks, found = inference_model(family), noisy(1, 24, 24), [], []
    ours(model, x)  # one-time allocations are not measured
    for checkpointed in (False, True):
        with Memory(model) as memory:
            found.append(ours(model, x, last=LAST, checkpointed=checkpointed).latents)
        peaks.append(memory.peak)
    assert peaks[1] < 0.6 * peaks[0]
    assert error(found[1], found[0]) < 1e-5


def test_large_blocks_are_recomputed_at_once(monkeypatch):
    model, x, peaks, found = inference_model(), noisy(1, 32, 32), [], []
    ours(model, x)
    for fewest in (10**9, 32 * 32):
        monkeypatch.setattr(frozen_autograd, "_MANY_TOKENS", fewest)
        with Memory(model) as memory:
            found.append(ours(model, x, last=LAST).latents)
        peaks.append(memory.peak)
    assert peaks[1] < 0.8 * peaks[0]
    assert error(found[1], found[0]) < 1e-5
    monkeypatch.undo()
    with Memory(model) as memory:
        ours(model, x, last=LAST)
    assert memory.peak == peaks[1]  # blocks of 1024 tokens and more
