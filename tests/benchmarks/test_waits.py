"""Waits of the methods' steps, counted where the CPU stands in for a GPU: copies, reads of values, masks as indices."""

from collections import Counter
from dataclasses import replace

import comfy.model_management
import pytest
import torch
from likeness.benchmarks import gpu
from likeness.benchmarks.jedi_costs import set_variants
from likeness.benchmarks.layout_and_retouch_runs import steps_of
from likeness.benchmarks.pick_and_draw_runs import palette, sampled, settings, template
from likeness.benchmarks.timing import plain
from likeness.patching.features import host_memory
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.jedi.coupling import Coupling
from likeness.patching.layout_and_retouch.swaps import ReferenceSwap
from likeness.tests.benchmarks.stand_in import DEVICE, StandIn


class Arrived:
    """An event of a stream that has done everything."""

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass


@pytest.fixture
def waits(monkeypatch, one_level):
    """Makes models run on the stand-in. Returns a function that counts the waits of a run by function of PyTorch."""
    comfy.model_management.unload_all_models()  # another test may have loaded them, without the stand-in
    for model in (one_level.model, one_level.personalized):
        monkeypatch.setattr(model, "load_device", DEVICE)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: DEVICE)
    monkeypatch.setattr(host_memory, "_on_gpu", lambda device: device == DEVICE)
    monkeypatch.setattr(torch.cuda, "Event", Arrived)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    found = Counter()

    def count(run):
        found.clear()
        run()
        return Counter(found)

    with torch.inference_mode(), gpu.silence(), StandIn(lambda name: found.update([name])):
        yield count
    comfy.model_management.unload_all_models()


def plain_run(network):
    return lambda: plain(network, network.personalized, network.personalized_positive)


def guided_run(network):
    known, recorded, made = palette(network), template(network), settings(network, 1.0, 1.0)
    return lambda: sampled(network, made, known, recorded)


def set_of_two(network):
    return set_variants(network, (2,))[0].sample


RUNS = {
    "plain": plain_run,
    **{mode: lambda network, mode=mode: steps_of(network, mode) for mode in (BANKED, BATCHED, SEQUENTIAL)},
    "guided": guided_run,
    "set": set_of_two,
}


def of_a_step(waits, network, run):
    """Waits of each further step beside those of a plain run, by function of PyTorch."""
    each = {}
    for name in (run, "plain"):
        for steps in (2, 4):
            repeat = RUNS[name](replace(network, steps=steps))
            repeat()  # fills banks
            each[name, steps] = waits(repeat)
    found, plain_ones = (each[name, 4] - each[name, 2] for name in (run, "plain"))
    assert not plain_ones - found, "a plain run waits more"
    return {name: count / 2 for name, count in (found - plain_ones).items()}


LEVEL = {"__float__": 1.0}
"""The noise level of a call says what it shall do; the host reads it once per wrapper that acts by it."""


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (BANKED, {"__float__": 2.0}),
        (BATCHED, {"__float__": 2.0}),
        (SEQUENTIAL, {"__float__": 2.0}),
        ("guided", LEVEL | {"__bool__": 1.0}),  # a gradient that overflows is computed again at once
        ("set", LEVEL),
    ],
)
def test_a_step_waits_for_its_noise_level_alone(waits, one_level, run, expected):
    assert of_a_step(waits, one_level, run) == expected


@pytest.mark.parametrize(
    ("run", "of", "name"),
    [(BANKED, ReferenceSwap, "output"), ("set", Coupling, "attend")],
)
def test_a_wait_in_a_layer_would_be_counted(waits, one_level, monkeypatch, run, of, name):
    before, method = of_a_step(waits, one_level, run), getattr(of, name)

    def reads(self, layer, x, *args, **kwargs):
        x.sum().cpu()
        return method(self, layer, x, *args, **kwargs)

    monkeypatch.setattr(of, name, reads)
    after = of_a_step(waits, one_level, run)
    assert after.pop("cpu") >= 1 and after == before


def test_the_stand_in_tells_what_waits():
    found = Counter()
    with StandIn(lambda name: found.update([name])):
        here, there = torch.ones(3), torch.ones(3, device=DEVICE)
        assert here.device != there.device == (there * here.sum()).device
        free = [
            lambda: here[0].item(),
            lambda: here.to(DEVICE, non_blocking=True),
            lambda: there.to(torch.float16),
            lambda: there.to(there.device),
            lambda: there[1:].sum() + 1,
            lambda: there[torch.arange(2, device=DEVICE)],
            lambda: there.new_full((2,), 1.0),
            lambda: torch.empty(3).copy_(there, non_blocking=True),
        ]
        for run in free:
            run()
        assert not found
        waiting = [
            lambda: there[0].item(),
            lambda: float(there.sum()),
            lambda: bool(there.any()),
            lambda: there.tolist(),
            lambda: there.cpu(),
            lambda: there.to("cpu"),
            lambda: here.to(there),
            lambda: here.to(DEVICE),
            lambda: there[there > 0],
            lambda: there[[0, 2]],
            lambda: there.nonzero(),
            lambda: torch.equal(there, there),
            lambda: torch.empty(3).copy_(there),
            lambda: torch.tensor([1.0], device=DEVICE),
            lambda: there.new_tensor(1.0),
        ]
        for number, run in enumerate(waiting, 1):
            run()
            assert found.total() == number, number
        assert there.cpu().device == torch.device("cpu") and here.to(there).device == DEVICE
