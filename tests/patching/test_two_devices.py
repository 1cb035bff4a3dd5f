"""Runs whose sides of guidance ComfyUI computes on two devices at once, in threads that share the patches."""

import time

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import INVERTED
from likeness.patching.host.identity import identity_of
from likeness.patching.host.passes import unwrapped
from likeness.patching.layout_and_retouch.mask import MaskRun
from likeness.patching.layout_and_retouch.settings import NONE, QKV_BOTH
from likeness.tests.patching.jedi import joint_runs
from likeness.tests.patching.layout_and_retouch import retouch_runs
from likeness.tests.patching.layout_and_retouch.retouch_runs import close
from likeness.tests.patching.mechanisms import MECHANISMS, SIDE
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model
from likeness.tests.patching.two_devices import of_two_devices
from likeness.tests.patching.two_models import add_lora

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def far(a, b) -> bool:
    return float((a - b).norm() / b.norm()) > 1e-3


@pytest.mark.parametrize("mode", [BATCHED, SEQUENTIAL, BANKED])
@pytest.mark.parametrize("early", [NONE, QKV_BOTH])
def test_a_retouch(monkeypatch, mode, early):
    one = tiny_model()
    two, seen = of_two_devices(monkeypatch)
    trajectory = retouch_runs.layout(one)[1]
    settings = {"layout": trajectory, "mode": mode, "early_swap": early}
    settings["mask"] = retouch_runs.mask(tokens=(1, 3), prompt_length=7)

    def run(model):
        return retouch_runs.run(retouch_runs.retouched(model, [retouch_runs.reference(one)], **settings))

    found, alone = run(two), run(one)
    close(found, alone)
    assert seen.divided and far(alone, retouch_runs.run(one))


@pytest.mark.parametrize("mode", [BATCHED, SEQUENTIAL, BANKED])
def test_a_retouch_of_two_prompts_and_a_negative_one(monkeypatch, mode):
    """One device gets two of the three conditionings, so that both devices may have prompts."""
    one, sizes = tiny_model(), {"height": SIDE, "width": SIDE}
    two, seen = of_two_devices(monkeypatch)
    settings = {"layout": retouch_runs.layout(one, **sizes)[1], "early_swap": NONE, "mode": mode}
    settings["mask"] = retouch_runs.mask(SIDE, SIDE, tokens=(1, 3), prompt_length=77)
    positive, negative = (conditioning(one, tokens=77, seed=seed) for seed in (10, 11))
    positive = MECHANISMS["masked prompts"](one, positive)[1]

    def run(model):
        patched = retouch_runs.retouched(model, [retouch_runs.reference(one, **sizes)], **settings)
        return run_ksampler(patched, positive, negative, {"samples": torch.zeros(1, 4, SIDE, SIDE)})

    close(run(two), run(one))
    assert len({device for device, _ in seen.calls}) == 2 == len(seen.calls)


def test_a_bank_serves_later_runs(monkeypatch):
    one = tiny_model()
    two, seen = of_two_devices(monkeypatch)
    counted, calls = retouch_runs.counting(two)
    patched = retouch_runs.retouched(counted, [retouch_runs.reference(one, kind=INVERTED)], mode=BANKED)
    first = retouch_runs.run(patched)
    del calls[:]
    assert torch.equal(retouch_runs.run(patched), first)
    assert seen.divided and calls == [1, 1] * retouch_runs.STEPS


def test_the_devices_have_one_identity(monkeypatch):
    one = identity_of(tiny_model())
    assert one.lasts and identity_of(of_two_devices(monkeypatch)[0]) == one


