"""Benchmark of Layout-and-Retouch's costs, and the calls and operations that its runs need."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from likeness.benchmarks import layout_and_retouch_costs, layout_and_retouch_runs, report, timing
from likeness.benchmarks.networks import tiny_network
from likeness.patching.features.references import Reference

MODES = ("banked", "batched", "sequential", "appended")
RATIOS = (*(f"retouch_step_{mode}_ratio" for mode in MODES), "whole_ratio", "whole_kept_ratio")


@pytest.fixture(scope="module")
def result(random_weights):
    """Report of Tinyland, as of the full-size network."""

    def made(quick, weights, _seconds):
        yield replace(tiny_network(weights, 2), prefix=""), 0.0

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(layout_and_retouch_runs, "Reference", partial(Reference, inversion_steps=1))
        patch.setattr(layout_and_retouch_costs, "networks", made)
        return layout_and_retouch_costs.run(quick=True, seconds=0.0, weights=random_weights)


def test_a_report_has_every_figure_with_a_target(result):
    data = json.loads(json.dumps(result.as_dict()))
    figures, rows = data["figures"], data["rows"]
    wanted = {name.replace("_ratio", f"{kind}_ratio") for name in RATIOS for kind in ("", "_flop", "_memory")}
    assert set(figures) == {"full_size_pixels", layout_and_retouch_costs.BATCHED_TO_FLOPS, *wanted}
    assert set(result.targets) <= set(figures) and figures["full_size_pixels"] == 128
    assert all(0 < figures[name] < 100 for name in wanted)
    expected = figures["retouch_step_batched_ratio"] / figures["retouch_step_batched_flop_ratio"]
    assert figures["retouch_step_batched_to_flop_ratio"] == pytest.approx(expected, rel=1e-3)
    assert len(rows) == len(RATIOS) and all(len(row["ratio"]) == len(row["seconds"]) == 3 for row in rows)
    assert "layout and retouch, reference kept" in report.table(result)


def test_operations_and_memory_are_those_of_the_calls(result):
    """Reference and layout are two more rows for each of the target's; from banks they are none."""
    found = result.figures
    expected = {"banked": 1.0, "appended": 1.0, "batched": 3.0, "sequential": 3.0}
    for mode, ratio in expected.items():
        assert found[f"retouch_step_{mode}_flop_ratio"] == pytest.approx(ratio, rel=0.1), mode
    assert 1.5 < found["whole_kept_flop_ratio"] < found["whole_flop_ratio"] - 0.5
    assert 0.9 < found["retouch_step_banked_memory_ratio"] < found["retouch_step_batched_memory_ratio"] < 5


def test_a_kept_reference_saves_its_inversion_and_its_features(one_level, monkeypatch):
    """As many calls of one row as steps, and one with both sides of guidance for each step from lambda_2 on."""
    network, calls = replace(one_level, steps=10), []
    unet = type(network.model.model.diffusion_model)
    known = unet._forward
    # A hook on the module would be a model that later runs cannot recognize.
    monkeypatch.setattr(
        unet, "_forward", lambda self, x, *args, **named: calls.append(len(x)) or known(self, x, *args, **named)
    )
    with torch.inference_mode(), timing.silence():
        kept = layout_and_retouch_runs.new_reference(network, 1.0)

        def rows(reference):
            calls.clear()
            layout_and_retouch_runs.whole(network, reference)
            return Counter(calls)

        new, first, later = rows(None), rows(kept), rows(kept)
    inversion, layout, maps, late = 10, 10, 2, 6
    assert new == first == {1: inversion + maps, 2: layout + 2 * late}
    assert later == {1: maps, 2: layout + late}
