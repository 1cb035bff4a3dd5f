"""Benchmark of the costs of JeDi's sets."""

import json
from dataclasses import replace

import pytest
import torch
from likeness.benchmarks import jedi_costs, timing
from likeness.benchmarks.flops import counted
from likeness.benchmarks.networks import tiny_network


def test_a_report_has_every_figure_with_a_target(random_weights, one_level, monkeypatch):
    def made(quick, weights, _seconds):
        yield tiny_network(weights, 1), 0.0
        yield replace(one_level, prefix=""), 0.0

    monkeypatch.setattr(jedi_costs, "networks", made)
    monkeypatch.setattr(jedi_costs, "SIZES", (1, 2, 4))
    with torch.inference_mode():
        result = jedi_costs.run(quick=True, seconds=0.0, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    figures = data["figures"]
    assert set(result.targets) <= set(figures)
    names = {
        "joint_reference_price",
        "joint_n4_attention_share",
        "joint_n4_to_flop_ratio",
        *(f"joint_n{n}{kind}_ratio" for n in (1, 2, 4) for kind in ("", "_flop", "_memory")),
    }
    wanted = {f"{prefix}{name}" for prefix in ("", "tinyland_") for name in names}
    assert set(figures) == {"full_size_pixels", *wanted} and figures["full_size_pixels"] == 32
    for prefix in ("", "tinyland_"):
        assert 0.5 < figures[f"{prefix}joint_n4_memory_ratio"] < 2
        expected = figures[f"{prefix}joint_n4_ratio"] / figures[f"{prefix}joint_n4_flop_ratio"]
        assert figures[f"{prefix}joint_n4_to_flop_ratio"] == pytest.approx(expected, rel=1e-3)
        assert figures[f"{prefix}joint_n1_flop_ratio"] == pytest.approx(1.0, abs=0.02)
    rows = data["rows"]
    assert len(rows) == 10 and all(len(row["ratio"]) == len(row["seconds"]) == 3 for row in rows)


def test_a_set_needs_the_operations_of_its_pictures_and_of_their_coupling(random_weights, monkeypatch):
    """A set attends to n times as many keys, which is all that it computes beyond n pictures."""
    monkeypatch.setattr(jedi_costs, "SIZES", (1, 2, 4))
    with torch.inference_mode(), timing.silence():
        network = tiny_network(random_weights, 1)
        found = jedi_costs.work_and_memory(network)
        alone = counted(lambda: jedi_costs.pictures(network, 4, blocks="")) / counted(
            lambda: jedi_costs.one_by_one(network, 4)
        )
    more = [found[f"joint_n{n}_flop_ratio"] - 1 for n in (1, 2, 4)]
    assert more[0] == pytest.approx(0.0, abs=0.01) and alone == pytest.approx(1.0, abs=0.01)
    assert 0.02 < more[1] < 0.2 and more[2] == pytest.approx(3 * more[1], rel=0.1)
