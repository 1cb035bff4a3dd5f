"""Weights that benchmarks use and the pack does not bundle: found, missing, and loaded."""

import json
from dataclasses import replace

import pytest
import torch
from likeness.benchmarks import extras, generate, grid, jedi_data, jedi_figures, layout_and_retouch
from likeness.benchmarks.bases import CUSTOM_DIFFUSION
from likeness.benchmarks.jedi_comparison import COPIES, JointSets, Recipe
from likeness.benchmarks.layout_and_retouch_comparison import Ablation
from likeness.demo.launcher.files import digest
from likeness.demo.training.loop import write_weights
from likeness.demo.world.scene import PLACES
from likeness.demo.world.subjects import SUBJECTS
from safetensors.torch import load_file, safe_open

FEW_STEPS = generate.Settings(steps=2)
FIRST = next(iter(SUBJECTS.values()))
GRID = grid.Grid((FIRST,), 1, 2)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))


def write_tuned(weights, base=None):
    """Writes changed keys and values of the text of the first subject."""
    state = load_file(weights / "denoiser.safetensors")
    tuned = {key: value.float() + 0.2 for key, value in state.items() if key.endswith("attn2.to_v.weight")}
    (path,) = extras.of_subjects([FIRST.name])
    facts = {"tinyland_subject": json.dumps({"name": FIRST.name})}
    write_weights(tuned, path, facts | {"denoiser": base or digest(weights / "denoiser.safetensors")})
    return path


def write_copies(weights):
    """Writes a joint model whose weights differ a little from the other one's."""
    with safe_open(weights / "joint.safetensors", framework="pt") as file:
        facts = dict(file.metadata())
    state = {key: value.float() * 1.05 for key, value in load_file(weights / "joint.safetensors").items()}
    write_weights(state, extras.copies(), facts | {"denoiser": digest(weights / "denoiser.safetensors")})


def test_missing_weights_are_one_sentence(random_weights):
    def said():
        return extras.missing(extras.of_subjects([FIRST.name]), "cross-attention", random_weights)

    wanted = (
        "Rows with cross-attention were not drawn: expected nemo.safetensors of these weights in cross-attention, got "
        "none; train it with `python run.py train cross-attention`."
    )
    assert said() == wanted
    write_tuned(random_weights, "of another model")
    assert said() == wanted
    path = write_tuned(random_weights)
    assert said() == ""
    path.write_bytes(path.read_bytes()[:20])
    assert said() == wanted


def test_tuned_keys_and_values_replace_those_of_the_model(random_weights):
    write_tuned(random_weights)
    recipe = replace(layout_and_retouch.TUNED[CUSTOM_DIFFUSION]).at_steps(2)
    with torch.inference_mode():
        ablation = Ablation(random_weights, FEW_STEPS, recipe)
        made = ablation.cell(("I", "II", "V"), FIRST, GRID.prompts_of(FIRST)[0], [1, 2])
        text = GRID.prompts_of(FIRST)[0].text(f"sks {FIRST.subject.name}")
        plain = ablation.plain(ablation.model, text, [1, 2])
    found = [plain, *made.values()]
    assert not any(torch.equal(found[i], found[j]) for i in range(4) for j in range(i))


def test_a_joint_model_of_copies_has_its_own_row(random_weights, random_judge):
    write_copies(random_weights)
    assert extras.missing([extras.copies()], "copies", random_weights) == ""
    with torch.inference_mode():
        sets = JointSets(random_weights, FEW_STEPS, Recipe())
        where = GRID.prompts_of(FIRST)[0]
        made = [sets.latents(name, FIRST, where, [5]) for name in (COPIES, "joint_1")]
        pictures = {name: jedi_data.sampled(sets, name, GRID) for name in (COPIES, "joint_1")}
        scores = {name: GRID.score(images, random_judge) for name, images in pictures.items()}
        figures = jedi_data.figures_of_others(sets, GRID, random_judge, scores)
    assert not torch.equal(*made) and scores[COPIES]["identity"].shape == (1, 1, 2)
    stated = ("place_copies_above_joint_1", "identity_copies_above_joint_1", "prompt_joint_1_above_copies")
    assert {*figures} == {f"{name}{end}" for name in stated for end in ("", "_low", "_high")}


def test_copied_places_are_those_of_the_references(random_judge, monkeypatch):
    pictures = grid.renders(list(FIRST.training_scenes()[:2])).reshape(1, 1, 2, 128, 128, 3)

    class Eye:
        def look(self, images):
            verdict = random_judge.look(images)
            verdict.place_index[:] = [PLACES.index(FIRST.place), (PLACES.index(FIRST.place) + 1) % len(PLACES)]
            return verdict

    assert jedi_figures.copied_places(GRID, pictures, Eye()).tolist() == [[[1.0, 0.0]]]
