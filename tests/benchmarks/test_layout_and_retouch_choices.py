"""The benchmark of ways to follow a layout, on random weights and a random judge."""

import math

import pytest
from likeness.benchmarks import generate, layout_and_retouch_choices, samples
from likeness.benchmarks.grid import Grid
from likeness.benchmarks.layout_and_retouch_comparison import Recipe
from likeness.demo.world.subjects import SUBJECTS


@pytest.mark.usefixtures("random_judge")
def test_rows_are_scored_and_a_fork_is_the_layout(random_weights, monkeypatch):
    bench = layout_and_retouch_choices
    assert not set(bench.COMPLETE.subjects) & set(samples.TUNING)
    few_steps = generate.Settings(steps=3)
    monkeypatch.setattr(generate, "Settings", lambda: few_steps)
    monkeypatch.setattr(bench, "Recipe", lambda: Recipe(switch_step=1, lambda_2=2, lambda_3=2))
    monkeypatch.setattr(bench, "QUICK", Grid(tuple(SUBJECTS.values())[:1], prompts=1, seeds=1))
    monkeypatch.setattr(bench, "CHOICES", {name: bench.CHOICES[name] for name in ("none", "fork")})
    layout, none, fork = bench.run(True, random_weights).rows
    assert layout["name"] == bench.LAYOUT and "distance at the end" not in layout
    assert all(math.isfinite(value) for entry in (none, fork) for k, v in entry.items() if k != "name" for value in v)
    assert fork["distance at lambda_2"][0] < 1e-4 < none["distance at lambda_2"][0]
