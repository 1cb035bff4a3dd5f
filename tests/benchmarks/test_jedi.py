"""Benchmark of JeDi on random weights and a random judge, and the functions that decide its numbers."""

import json

import numpy as np
import pytest
import safetensors
import torch
from likeness.benchmarks import generate, grid, jedi, jedi_data, jedi_figures, report
from likeness.benchmarks.jedi_comparison import COPIES, ROWS, S3_SETS, S3_TEXT_ONLY, JointSets, Recipe, s3_joint
from likeness.demo.world.subjects import SUBJECTS
from likeness.tests.benchmarks.cells import files_of, kept_in
from safetensors.torch import save_file

FEW_STEPS = generate.Settings(steps=2)
FIRST = next(iter(SUBJECTS.values()))


def write_s3_joint(weights, scale):
    """Writes the joint model of random weights, scaled, where the one of S3's sets is expected."""
    with safetensors.safe_open(weights / "joint.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata()
    s3_joint().parent.mkdir()
    save_file({name: value * scale for name, value in tensors.items()}, s3_joint(), metadata=metadata)


@pytest.mark.usefixtures("random_judge")
def test_quick_run(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    small = grid.Grid((FIRST,), prompts=1, seeds=2)
    monkeypatch.setattr(jedi, "QUICK", jedi.Amounts(small, small))
    monkeypatch.setattr(jedi, "SCALES", (1.0, 4.0))
    monkeypatch.setattr(jedi, "RATIOS", (0.5, 1.0))
    shown = ("text_only", "joint_1", "joint_3", "image_first", "text_first")
    monkeypatch.setattr(jedi, "ROWS", shown)
    stated = {n: v for n, v in jedi_figures.STATED.items() if {*v[1:]} <= {*shown}}
    monkeypatch.setattr(jedi_figures, "STATED", stated)
    monkeypatch.setattr(jedi_figures, "_OTHERS", {})
    with torch.inference_mode():
        result = jedi.run(quick=True, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    ratios = [f"{order}, references at {ratio}" for order in ("image_first", "text_first") for ratio in ("0.5", "1")]
    scales = ["guidance scale 1", "guidance scale 4"]
    assert [row["name"] for row in data["rows"]] == [*shown, "no_image_guidance", *scales, *ratios]
    assert {f"{name}{end}" for name in stated for end in ("", "_low", "_high")} <= set(data["figures"])
    assert data["figures"]["largest_seed_error"] >= 0
    assert "joint_3" in report.table(result)
    assert kept_in(tmp_path) == files_of(jedi.sweeps(True, random_weights)) != set()


@pytest.mark.usefixtures("random_judge")
def test_quick_run_of_the_models_of_other_sets(random_weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    monkeypatch.setattr(jedi_data, "QUICK", grid.Grid((FIRST,), prompts=1, seeds=2))
    with torch.inference_mode():
        without = jedi_data.run(quick=True, weights=random_weights)
        write_s3_joint(random_weights, 0.5)
        result = jedi_data.run(quick=True, weights=random_weights)
    said = capsys.readouterr().out
    assert "train it with `python run.py train copies`" in said and f"--out {s3_joint()}`" in said
    assert [row["name"] for row in without.rows] == [*jedi_data.ROWS] and not without.targets
    assert [row["name"] for row in result.rows] == [*jedi_data.ROWS, S3_SETS, S3_TEXT_ONLY]
    assert set(result.targets) <= set(result.figures) and "identity_s3_sets_above_its_text_only_low" in result.targets
    assert any("training steps" in note for note in result.notes) and not any("steps" in n for n in without.notes)
    assert len(without.notes) == len(result.notes) and result.picture.size[0] > 1000
    assert kept_in(tmp_path) == files_of(jedi_data.sweeps(True, random_weights)) != set()


def test_every_row_is_another_method(random_weights):
    """Rows differ from each other, except for rows that only trained weights separate."""
    with torch.inference_mode():
        sets = JointSets(random_weights, FEW_STEPS, Recipe())
        where = grid.Grid((FIRST,), 1, 2).prompts_of(FIRST)[0]
        made = {name: sets.latents(name, FIRST, where, [5, 6]) for name in ROWS}
    for name, latents in made.items():
        assert latents.shape == (2, 4, 16, 16) and torch.isfinite(latents).all(), name
        assert not torch.equal(latents[0], latents[1]), name
    different = {tuple(latents.flatten().tolist()) for latents in made.values()}
    assert len(different) == len(ROWS)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_row_of_s3_s_sets_draws_with_the_model_in_the_cache(random_weights, monkeypatch, tmp_path, scale):
    """With the bundled joint model there, the row is joint_1's."""
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    write_s3_joint(random_weights, scale)
    with torch.inference_mode():
        sets = JointSets(random_weights, FEW_STEPS, Recipe())
        where = grid.Grid((FIRST,), 1, 2).prompts_of(FIRST)[0]
        found = [sets.latents(name, FIRST, where, [5]) for name in (S3_SETS, "joint_1")]
    assert torch.equal(*found) == (scale == 1)


def test_uncoupled_rows_are_the_vanilla_model(random_weights):
    with torch.inference_mode():
        sets = JointSets(random_weights, FEW_STEPS, Recipe())
        where = grid.Grid((FIRST,), 1, 2).prompts_of(FIRST)[0]
        alone = sets.latents("training_free_uncoupled", FIRST, where, [5])
        guide = generate.plain(sets.model, sets.encode, FEW_STEPS)
        assert torch.equal(alone, generate.latents(guide([where.text(FIRST.subject.name)]), [5], FEW_STEPS))


def test_figures_are_differences_of_means():
    scores = {
        name: {m: np.array([[[i, i]], [[i + 2.0, i + 2.0]]]) for m in ("identity", "prompt", "layout")}
        for i, name in enumerate([*ROWS, COPIES, S3_SETS, S3_TEXT_ONLY])
    }
    found = jedi_figures.signs(scores)
    assert found["identity_joint_3_above_1"] == 2 and found["prompt_joint_above_text_first"] == -4
    assert set(found) >= set(jedi.TARGETS)
    of_data = jedi_figures.of_data(scores)
    assert set(of_data) >= {name for name in jedi_figures.OF_DATA if not name.startswith("place_")}
    assert of_data["identity_copies_above_joint_1"] == 9 and of_data["identity_joint_1_above_s3_sets"] == -10
    assert jedi_figures.of_data({name: scores[name] for name in ROWS}) == {}
    turned = jedi_figures.signs({name: {m: -v for m, v in found.items()} for name, found in scores.items()})
    assert turned["identity_joint_3_above_1_high"] == -2 and turned["prompt_joint_above_text_first_low"] == 4