def test_both_threads_share_one_mask(monkeypatch):
    one = tiny_model()
    two, seen = of_two_devices(monkeypatch)
    made, begin = [], MaskRun.__post_init__

    def slowly(self):
        made.append(self)
        time.sleep(0.05)  # the other thread comes here too, unless it waits
        begin(self)

    monkeypatch.setattr(MaskRun, "__post_init__", slowly)
    mask = retouch_runs.mask(tokens=(1, 3), prompt_length=7)
    layout = retouch_runs.layout(one)[1]
    retouch_runs.run(retouch_runs.retouched(two, [retouch_runs.reference(one)], layout=layout, mask=mask))
    assert seen.divided and len(made) == 1


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_guidance(monkeypatch, family):
    one = guidance_runs.model_of(family)
    two, seen = of_two_devices(monkeypatch, family, guidance_runs.SEED)

    def run(model):
        own = guidance_runs.palette(model, family)
        patched, log = guidance_runs.guided(model, own, guidance_runs.recorded(family), family)
        return guidance_runs.sampled(patched, family), log.entries

    (found, losses), (alone, expected) = run(two), run(one)
    close(found, alone)
    for (sigma, terms), (level, wanted) in zip(losses, expected, strict=True):
        assert sigma == level and terms.keys() == wanted.keys()
        for name, loss in terms.items():
            close(loss, wanted[name])
    assert seen.divided and far(alone, guidance_runs.sampled(one, family))


def test_reading_a_palette_does_not_end_its_pass_early(monkeypatch):
    """The threads of several devices would not pass on the exception that ends it."""
    one = guidance_runs.model_of()
    two, _ = of_two_devices(monkeypatch, seed=guidance_runs.SEED)
    two.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, "seen")  # others' wrappers end no pass early
    assert unwrapped(one) and not unwrapped(two)
    first, other = (guidance_runs.guided(m, guidance_runs.palette(m), appearance_weight=1.0)[0] for m in (two, one))
    close(guidance_runs.sampled(first), guidance_runs.sampled(other))


def test_a_joint_set(monkeypatch):
    one = tiny_model()
    two, seen = of_two_devices(monkeypatch)
    settings = {"guidance": "text_only", "token_dropout": 0.25}

    def run(model, **changes):
        # Both sides of guidance are in one call where another node patches attention, which may compare them.
        patched = model.clone()
        patched.set_model_attn1_output_patch(_louder)
        return joint_runs.run(patched, references=[joint_runs.reference(one)], **settings, **changes)

    found, alone = run(two), run(one)
    close(found, alone)
    assert seen.divided and far(alone, run(one, strength=0.0))


def _louder(output, options):
    return 1.3 * output


@pytest.mark.parametrize("guidance", ["joint", "text_first"])
def test_a_joint_set_whose_sides_take_turns(monkeypatch, guidance):
    one = tiny_model()
    two, seen = of_two_devices(monkeypatch)
    settings = {"guidance": guidance, "image_cfg": 2.5, "query_blend": 0.5, "query_blend_end": 0.6}
    found, alone = (
        joint_runs.run(model, references=[joint_runs.reference(one)], reference_noise="never", **settings)
        for model in (two, one)
    )
    close(found, alone)
    assert seen.calls and not seen.divided


@pytest.mark.parametrize("batch", [1, 2])
def test_a_layout_template(monkeypatch, batch):
    one = guidance_runs.model_of()
    two, seen = of_two_devices(monkeypatch, seed=guidance_runs.SEED)
    found, expected = (guidance_runs.template(model, batch=batch) for model in (two, one))
    assert seen.divided and found.maps.keys() == expected.maps.keys()
    for layer, levels in expected.maps.items():
        assert found.maps[layer].keys() == levels.keys()
        for sigma, wanted in levels.items():
            close(found.maps[layer][sigma], wanted)


@pytest.mark.parametrize("switch", [0, 1])
def test_two_models(monkeypatch, switch):
    one, other = tiny_model(), add_lora(tiny_model())
    two, seen = of_two_devices(monkeypatch)
    expected = retouch_runs.layout(other, vanilla=one, switch=switch, record="decoder")
    found = retouch_runs.layout(add_lora(two), vanilla=two, switch=switch, record="decoder")
    close(found[0], expected[0])
    assert seen.divided and len(found[1]) == len(expected[1])
