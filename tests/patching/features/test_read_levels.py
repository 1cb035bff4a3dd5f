"""Noise levels that share one reading of the references: which do, what it saves, and that modes still agree."""

import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.read_levels import ReadLevels
from likeness.patching.features.references import References
from likeness.patching.host.attach import patches_of
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, counting, disc, reference, run
from likeness.tests.patching.tiny_models import tiny_model

STEPS = 5


def patched(model, items, every, mode=BANKED, **settings):
    notices = Notices("Swap")
    chosen = RetouchSettings(
        early_swap=NONE,
        lambda_2=0,
        lambda_3=STEPS,
        attention=APPEND,
        mode=mode,
        blocks="all",
        reference_every=every,
        **settings,
    )
    return retouch(model, References(tuple(items)), None, None, chosen, notices=notices), notices


def test_groups_of_levels():
    levels = ReadLevels.of([14.0, 9.0, 5.0, 2.0, 1.0, 9.0], 2)
    assert levels.first == (14.0, 5.0, 1.0)
    groups = [levels.group(s) for s in (20.0, 14.0, 9.0, 7.0, 5.0, 4.99, 2.0, 1.0, 0.5)]
    assert groups == [14.0, 14.0, 14.0, 14.0, 5.0, 5.0, 5.0, 1.0, 1.0]
    assert levels.group(5.0 * (1 + 1e-6)) == 5.0, "a level through a logarithm and back"
    assert ReadLevels.of([14.0, 5.0], 1).group(5.0) is None


@pytest.mark.parametrize("mode", [BANKED, SEQUENTIAL, BATCHED])
def test_modes_agree(mode):
    model = tiny_model("sd1")
    items = [reference(model, mask=disc()[0]), reference(model, 21)]
    expected = run(patched(model, items, 2, SEQUENTIAL)[0], steps=STEPS)
    swap, notices = patched(model, [reference(model, mask=disc()[0]), reference(model, 21)], 2, mode)
    found = [run(swap, steps=STEPS) for _ in range(2)]
    close(found[0], expected)
    assert torch.equal(*found), "the second run takes from the banks what the first one read"
    assert "Each reading of the references serves up to 2 noise levels." in notices.sentences
    each_level = run(patched(model, items, 1, mode)[0], steps=STEPS)
    assert float((found[0] - each_level).abs().max()) > 1e-4


@pytest.mark.parametrize("every, readings", [(1, 5), (2, 3), (3, 2), (10, 1)])
def test_a_reading_serves_its_group(every, readings):
    model, calls = counting(tiny_model("sd1"))
    item = reference(model)
    swap, _ = patched(model, [item], every)
    calls.clear()
    run(swap, steps=STEPS)
    assert len(calls) == STEPS + readings
    assert len(item.bank.levels) == readings
    calls.clear()
    run(swap, steps=STEPS)
    assert len(calls) == STEPS


def test_features_of_each_level_are_not_mixed_with_shared_ones():
    """A bank that a run of each level has filled gives what an empty one gives."""
    model = tiny_model("sd1")
    expected = run(patched(model, [reference(model)], 2)[0], steps=STEPS)
    item = reference(model)
    each = run(patched(model, [item], 1)[0], steps=STEPS)
    assert torch.equal(run(patched(model, [item], 2)[0], steps=STEPS), expected)
    assert torch.equal(run(patched(model, [item], 1)[0], steps=STEPS), each)


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_a_window_starts_within_a_group(start):
    model = tiny_model("sd1")
    swaps = [patched(model, [reference(model)], 3, mode, start_percent=start)[0] for mode in (BANKED, SEQUENTIAL)]
    banked, sequential = (run(swap, steps=STEPS) for swap in swaps)
    close(banked, sequential)
    assert torch.equal(run(swaps[0], steps=STEPS), banked)


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2s_ancestral"])
def test_samplers_with_calls_between_levels(sampler):
    model = tiny_model("sd1")
    banked, sequential = (
        run(patched(model, [reference(model)], 2, mode)[0], steps=STEPS, sampler=sampler)
        for mode in (BANKED, SEQUENTIAL)
    )
    close(banked, sequential)


def test_little_memory_gives_the_same_picture():
    model = tiny_model("sd1")
    expected = run(patched(model, [reference(model)], 2)[0], steps=STEPS)
    swap, notices = patched(model, [reference(model)], 2, bank_limit=1e-6)
    close(run(swap, steps=STEPS), expected)
    assert any("raise bank_limit or reference_every" in sentence for sentence in notices.sentences)


def test_batched_asks_for_no_larger_batch():
    model = tiny_model("sd1")
    batches = [patches_of(patched(model, [reference(model)], every, BATCHED)[0])[0].batches for every in (1, 2)]
    assert batches == [2, 1]
