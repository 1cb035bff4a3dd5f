"""Copies that nobody waits for: what leaves RAM is pinned, and nothing is read in RAM before it has arrived."""

from weakref import WeakKeyDictionary

import pytest
import torch
from likeness.patching.features import host_memory
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key
from likeness.patching.features.host_memory import HostMemory, sent
from likeness.patching.features.references import INVERTED, References
from likeness.patching.host.blocks import Layer
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import QK_BOTH, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import NEUTRAL, STEPS, layout, reference, run
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, model_of, palette, recorded, sampled
from likeness.tests.patching.tiny_models import tiny_model
from likeness.tests.patching.two_models import add_lora
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("meta")
"""Stands in for a GPU: PyTorch copies to it as to another device."""


class Copies(TorchDispatchMode):
    """Keeps (from, to, types, non_blocking) of every copy."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_to_copy":
            free = bool((kwargs or {}).get("non_blocking"))
            self.made.append((args[0].device.type, made.device.type, args[0].dtype, made.dtype, free))
        return made


@pytest.fixture
def pinned(monkeypatch):
    """Makes models run on the stand-in. Returns the shapes that were pinned."""
    shapes, empty = [], torch.empty

    def allocate(*shape, pin_memory=False, **options):
        if pin_memory:
            shapes.append(tuple(shape[0]) if isinstance(shape[0], torch.Size) else shape)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(host_memory, "_on_gpu", lambda device: device == GPU)
    monkeypatch.setattr(host_memory.comfy.model_management, "get_torch_device", lambda: GPU)
    return shapes


def test_features_of_a_file_are_pinned_for_the_runs_that_read_them(pinned):
    bank, key = FeatureBank(), Key("w", HIDDEN, Layer("output", 3, 0), True)
    bank.put(key, 1.0, torch.ones(1, 2, 3))
    assert pinned == [(host_memory._SLAB,)]
    found = bank.get(key, 1.0)
    assert found is not None and torch.equal(found, torch.ones(1, 2, 3))


@pytest.mark.usefixtures("pinned")
def test_copies_of_both_modes_share_memory_that_autograd_can_use():
    memory = HostMemory()
    with torch.inference_mode():
        first = memory.copy_of(torch.ones(3))
    second = memory.copy_of(torch.zeros(3))
    assert not first.is_inference() and torch.equal(first, torch.ones(3)) and torch.equal(second, torch.zeros(3))


def test_a_tensor_is_sent_from_pinned_memory_and_changes_its_type_on_the_device(pinned):
    with Copies() as copies:
        arrived = sent(torch.ones(2, 3), torch.empty(1, device=GPU, dtype=torch.float16))
    assert arrived.device == GPU and arrived.dtype == torch.float16 and arrived.shape == (2, 3)
    assert pinned == [(2, 3)]
    single, half = torch.float32, torch.float16
    assert copies.made == [("cpu", "meta", single, single, True), ("meta", "meta", single, half, False)]


def test_indices_keep_their_type(pinned):
    arrived = sent(torch.arange(3), GPU)
    assert arrived.device == GPU and arrived.dtype == torch.int64 and pinned == [(3,)]


def test_what_is_on_the_device_stays_there(pinned):
    there = torch.empty(2, device=GPU)
    with Copies() as copies:
        assert sent(there, there) is there
    assert not copies.made and not pinned


def test_the_cpu_copies_nothing():
    here = torch.ones(2)
    assert sent(here, torch.zeros(1)) is here and sent(here, torch.device("cpu")) is here


@pytest.fixture
def late(monkeypatch):
    """Returns a function after which copies arrive only when someone waits for them, and the number of copies."""
    under_way, count = WeakKeyDictionary(), [0]

    def copy_of(memory, features):
        count[0] += 1
        kept = torch.full(features.shape, True if features.dtype == torch.bool else 1e9, dtype=features.dtype)
        under_way.setdefault(memory, []).append((kept, features.detach().clone()))
        return kept

    def wait(memory):
        with torch.inference_mode(False), torch.no_grad():
            for kept, features in under_way.pop(memory, []):
                kept.copy_(features)

    def begin():
        monkeypatch.setattr(HostMemory, "copy_of", torch.inference_mode(False)(torch.no_grad()(copy_of)))
        monkeypatch.setattr(HostMemory, "wait", wait)
        return count

    return begin


def retouched():
    """A retouch along a recorded layout and the vanilla model's attention, with an inverted reference."""
    vanilla = tiny_model("sd1")
    tuned = add_lora(vanilla)
    picture, trajectory = layout(tuned, vanilla, switch=2)
    settings = RetouchSettings(early_swap=QK_BOTH, lambda_2=2, lambda_3=STEPS)
    made = retouch(
        tuned, References((reference(tuned, kind=INVERTED),)), trajectory, None, settings, vanilla_model=vanilla
    )
    return [picture, *trajectory.latents, *trajectory.denoised, run(made, prompt=NEUTRAL)]


def with_losses():
    """A guided run and its losses."""
    model = model_of()
    patched, log = guided(model, palette(model), recorded())
    picture = sampled(patched)
    return [picture, *(loss for _, losses in log.entries for loss in losses.values())]


@pytest.mark.usefixtures("as_the_host_runs")
@pytest.mark.parametrize("made", [retouched, with_losses])
def test_nothing_is_read_before_it_has_arrived(made, late):
    expected = made()
    count = late()
    found = made()
    assert count[0] > 4
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
