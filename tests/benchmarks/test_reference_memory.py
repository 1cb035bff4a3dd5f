"""The benchmark of a reference's RAM, on random weights and a random judge."""

import math
from dataclasses import replace

import pytest
import torch
from likeness.benchmarks import generate, reference_memory
from likeness.benchmarks.grid import Grid
from likeness.benchmarks.layout_and_retouch_comparison import Recipe
from likeness.benchmarks.networks import NARROW_SDXL_CONFIG
from likeness.benchmarks.reference_memory import EACH, EVERY_2, SAVINGS, WHOLE, WHOLE_4
from likeness.demo.world.subjects import SUBJECTS


@pytest.mark.usefixtures("random_judge")
def test_rows_and_figures(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    few_steps = generate.Settings(steps=3)
    monkeypatch.setattr(generate, "Settings", lambda: few_steps)
    monkeypatch.setattr(
        reference_memory, "Recipe", lambda **changed: Recipe(switch_step=1, lambda_2=1, lambda_3=2, **changed)
    )
    monkeypatch.setattr(reference_memory, "QUICK", Grid(tuple(SUBJECTS.values())[:1], prompts=1, seeds=1))
    narrow = reference_memory.network(NARROW_SDXL_CONFIG)
    monkeypatch.setattr(reference_memory, "network", lambda: narrow)
    with torch.inference_mode():
        result = reference_memory.run(True, random_weights)
    rows = {row["name"]: row for row in result.rows}
    assert set(rows) == set(SAVINGS) and set(result.targets) <= set(result.figures)
    assert all(math.isfinite(value) for row in result.rows for k, v in row.items() if k != "name" for value in v)
    assert rows[EACH]["identity less each level"] == [0.0, 0.0, 0.0]
    assert rows[EACH]["SDXL GB"][0] == pytest.approx(result.figures["sdxl_subject_gb"])


def test_what_each_saving_saves():
    model = reference_memory.network(NARROW_SDXL_CONFIG).personalized
    needed = {name: reference_memory.gigabytes(saving, model) for name, saving in SAVINGS.items()}
    assert needed[EACH] == pytest.approx(needed[WHOLE] / 4)
    assert needed[EVERY_2] == pytest.approx(needed[EACH] / 2)
    assert needed[WHOLE_4] == pytest.approx(needed[WHOLE] / 4)
    assert 0 < needed["the subject, half of the blocks"] < needed[EACH]


@pytest.mark.usefixtures("random_judge")
def test_savings_change_the_picture(random_weights):
    """Fewer readings, and a reference without its mask, give other latents."""
    settings, subject = generate.Settings(steps=4), next(iter(SUBJECTS.values()))
    recipe = Recipe(switch_step=1, lambda_2=1, lambda_3=2)
    ablations = {
        masked: reference_memory.Ablation(random_weights, settings, replace(recipe, masked=masked))
        for masked in (True, False)
    }
    prompt = Grid((subject,), prompts=1, seeds=1).prompts_of(subject)[0]
    with torch.inference_mode():
        found = reference_memory.cell(ablations, subject, prompt, [1])
    assert not torch.equal(found[EACH], found[EVERY_2]) and not torch.equal(found[WHOLE], found[WHOLE_4])
    assert not torch.equal(found[EACH], found[WHOLE])
