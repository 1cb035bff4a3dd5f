"""Benchmark of Layout-and-Retouch on random weights and a random judge, and the functions that decide its numbers."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from likeness.benchmarks import chart, generate, grid, layout_and_retouch, report
from likeness.benchmarks.bases import LORA
from likeness.benchmarks.layout_and_retouch_comparison import Ablation, Recipe
from likeness.benchmarks.memory import peak_bytes
from likeness.demo.training.loop import write_weights
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.host.blocks import DEMO
from likeness.patching.host.family import LATE
from likeness.patching.tinyland.model import TUNED_BLOCKS

ROOT = Path(__file__).resolve().parents[2]
FEW_STEPS = generate.Settings(steps=3)
FEW = {
    base: replace(layout_and_retouch.RECIPES[base], switch_step=1, lambda_2=1, lambda_3=2, alone_from=2)
    for base in (LORA, "textual_inversion_paper")
}
PAIR = tuple(SUBJECTS.values())[:2]


@pytest.fixture
def embedded(random_weights):
    """Adds an embedding of the second subject."""
    path = random_weights / "embeddings" / f"{PAIR[1].name}.safetensors"
    write_weights({"clip_l": torch.randn(3, 128)}, path, {"tinyland_embedding": "{}"})
    yield
    path.unlink()


@pytest.mark.usefixtures("random_judge", "embedded")
def test_quick_run(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    small = grid.Grid(PAIR[:1], prompts=1, seeds=2)
    monkeypatch.setattr(layout_and_retouch, "QUICK", layout_and_retouch.Amounts(small, small))
    monkeypatch.setattr(layout_and_retouch, "TAUS", (0, 1, 3))
    with torch.inference_mode():
        result = layout_and_retouch.run(quick=True, weights=random_weights, recipes=FEW)
    data = json.loads(json.dumps(result.as_dict()))
    names, bases = [row["name"] for row in data["rows"]], list(FEW)
    wanted = [f"{name}, {base}" for base in bases for name in layout_and_retouch.NAMES.values()]
    wanted += [f"{name}, {LORA}" for name in layout_and_retouch.MASK_NAMES.values()]
    wanted += [f"{pair}, {base}" for base in bases for pair in ("II less I", "III less II", "V less IV", "V less I")]
    assert names == wanted + [f"tau {tau} of 3" for tau in (0, 1, 3)]
    untested = tuple(base for base in layout_and_retouch.RECIPES if base not in FEW)
    assert {name for name in result.targets if not name.startswith(untested)} <= set(data["figures"])
    ends = [data["figures"][f"lora_identity_v_both_above_v{end}"] for end in ("_low", "", "_high")]
    assert ends == sorted(ends)
    assert "V IV + adaptive mask, lora" in report.table(result)


def test_the_workflow_has_the_settings_that_are_measured():
    nodes = json.loads((ROOT / "workflows" / "api" / "layout_and_retouch.json").read_text(encoding="utf-8")).values()
    inputs = {node["class_type"]: node["inputs"] for node in nodes}
    recipe, swap = Recipe(), inputs["MultiSourceAttnSwap"]
    assert {name: swap[name] for name in ("lambda_2", "lambda_3", "attention")} == {
        "lambda_2": recipe.lambda_2,
        "lambda_3": recipe.lambda_3,
        "attention": recipe.attention,
    }
    assert swap["blocks"] == DEMO and recipe.blocks.split(", ") == list(TUNED_BLOCKS[LATE])
    assert inputs["StepBlendedSampler"]["switch_step"] == recipe.switch_step
    assert (
        inputs["AdaptiveMask"]["threshold"] == recipe.threshold
        and inputs["AdaptiveMask"]["blocks"] == recipe.map_blocks
    )
    assert recipe.masked and inputs["LikenessReference"]["mask"] == ["13", 0]
    assert (
        inputs["LikenessReference"]["weight"] == recipe.weight
        and inputs["LikenessDemoSubject"]["strength"] == recipe.strength
    )


def test_figures_are_differences_of_means():
    metrics = ("identity", "prompt", "layout")
    scores = {
        name: {m: np.array([i + k, i + k + 2.0]) for k, m in enumerate(metrics)}
        for i, name in enumerate([*layout_and_retouch.NAMES, *layout_and_retouch.MASK_NAMES])
    }
    found = layout_and_retouch.signs(layout_and_retouch.differences(scores))
    assert found["identity_v_above_iv"] == 1 and found["prompt_ii_above_iii"] == -1 and found["layout_v_above_i"] == 4
    masks = layout_and_retouch.mask_figures(scores)
    assert masks["identity_v_both_above_v"] == 2 and masks["prompt_v_both_above_v_segmenter_low"] == 1
    turned = {name: {m: -values for m, values in of.items()} for name, of in scores.items()}
    found = layout_and_retouch.signs(layout_and_retouch.differences(turned))
    assert found["identity_v_above_iv_high"] == -1 and found["prompt_ii_above_iii_low"] == 1


def test_rows_start_from_the_same_noise(random_weights):
    """Row IV is the layout of row II until lambda_2: with lambda_2 at the end it is row II."""
    with torch.inference_mode():
        ablation = Ablation(random_weights, FEW_STEPS, Recipe(switch_step=2, lambda_2=3, lambda_3=3))
        cell = ablation.cell(("II", "IV"), PAIR[0], grid.Grid(PAIR, 1, 2).prompts_of(PAIR[0])[0], [1, 2])
    torch.testing.assert_close(cell["IV"], cell["II"], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("random_judge")
def test_every_row_is_another_method(random_weights):
    with torch.inference_mode():
        ablation = Ablation(random_weights, FEW_STEPS, FEW[LORA])
        names = (*layout_and_retouch.NAMES, *layout_and_retouch.MASK_NAMES)
        cell = ablation.cell(names, PAIR[0], grid.Grid(PAIR, 1, 2).prompts_of(PAIR[0])[0], [1, 2])
    for first, second in itertools.combinations(cell, 2):
        assert not torch.equal(cell[first], cell[second]), f"{first} and {second} are the same"


def test_tensors_of_known_size():
    def run():
        first = torch.empty(1000, dtype=torch.float32)
        del first
        second, third = torch.empty(500, dtype=torch.float32), torch.empty(250, dtype=torch.float64)
        return second, third

    assert peak_bytes(run) == 4000


@pytest.mark.parametrize("tau", [0, 4])
def test_the_chart_has_a_line_for_every_metric(tau):
    rows = [{"identity": [0.5, 0.4, 0.6], "prompt": [0.8, 0.7, 0.9], "layout": [0.1, 0.05, 0.2]}] * 2
    picture = np.asarray(chart.lines(rows, (tau, 8), "tau"))
    for color in chart._COLORS.values():
        assert (picture == color).all(-1).sum() > 100
