"""Runs that are interrupted or out of memory at any moment: nothing is kept, and the next run is right bit for bit."""

import gc
import random

import comfy.model_management
import pytest
import torch
from comfy.model_management import InterruptProcessingException
from likeness.tests.patching.subject.likeness_runs import sampled
from torch.utils._python_dispatch import TorchDispatchMode

LARGE = 2048
"""Numbers in a result from which its memory counts as a large allocation."""
GUIDED, RETOUCHED, JOINT = {}, {"personalized": "personalized"}, {"model": "joint"}
METHODS = {"Pick-and-Draw": GUIDED, "Layout-and-Retouch": RETOUCHED, "JeDi": JOINT}


class Stop(TorchDispatchMode):
    """Counts large results, and raises an error at one of them."""

    def __init__(self, at: int = 0, error: type[BaseException] = RuntimeError):
        super().__init__()
        self.at, self.error, self.count = at, error, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.numel() >= LARGE:
            self.count += 1
            if self.count == self.at:
                raise self.error("stopped by the test")
        return found


def kept() -> int:
    """Bytes of all tensors that something still refers to."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and one.device.type != "meta"]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def stopped(method: dict, stop: Stop, expected: torch.Tensor) -> None:
    """A run that ends with the error, or where smaller parts could replace what was too large, with the picture."""
    try:
        with stop:
            found = sampled(**method)[0]
    except stop.error:
        return
    assert stop.error is torch.OutOfMemoryError and stop.count >= stop.at
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def tried(method: dict, endings: list[tuple[type[BaseException] | None, float]]) -> None:
    """Runs a method once per ending, whole or stopped at a share of its large results, and checks each next run."""
    expected, _ = sampled(**method)
    with Stop() as counted:
        assert torch.equal(sampled(**method)[0], expected)
    before = kept()
    for error, share in endings:
        if error is None:
            assert torch.equal(sampled(**method)[0], expected)
        else:
            stopped(method, Stop(max(1, round(share * counted.count)), error), expected)
        assert kept() <= before, f"{kept() - before} bytes more after {error} at {share:.3f}"
        assert not [one for one in comfy.model_management.current_loaded_models if one.is_dead()]
    assert torch.equal(sampled(**method)[0], expected)


def endings(runs: int, interrupts: int, out_of_memory: int) -> list[tuple[type[BaseException] | None, float]]:
    rng = random.Random(0)
    kinds = [None] * runs + [InterruptProcessingException] * interrupts + [torch.OutOfMemoryError] * out_of_memory
    rng.shuffle(kinds)
    return [(kind, rng.random()) for kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_run_after_a_stopped_one_is_right(method):
    tried(METHODS[method], endings(0, 1, 1))


@pytest.mark.full
@pytest.mark.parametrize("method", METHODS)
def test_the_run_after_many_stopped_ones_is_right(method):
    tried(METHODS[method], endings(17, 7, 4))
