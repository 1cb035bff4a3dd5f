"""RAM for features: the size that is told, the limit, and what happens beyond it."""

import pytest
import torch
from likeness.patching.features import room
from likeness.patching.features.lending import BANKED, SEQUENTIAL
from likeness.patching.features.references import References
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import disc, reference, run
from likeness.tests.patching.tiny_models import tiny_model

pytestmark = pytest.mark.slow

STEPS = 2


def patched(model, items, mode=BANKED, blocks="all", **settings):
    notices = Notices("Swap")
    chosen = RetouchSettings(
        early_swap=NONE, lambda_2=0, lambda_3=STEPS, attention=APPEND, mode=mode, blocks=blocks, **settings
    )
    return retouch(model, References(tuple(items)), None, None, chosen, notices=notices), notices


@pytest.fixture
def tells(monkeypatch):
    """Makes every size worth telling."""
    monkeypatch.setattr(room, "_WORTH_TELLING", 0)


def test_the_size_is_known_before(family, tells):
    model = tiny_model(family)
    items = [reference(model, height=9, width=11, mask=disc(72, 88)[0]), reference(model, 21)]
    swap, notices = patched(model, items)
    run(swap, steps=STEPS)
    size = sum(item.bank.size_in_bytes for item in items)
    told = f"The features of 2 reference pictures at {STEPS} noise levels take {size / room.GIB:.2f} GiB"
    assert notices.sentences[0].startswith(told) and "sequential" not in notices.sentences[0]
    layers = sorted({key.layer for key, _, _ in items[0].bank.items()})
    assert 2 * STEPS * sum(room.level_size(model, item, layers, "Node") for item in items) == size > 0


def test_one_picture_and_one_level_are_singular(tells):
    model = tiny_model("sd1")
    swap, notices = patched(model, [reference(model)])
    run(swap, steps=1)
    assert "features of 1 reference picture at 1 noise level take" in notices.sentences[0]


@pytest.mark.parametrize("by", ["limit", "free RAM"])
def test_features_beyond_the_limit_are_computed_in_every_run(monkeypatch, by):
    model = tiny_model("sd1")
    expected = run(patched(model, [reference(model)], SEQUENTIAL)[0], steps=STEPS)
    if by == "free RAM":
        monkeypatch.setattr(room, "_free_ram", lambda: 1000.0)
    item = reference(model)
    swap, notices = patched(model, [item], bank_limit=1e-6 if by == "limit" else 0.0)
    for _ in range(2):
        assert torch.equal(run(swap, steps=STEPS), expected)
    assert item.bank.size_in_bytes == 0
    assert "as with mode sequential; mask the subject, or raise bank_limit or reference_every" in notices.sentences[0]


def test_enough_room_is_silent():
    model = tiny_model("sd1")
    item = reference(model)
    swap, notices = patched(model, [item], bank_limit=1.0)
    run(swap, steps=STEPS)
    assert item.bank.size_in_bytes and not notices.sentences


def test_features_of_other_schedules_make_room():
    model = tiny_model("sd1")
    item = reference(model)
    swap, notices = patched(model, [item], blocks="output3")
    run(swap, steps=STEPS)
    size = item.bank.size_in_bytes
    swap, notices = patched(model, [item], blocks="output3", bank_limit=1.2 * size / room.GIB)
    run(swap, steps=STEPS, scheduler="sgm_uniform")
    assert item.bank.size_in_bytes == size and not notices.sentences


def test_schedules_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(room, "_MOST_LEVELS", 5)
    model = tiny_model("sd1")
    item = reference(model)
    swap, _ = patched(model, [item], blocks="output3")
    counts = []
    for scheduler in ("normal", "karras", "sgm_uniform"):
        run(swap, steps=3, scheduler=scheduler)
        counts.append(len(item.bank.levels))
    assert counts == [3, 5, 5] or max(counts) <= 6
