"""Guidance against the same method by hand."""

import pytest
import torch
from likeness.tests.patching.pick_and_draw.guidance_by_hand import ByHand
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    SCHEDULE,
    at_levels,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
    template,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


KINDS = {
    "appearance": ({"appearance_weight": 2.0}, True, False),
    "layout": ({"layout_weight": 2.0}, False, True),
    "both": ({"layout_weight": 3.0, "step_size": 0.02}, True, True),
    "raw": ({"step": "raw", "step_size": 10.0}, True, True),
    "cfg 1": ({}, True, False),
    "ddim": ({}, True, False),
}


@pytest.mark.parametrize(("family", "kind"), [*(("sd1", kind) for kind in KINDS), ("sd2", "both"), ("sdxl", "both")])
def test_it_is_the_formula(family, kind):
    changes, with_palette, with_template = KINDS[kind]
    settings = {"cfg": 1.0 if kind == "cfg 1" else 4.0, "sampler": "ddim" if kind == "ddim" else "euler"}
    model, noise = model_of(family), noise_of(3)
    given = palette(model, family) if with_palette else None
    wanted = at_levels(recorded(family), SCHEDULE) if with_template else None
    patched, log = guided(model, given, wanted, family, **changes)
    found, plain = (sampled(m, family, noise=noise, **settings) for m in (patched, model))
    appearance = changes.get("appearance_weight", 1.0) if given else None
    layout = (changes.get("layout_weight", 1.0), wanted.maps) if wanted else None
    with torch.inference_mode(False):
        size, step = changes.get("step_size", 0.05), changes.get("step", "relative")
        expected = ByHand(family, appearance, layout, size, step, **settings).run(noise)
    print(family, kind, relative(found, expected), relative(found, plain))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert relative(found, plain) > 0.005
    assert [sigma for sigma, _ in log.entries] == list(SCHEDULE[:-1])


def test_iterations_go_on_from_where_the_last_ended():
    model, noise = model_of(), noise_of(3)
    patched, log = guided(model, palette(model), None, iterations=3, step_size=0.02)
    sampled(patched, noise=noise, schedule=SCHEDULE[:2])
    assert [sigma for sigma, _ in log.entries] == [3.0] * 3
    losses = [float(entry["appearance"]) for _, entry in log.entries]
    assert losses[0] > losses[1] > losses[2]
    with torch.inference_mode(False):
        hand = ByHand("sd1", 1.0, None, 0.02)
        x = 3.0 * noise.clone()
        for expected in losses:
            assert float(hand.loss(x, 3.0)) == pytest.approx(expected, rel=1e-4)
            x = hand.moved(x, 3.0)


@pytest.mark.parametrize("changes", [{}, {"direction": "ref_to_gen"}, {"direction": "max"}, {"layout": True}], ids=str)
def test_it_lowers_what_it_guides(changes):
    model, term = model_of(), "layout" if "layout" in changes else "appearance"
    given, wanted = (None, template(model, steps=2, seed=21)) if "layout" in changes else (palette(model), None)
    patched, log = guided(
        model, given, wanted, step_size=0.01, iterations=3, direction=changes.get("direction", "gen_to_ref")
    )
    run(patched, steps=2)
    for step in range(2):
        losses = [entry[term].mean() for _, entry in log.entries[3 * step : 3 * step + 3]]
        assert losses[0] > losses[1] > losses[2], (step, losses)
