"""Noise levels that share one reading of the references: which do, what it saves, and that modes still agree."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from likeness.patching.features import room
from likeness.patching.features.correspondences import correspondences
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.looking import Point
from likeness.patching.features.read_levels import ReadLevels
from likeness.patching.features.references import References
from likeness.patching.host.attach import patches_of
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, counting, disc, reference, run
from likeness.tests.patching.parts_of_runs import in_windows
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model

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


@pytest.mark.parametrize("mode", [BANKED, SEQUENTIAL])
def test_kinds_of_call_have_a_reading_each(mode):
    """Perturbed attention calls the network once more in each step, with other options."""
    model, calls = counting(tiny_model("sd1"))
    item = reference(model)
    swap, _ = patched(model, [item], 3, mode)
    calls.clear()
    run(PerturbedAttentionGuidance.execute(swap, 3.0)[0], steps=STEPS + 1)
    groups, kinds = 2, 2
    assert len(calls) == 2 * (STEPS + 1) + groups * kinds
    assert len(item.bank.levels) == (groups if mode == BANKED else 0)


@pytest.mark.parametrize("every, readings", [(1, STEPS), (3, 2)])
@pytest.mark.parametrize("mode", [BANKED, SEQUENTIAL])
def test_context_windows_share_a_reading(mode, every, readings):
    """A reference is a whole picture, whatever pictures of the batch a call shows."""
    model, calls = counting(tiny_model("sd1"))
    item = reference(model)
    swap, _ = patched(model, [item], every, mode)
    whole = run(swap, batch=4, steps=STEPS)
    calls.clear()
    windows = run(in_windows(swap), batch=4, steps=STEPS)
    assert len(calls) == 3 * STEPS + readings
    close(windows, whole)


def test_a_group_starts_where_reading_starts():
    """Levels outside the window take no room, and none of them stands for a group."""
    model, calls = counting(tiny_model("sd1"))
    item = reference(model)
    run(patched(model, [item], 3, start_percent=0.3)[0], steps=STEPS)
    held = item.bank.size_in_bytes
    fresh = reference(model)
    swap, notices = patched(model, [fresh], 3, start_percent=0.3, bank_limit=1.01 * held / room.GIB)
    run(swap, steps=STEPS)
    calls.clear()
    run(swap, steps=STEPS)
    assert len(calls) == STEPS and fresh.bank.size_in_bytes == held
    assert not any("RAM" in sentence for sentence in notices.sentences)


@pytest.mark.parametrize("every", [0, -2])
def test_a_linked_number_below_1_is_refused(every):
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match=f"expected reference_every of at least 1, got {every}; raise"):
        patched(model, [reference(model)], every)


def test_a_point_looks_at_the_reference_at_its_own_level():
    model, pictures = tiny_model("sd1"), latent(2)
    point, found = Point(1, 0.3, 0.8), []
    for every in (1, 4):
        guider = comfy.samplers.CFGGuider(patched(model, [reference(model)], every)[0])
        guider.set_conds(conditioning(model, seed=10), conditioning(model, seed=11))
        looks = {"blocks": "all", "group_by": "together", "window": Window(0.2, 0.8), "levels": 4, "seed": 0}
        found.append(correspondences(guider, pictures, point=point, **looks).heatmaps)
    assert torch.equal(*found)
