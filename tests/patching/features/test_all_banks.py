"""All that banks keep in RAM, and its release."""

import torch
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key, forget_all, kept_bytes
from likeness.patching.host.blocks import Layer


def test_what_all_banks_keep_is_counted_and_released():
    before, bank, other = kept_bytes(), FeatureBank(), FeatureBank()
    key = Key("model", HIDDEN, Layer("output", 3, 0), True)
    for each in (bank, other):
        each.put(key, 1.0, torch.zeros(1, 16, 8))
    assert kept_bytes() - before == 2 * 16 * 8 * 4
    del other, each
    assert kept_bytes() - before == 16 * 8 * 4
    forget_all()
    assert kept_bytes() == 0 and bank.get(key, 1.0) is None
    own = key._replace(weights="")  # of a layout's own run, which nothing makes again
    bank.put(own, 1.0, torch.ones(1, 16, 8))
    forget_all()
    assert kept_bytes() == 0 and bank.get(own, 1.0) is not None
    bank.put(key, 1.0, torch.ones(1, 16, 8))
    assert bank.get(key, 1.0) is not None
