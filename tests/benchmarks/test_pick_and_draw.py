"""Benchmark of Pick-and-Draw on random weights and a random judge, and the functions that decide its numbers."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from likeness.benchmarks import generate, grid, pick_and_draw
from likeness.benchmarks.bases import FULL, LORA, VANILLA
from likeness.benchmarks.kept import Kept
from likeness.benchmarks.pick_and_draw_comparison import APPEARANCE, BASELINE, BOTH, LAYOUT, Guided, Recipe
from likeness.demo.training.loop import write_weights
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.host.blocks import DEMO
from likeness.patching.host.family import COARSE, MAPS, MIDDLE
from likeness.patching.tinyland.model import TUNED_BLOCKS
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
FEW_STEPS = generate.Settings(steps=2)
FIRST = tuple(SUBJECTS.values())[:1]
CELL = grid.Grid(FIRST, prompts=1, seeds=2)


@pytest.fixture(scope="module")
def fine_tuned(random_weights):
    """Fine-tune of the first subject that changes every weight a little."""
    tensors = load_file(random_weights / "denoiser.safetensors")
    tuned = {
        k: v + 0.01 * torch.randn_like(v, dtype=torch.float32).to(v)
        for k, v in tensors.items()
        if k.startswith("model.")
    }
    path = random_weights / "full" / f"{FIRST[0].name}.safetensors"
    write_weights(tuned, path, {"tinyland_subject": json.dumps({"name": FIRST[0].name})})
    return lambda _name: path


@pytest.fixture
def guided(random_weights, fine_tuned):
    return Guided(random_weights, FEW_STEPS, Recipe(appearance_window=(0.0, 1.0), layout_window=(0.0, 1.0)), fine_tuned)


@pytest.mark.usefixtures("random_judge")
def test_quick_run(random_weights, fine_tuned, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    monkeypatch.setattr(pick_and_draw, "fine_tuned", lambda _weights, _steps: fine_tuned)
    monkeypatch.setattr(pick_and_draw, "QUICK", pick_and_draw.Amounts(CELL, 1))
    with torch.inference_mode():
        result = pick_and_draw.run(quick=True, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    names = [row["name"] for row in data["rows"]]
    assert names[:16] == [f"{base}/{name}" for base in pick_and_draw.BASES for name in pick_and_draw.ROWS]
    assert set(result.targets) <= set(data["figures"])
    assert names[16:19] == [f"lora/appearance, {d}" for d in ("gen_to_ref", "ref_to_gen", "max")]
    assert {f"identity_gen_to_ref_above_max{end}" for end in ("", "_low", "_high")} <= set(data["figures"])
    assert len(list(tmp_path.rglob("*.npy"))) == len(pick_and_draw.BASES) + 2


def test_what_was_drawn_is_kept_for_the_same_settings_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.safetensors").write_bytes(b"1")
    (weights / "subjects").mkdir()
    made = []

    def kept(settings=1):
        return Kept.of("b", "generate", settings, weights, ("a",))

    def make():
        made.append(1)
        return np.full(3, len(made))

    assert kept().array("a", make, "nemo").tolist() == [1, 1, 1]
    assert kept().array("a", make, "nemo").tolist() == [1, 1, 1]
    assert kept(2).array("a", make, "nemo").tolist() == [2, 2, 2]
    (weights / "judge.safetensors").write_bytes(b"2")
    (weights / "subjects" / "marlin.safetensors").write_bytes(b"2")
    assert kept().array("a", make, "nemo").tolist() == [1, 1, 1]
    (weights / "subjects" / "nemo.safetensors").write_bytes(b"2")
    assert kept().array("a", make, "nemo").tolist() == [3, 3, 3]
    (weights / "a.safetensors").write_bytes(b"2")
    assert kept().array("a", make, "nemo").tolist() == [4, 4, 4]
    assert not list(tmp_path.rglob("*.tmp"))


def test_rows_and_bases_differ(guided):
    (subject,), (prompt,) = FIRST, CELL.prompts_of(FIRST[0])
    with torch.inference_mode():
        cells = {
            base: guided.cell(base, (BASELINE, APPEARANCE, LAYOUT, BOTH), subject, prompt, [1, 2])
            for base in (LORA, FULL, VANILLA)
        }
    found = {(base, name): latent for base, cell in cells.items() for name, latent in cell.items()}
    followed = ((VANILLA, BASELINE), (VANILLA, LAYOUT))  # the layout is that of the vanilla run itself
    for pair in set(itertools.combinations(found, 2)) - {followed}:
        assert not torch.equal(*(found[one] for one in pair)), f"{pair[0]} and {pair[1]} are the same"


def test_a_fine_tune_replaces_the_weights(guided, fine_tuned):
    wanted = load_file(fine_tuned(""))["model.diffusion_model.out.2.weight"].float()
    model = guided.base(FULL, FIRST[0])
    model.patch_model()
    got = model.model.diffusion_model.out[2].weight.detach().float().clone()
    model.unpatch_model()
    torch.testing.assert_close(got, wanted, rtol=2**-7, atol=1e-6)  # the rounding of bfloat16
    assert not torch.allclose(model.model.diffusion_model.out[2].weight.float(), wanted)


def test_gains_are_differences_to_the_same_base():
    metrics = ("identity", "prompt", "layout")
    cells = itertools.product(pick_and_draw.BASES, pick_and_draw.ROWS)
    scores = {cell: {m: np.array([float(i), i + 2.0]) for m in metrics} for i, cell in enumerate(cells)}
    found = pick_and_draw.means_of(pick_and_draw.gains(scores))
    assert found["lora_appearance_identity_gain"] == 1 and found["vanilla_both_layout_gain"] == 3
    assert {name for name in pick_and_draw.TARGETS if name.endswith("_gain")} <= set(found)


def test_the_workflow_has_the_settings_that_are_measured():
    nodes = json.loads((ROOT / "workflows" / "api" / "pick_and_draw.json").read_text(encoding="utf-8")).values()
    inputs = {node["class_type"]: node["inputs"] for node in nodes}
    recipe, guidance, palette = Recipe(), inputs["UREMDGuidance"], inputs["AppearancePalette"]
    named_alike = "appearance_weight layout_weight direction step_size iterations every threshold"
    for name in named_alike.split():
        assert guidance[name] == getattr(recipe, name), name
    assert (guidance["appearance_start"], guidance["appearance_end"]) == recipe.appearance_window
    assert (guidance["layout_start"], guidance["layout_end"]) == recipe.layout_window
    assert guidance["step"] == recipe.step_kind
    assert inputs["LikenessDemoSubject"]["strength"] == recipe.strength
    assert palette["threshold"] == recipe.palette_threshold
    chosen = [guidance["layout_blocks"], guidance["map_blocks"], palette["blocks"], palette["map_blocks"]]
    assert chosen == 4 * [DEMO]
    assert recipe.layout_blocks == recipe.blocks == "output2-5" and recipe.map_blocks == recipe.palette_map_blocks
    assert [*TUNED_BLOCKS[MAPS]] == [*TUNED_BLOCKS[MIDDLE]] == [f"output{n}" for n in range(2, 6)]
    assert [*TUNED_BLOCKS[COARSE]] == [recipe.map_blocks]
