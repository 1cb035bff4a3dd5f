"""The whole benchmark on random weights and a stub judge, and the pieces that decide its numbers."""

import importlib
import json

import numpy as np
import pytest
import torch

DELIBERATELY_FEW = {"steps": 2}


@pytest.fixture
def modules(stub_judge):
    return {name: importlib.import_module(f"likeness.benchmarks.{name}") for name in ("generate", "grid", "tinyland", "report")}


def test_quick_run(modules, random_weights, monkeypatch):
    settings = modules["generate"].Settings
    monkeypatch.setattr(modules["generate"], "Settings", lambda: settings(**DELIBERATELY_FEW))
    with torch.inference_mode():
        result = modules["tinyland"].run(quick=True, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    wanted = {"class_accuracy", "place_accuracy", "colour_accuracy", "pattern_accuracy", "autoencoder_psnr_db", "identity_auc"}
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
    assert "vanilla" in modules["report"].table(result)


def test_no_prompt_names_the_place_of_the_references(modules):
    grid = modules["grid"]
    subjects = tuple(modules["tinyland"].SUBJECTS.values())
    for subject in subjects:
        prompts = grid.Grid(subjects, 14, 1).prompts_of(subject)
        assert len(set(prompts)) == 14 and subject.place not in {p.place for p in prompts}
    with pytest.raises(ValueError, match="at most 14 prompts"):
        grid.Grid(subjects, 15, 1).prompts_of(subjects[0])


def test_scores_name_what_the_judge_saw(modules, stub_judge):
    grid, tinyland = modules["grid"], modules["tinyland"]
    subject = next(iter(tinyland.SUBJECTS.values()))
    part = grid.Grid((subject,), 2, 3)
    right = grid.renders([s for p in part.prompts_of(subject) for s in _at(subject, p.place)])

    class Eye(tinyland.judge.Judge):
        def look(self, images):
            verdict = super().look(images)
            if len(images) != 6:
                return verdict
            verdict.class_index[:] = tinyland.CLASSES.index(subject.subject.name)
            verdict.class_index[0] += 1
            verdict.place_index[:3] = tinyland.PLACES.index(part.prompts_of(subject)[0].place)
            verdict.place_index[3:] = tinyland.PLACES.index(part.prompts_of(subject)[1].place)
            verdict.place_index[5] -= 1
            return verdict

    scores = part.score(right.reshape(1, 2, 3, 128, 128, 3), Eye())
    assert scores["prompt"].tolist() == [[[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]]
    assert scores["identity"].shape == (1, 2, 3) and scores["layout"].shape == (1, 2)
    assert grid.row("x", scores)["prompt"][0] == pytest.approx(4 / 6)


def _at(subject, place):
    from dataclasses import replace

    return [replace(scene, place=place) for scene in subject.training_scenes()[:3]]


def test_area_under_curve(modules):
    area = modules["tinyland"].area_under_curve
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area(np.array([1.0]), np.array([1.0])) == 0.5
    assert area(np.array([0.0, 2.0]), np.array([1.0, 1.0, 1.0])) == 0.5


def test_one_subject_is_resampled_by_prompt(modules):
    row = modules["grid"].row
    values = np.zeros((1, 4, 50))
    values[0, :2] = 1
    _, low, high = row("one", {"prompt": values})["prompt"]
    assert low == 0.0 and high == 1.0
    _, low, high = row("two", {"prompt": np.concatenate([values, values])})["prompt"]
    assert low == high == 0.5


def test_contact_sheet_places_every_picture(modules):
    picture = np.full((128, 128, 3), (200, 10, 10), np.uint8)
    sheet = np.asarray(modules["grid"].contact_sheet([("a", [picture] * 3), ("b", [picture] * 3)], [("reference", 1), ("lora", 2)]))
    assert (sheet == picture[0, 0]).all(-1).sum() == 6 * 128 * 128


def test_every_listed_benchmark_can_be_run(stub_judge):
    command = importlib.import_module("likeness.benchmarks.command")
    for name in command.BENCHMARKS:
        assert callable(importlib.import_module(f"likeness.benchmarks.{name}").run)
