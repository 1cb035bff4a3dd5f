"""All that banks keep in RAM, and its release."""

import weakref

import torch
from likeness.patching.features import bank as banks
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key, forget_all, kept_bytes
from likeness.patching.host.blocks import Layer


def test_what_all_banks_keep_is_counted_and_released(monkeypatch):
    monkeypatch.setattr(banks, "_banks", weakref.WeakSet())  # those of other tests stay as they are
    bank, other = FeatureBank(), FeatureBank()
    key = Key("model", HIDDEN, Layer("output", 3, 0), True)
    for each in (bank, other):
        each.put(key, 1.0, torch.zeros(1, 16, 8))
    assert kept_bytes() == 2 * 16 * 8 * 4
    del other, each
    assert kept_bytes() == 16 * 8 * 4
    forget_all()
    assert kept_bytes() == 0 and bank.get(key, 1.0) is None
    own = key._replace(weights="")  # of a layout's own run, which nothing makes again
    bank.put(own, 1.0, torch.ones(1, 16, 8))
    forget_all()
    assert kept_bytes() == 0 and bank.get(own, 1.0) is not None
    bank.put(key, 1.0, torch.ones(1, 16, 8))
    assert bank.get(key, 1.0) is not None
