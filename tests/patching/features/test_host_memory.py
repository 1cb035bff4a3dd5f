"""Copies of a GPU's features in RAM, with a stand-in for the GPU."""

import pytest
import torch
from likeness.patching.features import host_memory
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key
from likeness.patching.features.host_memory import HostMemory
from likeness.patching.host.blocks import Layer

KEY = Key("w", HIDDEN, Layer("output", 3, 0), True)


class Event:
    made: list = []

    def __init__(self):
        self.waits = 0
        self.made.append(self)

    def record(self, stream):
        pass

    def synchronize(self):
        self.waits += 1


@pytest.fixture
def gpu(monkeypatch):
    """Makes CPU tensors pass for a GPU's. Returns the sizes that were pinned."""
    pinned, empty = [], torch.empty

    def allocate(*shape, pin_memory=False, **options):
        if pin_memory:
            pinned.append(shape[0])
        return empty(*shape, **options)

    Event.made = []
    monkeypatch.setattr(host_memory, "_on_gpu", lambda features: True)
    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return pinned


def test_copies_share_pinned_memory_and_not_their_bytes(gpu):
    memory, features = HostMemory(), [torch.randn(1, n, 7, dtype=torch.float16) for n in (3, 11, 5)]
    copies = [memory.copy_of(f) for f in features]
    assert gpu == [host_memory._SLAB]
    assert all(torch.equal(a, b) and a.shape == b.shape for a, b in zip(copies, features, strict=True))


def test_more_than_a_slab_is_pinned_by_itself(gpu):
    size = host_memory._SLAB + 8
    HostMemory().copy_of(torch.zeros(size, dtype=torch.uint8))
    assert gpu == [size]


def test_a_bank_waits_once_for_copies_before_it_returns_them(gpu):
    bank = FeatureBank()
    bank.put(KEY, 1.0, torch.ones(1, 2, 3))
    bank.put(KEY, 2.0, torch.ones(1, 2, 3))
    assert bank.get(KEY, 3.0) is None and not any(event.waits for event in Event.made)
    for sigma in (1.0, 2.0):
        found = bank.get(KEY, sigma)
        assert found is not None and torch.equal(found, torch.ones(1, 2, 3))
    assert [event.waits for event in Event.made] == [0, 1]


def test_without_pinned_memory_features_are_kept_all_the_same(gpu, monkeypatch):
    def refuse(*shape, pin_memory=False, empty=torch.empty, **options):
        if pin_memory:
            raise RuntimeError("no pinned memory")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    assert torch.equal(HostMemory().copy_of(torch.ones(2, 3)), torch.ones(2, 3))


def test_the_cpu_pins_nothing(monkeypatch):
    monkeypatch.setattr(
        torch, "empty", lambda *a, empty=torch.empty, **k: empty(*a, **k) if "pin_memory" not in k else 1 / 0
    )
    assert torch.equal(HostMemory().copy_of(torch.ones(2, 3)), torch.ones(2, 3))
