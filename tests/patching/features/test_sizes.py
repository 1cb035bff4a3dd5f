"""RAM that palettes and recorded layouts will take is told before they are made."""

import pytest
import torch
from likeness.patching.features import room
from likeness.patching.host.notices import Notices
from likeness.patching.host.passes import sample
from likeness.patching.layout_and_retouch.step_blended import NODE, StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.patching.pick_and_draw.settings import NODE as GUIDANCE
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, model_of, palette, sampled
from likeness.tests.patching.tiny_models import conditioning, tiny_model


@pytest.fixture
def tells(monkeypatch):
    """Makes every size worth telling, in bytes."""
    monkeypatch.setattr(room, "_WORTH_TELLING", 0)
    monkeypatch.setattr(room, "GIB", 1)


@pytest.mark.usefixtures("tells", "as_the_host_runs")
def test_a_palette():
    model, notices = model_of(), Notices(GUIDANCE)
    made = palette(model)
    sampled(guided(model, made, notices=notices)[0])
    size = sum(item.bank.size_in_bytes for item in made.references.items)
    (told,) = [said for said in notices.sentences if "palette's features" in said]
    assert told == f"The palette's features at 2 noise levels take about {size:.2f} GiB of RAM." and size


@pytest.mark.usefixtures("tells")
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_recorded_blocks(cfg):
    model, notices = tiny_model("sdxl"), Notices(NODE)
    guider = StepBlendedGuider(model, model, Switch(steps=1), record_blocks="paper", notices=notices)
    guider.set_blended_conds(*(conditioning(model, seed=seed) for seed in (13, 10, 11)))
    guider.set_cfg(cfg)
    sample(guider, {"samples": torch.zeros(2, 4, 9, 11)}, 3, 3, "euler", "normal", 1.0, NODE)
    size = guider.trajectory.bank.size_in_bytes
    assert f"in 3 steps take about {size:.2f} GiB of RAM." in notices.sentences[0] and size


def test_little_is_not_told():
    notices = Notices(NODE)
    room.tell_size("features", room.GIB / 8, notices)
    assert notices.sentences == ()
