"""The benchmark of Pick-and-Draw's open choices, on random weights and a random judge."""

import math

import pytest
from likeness.benchmarks import generate, pick_and_draw_choices, samples
from likeness.benchmarks.grid import Grid
from likeness.demo.world.subjects import SUBJECTS


@pytest.mark.usefixtures("random_judge")
def test_every_row_has_scores_and_costs(random_weights, monkeypatch):
    assert not set(pick_and_draw_choices.COMPLETE.subjects) & set(samples.TUNING)
    changed = {name for choice in pick_and_draw_choices.CHOICES.values() for name in choice.changes}
    assert {"source", "saliency", "features", "step_kind", "kernel_size", "decay"} <= changed
    few_steps = generate.Settings(steps=2)
    monkeypatch.setattr(generate, "Settings", lambda: few_steps)
    monkeypatch.setattr(pick_and_draw_choices, "QUICK", Grid(tuple(SUBJECTS.values())[:1], prompts=1, seeds=2))
    names = ("unguided", "source noised", "layout: unguided", "layout: kernel_size 1")
    rows = {name: pick_and_draw_choices.CHOICES[name] for name in names}
    monkeypatch.setattr(pick_and_draw_choices, "CHOICES", rows)
    report = pick_and_draw_choices.run(True, random_weights)
    assert tuple(row["name"] for row in report.rows) == names
    assert all(math.isfinite(value) for row in report.rows for k, v in row.items() if k != "name" for value in v)
    assert report.rows[1]["time"][0] > 0 and report.rows[1]["preparation"][0] > 0
    assert report.rows[3]["time"][0] > 0 and "preparation" not in report.rows[3]
