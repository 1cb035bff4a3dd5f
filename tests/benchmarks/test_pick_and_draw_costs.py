"""Benchmark of Pick-and-Draw's costs, and the guidance by plain autograd that they are compared to."""

import json
from dataclasses import replace

import pytest
import torch
from likeness.benchmarks import full_size, pick_and_draw_costs, pick_and_draw_runs, report, timing, uremd_costs
from likeness.benchmarks.networks import NARROW_CONFIG, random_network, tiny_network
from likeness.benchmarks.plain_autograd import PlainGuidance
from likeness.patching.pick_and_draw.run import GuidanceRun
from likeness.tests.patching.pick_and_draw.guidance_runs import Calls

KERNEL = (
    "uremd_memory_ratio_4096",
    *(f"uremd_matmul_ratio_{tokens}" for tokens in uremd_costs.SIZES),
    "uremd_speedup_gpu",
)


def test_a_report_has_every_figure_with_a_target(random_weights, one_level, monkeypatch):
    def made(quick, weights, _seconds):
        yield tiny_network(weights, 2), 0.0
        yield replace(one_level, prefix=pick_and_draw_costs.LAUNCH_BOUND), 0.0
        yield replace(one_level, prefix=""), 0.0

    monkeypatch.setattr(pick_and_draw_costs, "networks", made)
    monkeypatch.setattr(pick_and_draw_costs, "uremd_costs", lambda _: dict.fromkeys(KERNEL))
    with torch.inference_mode():
        result = pick_and_draw_costs.run(quick=True, seconds=0.0, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    assert set(result.targets) <= set(data["figures"]) and data["figures"]["full_size_pixels"] == 32
    assert "not measured" in report.table(result)
    measured = [value for name, value in data["figures"].items() if name not in KERNEL]
    assert all(0 < value < 100 for value in measured)


@pytest.mark.parametrize("all_maps", [False, True])
def test_plain_autograd_finds_the_same_gradient(all_maps, monkeypatch):
    found, known = [], GuidanceRun._gradient

    def kept(self, *given):
        found.append(known(self, *given)[:2])
        return known(self, *given)

    monkeypatch.setattr(GuidanceRun, "_gradient", kept)
    with torch.inference_mode(), timing.silence():
        network = random_network("narrow", "", NARROW_CONFIG, torch.float32, 8, 2)
        guided = pick_and_draw_runs.guided(network, pick_and_draw_runs.settings(network, 1.0, 1.0, all_maps=all_maps))
        samples = timing.plain(network, guided, network.personalized_positive)[0]["samples"]
        plainly, expected = PlainGuidance(network, guided), []
        gradient = plainly.gradient
        monkeypatch.setattr(plainly, "gradient", lambda *given: expected.append(gradient(*given)) or expected[-1])
        torch.testing.assert_close(plainly.sample(2), samples, rtol=1e-3, atol=1e-3)
    assert len(found) == len(expected) == 2
    for (slope, losses), (losses_by_hand, slope_by_hand) in zip(found, expected, strict=True):
        torch.testing.assert_close(losses, losses_by_hand, rtol=1e-4, atol=1e-6)
        assert float((slope - slope_by_hand).norm() / slope_by_hand.norm()) < 1e-3


def test_the_whole_method_has_the_nodes_proportions(one_level, monkeypatch):
    """As many calls for the inversion as steps, and a template without its picture ends with its window."""
    network, calls = replace(one_level, steps=10), {}
    with torch.inference_mode(), timing.silence():
        for picture in (True, False):
            vanilla, personalized = Calls(network.model), Calls(network.personalized)
            counted = replace(network, model=vanilla.model, personalized=personalized.model)
            pick_and_draw_runs.whole(counted, picture)
            calls[picture] = (len(vanilla.rows), personalized.rows)
    assert calls[True][0] == 10 and calls[False][0] == 3
    assert calls[True][1] == calls[False][1]
    # inversion, features and a gradient for each of seven guided levels, and the run itself
    inversion, features, gradients, run = 10, 6, 7, 10
    assert calls[True][1].count(1) == inversion + features + gradients and calls[True][1].count(2) == run


def test_the_size_fits_the_time(one_level, monkeypatch):
    """A step of each size is timed: nothing is taken for granted about how time grows."""
    ran: list[int] = []

    def seconds_of(run):
        run()
        return {64: 16.0, 32: 4.0}[ran[-1]]

    network = replace(one_level, side=16, steps=10)
    monkeypatch.setattr(full_size, "plain", lambda one, *_, **__: ran.append(one.side))
    monkeypatch.setattr(full_size, "seconds_of", seconds_of)
    sides = [full_size.affordable(network, seconds, 60).side for seconds in (10.0, 3000.0, 20000.0)]
    assert sides == [16, 32, 64] and set(ran) == {32, 64}


def test_the_kernels_costs(monkeypatch):
    """Small sizes: a square cost matrix still needs more memory than tokens of a few channels."""
    monkeypatch.setattr(uremd_costs, "SIZES", {64: 4, 2048: 4})
    monkeypatch.setattr(uremd_costs, "LARGEST", 2048)
    timed = uremd_costs._seconds
    monkeypatch.setattr(uremd_costs, "_seconds", lambda runs, _budget: timed(runs, 0.0))  # one round
    figures = uremd_costs.uremd_costs(quick=False)
    measured = {name: value for name, value in figures.items() if "gpu" not in name}
    assert all(value is not None and value > 0 for value in measured.values())
    assert {
        f"uremd_{name}_{size}"
        for name in ("time_ratio", "memory_ratio", "matmul_ratio", "bytes")
        for size in (64, 2048)
    } <= set(figures)
    assert figures["uremd_memory_ratio_2048"] > figures["uremd_memory_ratio_64"]
    assert {"uremd_speedup_gpu", "uremd_speedup_gpu_fp16"} <= set(figures)
    quick = uremd_costs.uremd_costs(quick=True)
    assert "uremd_matmul_ratio_2048" in quick and "uremd_memory_ratio_2048" not in quick
