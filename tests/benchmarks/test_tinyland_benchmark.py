"""Benchmark of Tinyland on random weights and a random judge, and the functions that decide its numbers."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from likeness.benchmarks import command, generate, grid, report, tinyland
from likeness.demo.judge import Judge
from likeness.demo.world.captions import PLACE_PHRASES, named_extras, vocabulary
from likeness.demo.world.extras import EXTRAS, WEATHER
from likeness.demo.world.scene import ALTERNATIVES, CLASSES, INDOORS, PLACES
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.tinyland.model import MAX_TOKENS, WordTokenizer

SCENE = SUBJECTS["nemo"].training_scenes()[0]


@pytest.mark.usefixtures("random_judge")
def test_quick_run(random_weights, monkeypatch):
    few_steps = generate.Settings(steps=2)
    monkeypatch.setattr(generate, "Settings", lambda: few_steps)
    assert (
        tinyland.FULL.prompts == 500
        and tinyland.FULL.grid.prompts >= 5
        and len(tinyland.FULL.grid.subjects) == len(SUBJECTS)
    )
    monkeypatch.setattr(
        tinyland, "QUICK", tinyland.Amounts(16, 4, 8, 0, grid.Grid(tuple(SUBJECTS.values())[:2], prompts=2, seeds=3))
    )
    with torch.inference_mode():
        result = tinyland.run(quick=True, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    wanted = {
        "class_accuracy",
        "place_accuracy",
        "colour_accuracy",
        "pattern_accuracy",
        "autoencoder_psnr_db",
        "identity_auc",
    }
    assert wanted | {"judge_accuracy"} <= set(data["figures"]) and set(result.targets) <= set(data["figures"])
    names = [row["name"] for row in data["rows"]]
    assert names[:3] == ["vanilla", "lora", "textual_inversion"] and names[3:] == [
        "vanilla, subjects of textual_inversion",
        "lora, subjects of textual_inversion",
    ]
    for row in data["rows"]:
        assert set(row) == {"name", "identity", "prompt", "layout"}
        assert all(low <= mean <= high for mean, low, high in (row[m] for m in ("identity", "prompt", "layout")))
    assert data["rows"][0]["identity"] != data["rows"][1]["identity"], "the LoRA changed nothing"
    assert result.picture.size[0] > 10 * 128 and result.picture.size[1] > 2 * 128
    assert "vanilla" in report.table(result)


def test_no_prompt_names_the_place_of_the_references():
    subjects = tuple(SUBJECTS.values())
    for subject in subjects:
        prompts = grid.Grid(subjects, 28, 1).prompts_of(subject)
        assert len(set(prompts)) == 28 and subject.place not in {p.place for p in prompts}
        assert len({p.text("fish") for p in prompts}) == 28
    with pytest.raises(ValueError, match="at most 28 prompts"):
        grid.Grid(subjects, 29, 1).prompts_of(subjects[0])


def test_every_second_prompt_names_extras_that_its_place_can_show():
    tokenizer = WordTokenizer(vocabulary())
    for subject in SUBJECTS.values():
        prompts = grid.Grid((subject,), 28, 1).prompts_of(subject)
        assert all(p.extras == () for p in prompts[::2]) and all(p.extras for p in prompts[1::2])
        assert {p.place for p in prompts[:10:2]} == {p.place for p in prompts[1:10:2]}  # the same places, easy and hard
        for prompt in prompts:
            text = prompt.text(f"sks {subject.subject.name}")
            assert set(named_extras(text)) == set(prompt.extras) and PLACE_PHRASES[prompt.place] in text
            assert "hat" not in prompt.extras or f"{subject.subject.name} wearing a hat" in text
            assert prompt.place not in INDOORS or not set(prompt.extras) & set(WEATHER)
            ids = tokenizer(text)["input_ids"]
            assert len(ids) <= MAX_TOKENS and tokenizer.ids["<unknown>"] not in ids
    named = {name for combinations in grid.CHALLENGES.values() for extras in combinations for name in extras}
    assert named == set(EXTRAS)
    for combinations in grid.CHALLENGES.values():
        for extras in combinations:
            SCENE.showing(extras)
            assert not any({*pair} <= {*extras} for pair in ALTERNATIVES)


def test_scores_name_what_the_judge_saw(random_judge):
    subject = next(iter(SUBJECTS.values()))
    part = grid.Grid((subject,), 2, 3)
    pictures = grid.renders([s for p in part.prompts_of(subject) for s in _at(subject, p.place)])

    class Eye(Judge):
        """Right about every picture but the first, whose class it misses, and the last two:
        it misses the extras of one, the place of the other."""

        def look(self, images):
            verdict = super().look(images)
            if len(images) == len(pictures):
                verdict.class_index[:] = CLASSES.index(subject.subject.name)
                verdict.place_index[:] = np.repeat([PLACES.index(p.place) for p in part.prompts_of(subject)], 3)
                verdict.extras[:] = False
                verdict.extras[3:] = [name in part.prompts_of(subject)[1].extras for name in EXTRAS]
                verdict.extras[4] = False
                verdict.class_index[0] += 1
                verdict.place_index[5] -= 1
            return verdict

    scores = part.score(pictures.reshape(1, 2, 3, 128, 128, 3), Eye(random_judge.network))
    assert scores["prompt"].tolist() == [[[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]
    assert scores["identity"].shape == (1, 2, 3) and scores["layout"].shape == (1, 2)
    assert grid.row("x", scores)["prompt"][0] == pytest.approx(3 / 6)


def _at(subject, place):
    return [replace(scene, place=place) for scene in subject.training_scenes()[:3]]


def test_subjects_and_their_prompts_are_resampled():
    values = np.zeros((1, 4, 50))
    values[0, :2] = 1
    _, low, high = grid.row("one", {"prompt": values})["prompt"]
    assert low == 0.0 and high == 1.0
    _, low, high = grid.row("two", {"prompt": np.concatenate([values, values])})["prompt"]
    assert low == 0.125 and high == 0.875


def test_contact_sheet_places_every_picture():
    picture = np.full((128, 128, 3), (200, 10, 10), np.uint8)
    sheet = np.asarray(
        grid.contact_sheet([("a", [picture] * 3), ("b", [picture] * 3)], [("reference", 1), ("lora", 2)])
    )
    assert (sheet == picture[0, 0]).all(-1).sum() == 6 * 128 * 128


def test_every_listed_benchmark_can_be_run():
    for name in command.BENCHMARKS:
        assert callable(importlib.import_module(command.module_of(name)).run)
